package cred

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sealtail/internal/hidden"
)

// maxFile is far above any credential.
const maxFile = 64 << 10

// Files finds credentials in files, one each. All must be
//
//   - regular files, and no symbolic links but those by which Kubernetes
//     replaces a volume's content at once (NAME → ..data/NAME);
//   - owned by root or by this process's user;
//   - closed to all others: mode 0600 or less. A file of root's may be readable
//     by its group where that is root's or one of this process's, as in a
//     volume with fsGroup or under systemd;
//   - of at most 64 KiB;
//   - below no directory that everybody may write to, unless it is sticky.
//
// The file is judged on its open descriptor, so the file read is the file
// judged.
type Files struct {
	AccessKeyID     string // path
	AccessKeySecret string // path
	SecurityToken   string // path; empty = the access key is a lasting one
}

var _ Provider = Files{}

// Systemd returns the Files of these names in $CREDENTIALS_DIRECTORY, where
// systemd puts what a unit's LoadCredential= names. The token's name may be
// empty.
func Systemd(id, secret, token string) (Files, error) {
	const variable = "CREDENTIALS_DIRECTORY"
	dir := os.Getenv(variable)
	if dir == "" {
		return Files{}, &Error{Missing, "$" + variable, errors.New("is not set; give the unit LoadCredential= or LoadCredentialEncrypted=")}
	}
	var f Files
	for _, n := range []struct {
		what, name string
		path       *string
	}{{"id", id, &f.AccessKeyID}, {"secret", secret, &f.AccessKeySecret}, {"token", token, &f.SecurityToken}} {
		if n.name == "" && n.path == &f.SecurityToken {
			continue
		}
		if n.name == "" || n.name == "." || n.name == ".." || strings.ContainsRune(n.name, '/') {
			return Files{}, &Error{Malformed, "the name of the " + n.what, errors.New("is no name of a credential; give the NAME of LoadCredential=NAME:PATH")}
		}
		*n.path = filepath.Join(dir, n.name)
	}
	return f, nil
}

// Fetch reads the files.
func (f Files) Fetch(context.Context) (c Credentials, err error) {
	id, err := read(f.AccessKeyID)
	if err != nil {
		return Credentials{}, err
	}
	c.AccessKeyID = id.Reveal()
	if c.AccessKeySecret, err = read(f.AccessKeySecret); err != nil {
		return Credentials{}, err
	}
	if f.SecurityToken != "" {
		if c.SecurityToken, err = read(f.SecurityToken); err != nil {
			return Credentials{}, err
		}
	}
	return c, nil
}

// settled is the age from which a file's times prove that it did not change
// since: a write may fall into the same tick of the file system's clock.
const settled = 2 * time.Second

// Stamp says which files these are and when they changed.
func (f Files) Stamp() string {
	var b strings.Builder
	now := time.Now()
	for _, name := range []string{f.AccessKeyID, f.AccessKeySecret, f.SecurityToken} {
		if name == "" {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(name, &st) != nil {
			return ""
		}
		mtime, ctime := st.Mtim.Nano(), st.Ctim.Nano()
		if now.Sub(time.Unix(0, max(mtime, ctime))) < settled {
			return ""
		}
		fmt.Fprintf(&b, "%d.%d.%d.%d.%d ", st.Dev, st.Ino, st.Size, mtime, ctime)
	}
	return b.String()
}

// read returns what the file name holds.
func read(name string) (hidden.Text, error) {
	f, err := open(name)
	if err != nil {
		return hidden.Text{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return hidden.Text{}, &Error{Unreadable, name, bare(err)}
	}
	if err := judge(info, self()); err != nil {
		return hidden.Text{}, &Error{NotPrivate, name, err}
	}
	if err := above(name); err != nil {
		return hidden.Text{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	defer clear(b)
	if err != nil {
		return hidden.Text{}, &Error{Unreadable, name, bare(err)}
	}
	if len(b) > maxFile {
		return hidden.Text{}, &Error{Malformed, name, fmt.Errorf("is longer than %d bytes", maxFile)}
	}
	return value(name, b)
}

func open(name string) (*os.File, error) {
	// O_NONBLOCK: to open a FIFO must not wait for its writer.
	const flags = os.O_RDONLY | unix.O_NONBLOCK
	f, err := os.OpenFile(name, flags|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) {
		if to, _ := os.Readlink(name); !strings.HasPrefix(to, "..data/") {
			return nil, &Error{NotPrivate, name, errors.New("is a symbolic link; name the file itself")}
		}
		f, err = os.OpenFile(name, flags, 0)
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Missing, name, bare(err)}
	}
	return nil, &Error{Unreadable, name, bare(err)}
}

// bare returns err without the path, which an Error names already.
func bare(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// A user is whom files must belong to.
type user struct {
	uid    int
	groups []int
}

// self returns this process's user.
func self() user {
	groups, _ := os.Getgroups() // without them it is a user of fewer groups
	return user{os.Geteuid(), append(groups, os.Getegid())}
}

// judge says what is wrong with a file that only u and root may read and
// change.
func judge(info fs.FileInfo, u user) error {
	if !info.Mode().IsRegular() {
		return errors.New("is no regular file")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("has no owner that could be told")
	}
	if st.Uid != 0 && int(st.Uid) != u.uid {
		return fmt.Errorf("belongs to user %d, must belong to root or user %d", st.Uid, u.uid)
	}
	mode := info.Mode().Perm()
	if mode&0o037 != 0 {
		return fmt.Errorf("has mode %04o: others may use it; chmod 0600 (Kubernetes: defaultMode: 0400)", mode)
	}
	if mode&0o040 == 0 {
		return nil
	}
	if st.Uid != 0 {
		return fmt.Errorf("has mode %04o: its group may read it; chmod 0600", mode)
	}
	for _, g := range append(u.groups, 0) {
		if int(st.Gid) == g {
			return nil
		}
	}
	return fmt.Errorf("has mode %04o: group %d may read it, to which user %d does not belong; chmod 0600", mode, st.Gid, u.uid)
}

// above refuses a directory over name in which everybody may put another file
// in its place.
func above(name string) error {
	real, err := filepath.EvalSymlinks(name)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	for dir := filepath.Dir(real); err == nil; dir = filepath.Dir(dir) {
		var info fs.FileInfo
		if info, err = os.Stat(dir); err != nil {
			break
		}
		if m := info.Mode(); m.Perm()&0o002 != 0 && m&fs.ModeSticky == 0 {
			return &Error{NotPrivate, name, fmt.Errorf("lies below %s, which everybody may write to; chmod o-w", dir)}
		}
		if dir == "/" {
			return nil
		}
	}
	return &Error{Unreadable, name, bare(err)}
}
