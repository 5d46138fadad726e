package cred_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sealtail/cred"
	"sealtail/internal/hidden"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSecretIsRedacted(t *testing.T) {
	const canary = "canary-7f3a"
	s := hidden.New(canary)
	c := cred.Credentials{AccessKeyID: "id", AccessKeySecret: s, SecurityToken: s}
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out := string(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		for _, v := range []any{s, &s, c, &c, []hidden.Text{s}, map[string]hidden.Text{"a": s}} {
			out += fmt.Sprintf(verb, v)
		}
	}
	if strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) {
		t.Errorf("a secret is in %s", out)
	}
	if !strings.Contains(out, "[redacted]") {
		t.Errorf("nothing is redacted in %s", out)
	}
	if got := s.Reveal(); got != canary {
		t.Errorf("got %q, want %q", got, canary)
	}
	var zero hidden.Text
	if !zero.Empty() || zero.Reveal() != "" || s.Empty() || !hidden.New("").Empty() {
		t.Error("the zero Text, and none other, must be empty")
	}
}

// write makes a file whose times are old enough to trust.
func write(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func files(t *testing.T) cred.Files {
	t.Helper()
	dir := t.TempDir()
	return cred.Files{
		AccessKeyID:     write(t, filepath.Join(dir, "id"), "LTAI4\n"),
		AccessKeySecret: write(t, filepath.Join(dir, "secret"), "s3cret\n"),
		SecurityToken:   write(t, filepath.Join(dir, "token"), "tok+/=="),
	}
}

func class(err error) cred.Class {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e.Class
	}
	return ""
}

func TestFiles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, f *cred.Files)
		want   cred.Class // "" = fine
		text   string
	}{
		{"all three", func(*testing.T, *cred.Files) {}, "", ""},
		{"no token", func(_ *testing.T, f *cred.Files) { f.SecurityToken = "" }, "", ""},
		{"no newline", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeySecret, "s3cret") }, "", ""},
		{"two newlines", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeySecret, "s3cret\n\n") }, cred.Malformed, "byte 7"},
		{"CR LF", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeySecret, "s3cret\r\n") }, cred.Malformed, "byte 7"},
		{"a space", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeyID, "LT AI") }, cred.Malformed, "byte 3"},
		{"no ASCII", func(t *testing.T, f *cred.Files) { write(t, f.SecurityToken, "\ufefftok") }, cred.Malformed, "byte 1"},
		{"empty", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeyID, "") }, cred.Malformed, "empty"},
		{"a newline alone", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeyID, "\n") }, cred.Malformed, "empty"},
		{"64 KiB", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeyID, strings.Repeat("a", 64<<10)) }, "", ""},
		{"64 KiB and a byte", func(t *testing.T, f *cred.Files) { write(t, f.AccessKeyID, strings.Repeat("a", 64<<10+1)) }, cred.Malformed, "longer"},
		{"missing", func(_ *testing.T, f *cred.Files) { f.AccessKeySecret += "x" }, cred.Missing, "no such file"},
		{"token missing", func(_ *testing.T, f *cred.Files) { f.SecurityToken += "x" }, cred.Missing, "no such file"},
		{"a file as a directory", func(_ *testing.T, f *cred.Files) { f.AccessKeyID += "/x" }, cred.Unreadable, "not a directory"},
		{"a directory", func(_ *testing.T, f *cred.Files) { f.AccessKeyID = filepath.Dir(f.AccessKeyID) }, cred.NotPrivate, "regular"},
		{"a FIFO", func(t *testing.T, f *cred.Files) {
			f.AccessKeyID += ".fifo"
			if err := unix.Mkfifo(f.AccessKeyID, 0o600); err != nil {
				t.Fatal(err)
			}
		}, cred.NotPrivate, "regular"},
		{"mode 0400", chmod(0o400), "", ""},
		{"mode 0700", chmod(0o700), "", ""},
		{"mode 0604", chmod(0o604), cred.NotPrivate, "0604"},
		{"mode 0602", chmod(0o602), cred.NotPrivate, "0602"},
		{"mode 0620", chmod(0o620), cred.NotPrivate, "0620"},
		{"mode 0610", chmod(0o610), cred.NotPrivate, "0610"},
		{"a link", func(t *testing.T, f *cred.Files) {
			link(t, f.AccessKeyID, f.AccessKeyID+".link")
			f.AccessKeyID += ".link"
		}, cred.NotPrivate, "link"},
		{"a volume of Kubernetes", func(t *testing.T, f *cred.Files) { *f = volume(t, "LTAI4", "s3cret").Files }, "", ""},
		{"a directory open to all", func(t *testing.T, f *cred.Files) { mode(t, filepath.Dir(f.AccessKeyID), 0o777) }, cred.NotPrivate, "everybody"},
		{"a directory open to all, sticky", func(t *testing.T, f *cred.Files) {
			mode(t, filepath.Dir(f.AccessKeyID), 0o777|fs.ModeSticky)
		}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := files(t)
			tt.change(t, &f)
			c, err := f.Fetch(t.Context())
			if class(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v (%s), want %q with %q", err, class(err), tt.want, tt.text)
			}
			if err != nil {
				if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "tok") && !strings.Contains(err.Error(), "/token") {
					t.Errorf("a secret is in %q", err)
				}
				return
			}
			token := "tok+/=="
			if f.SecurityToken == "" {
				token = ""
			}
			if c.AccessKeySecret.Reveal() != "s3cret" || c.SecurityToken.Reveal() != token || c.AccessKeyID != "LTAI4" && len(c.AccessKeyID) != 64<<10 {
				t.Errorf("got %q %q %q", c.AccessKeyID, c.AccessKeySecret.Reveal(), c.SecurityToken.Reveal())
			}
		})
	}
}

func chmod(m fs.FileMode) func(*testing.T, *cred.Files) {
	return func(t *testing.T, f *cred.Files) { mode(t, f.AccessKeySecret, m) }
}

func mode(t *testing.T, name string, m fs.FileMode) {
	t.Helper()
	if err := os.Chmod(name, m); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// A kubelet keeps a volume: NAME → ..data/NAME, and ..data → the directory of
// the newest version.
type kubelet struct {
	cred.Files
	dir string
	n   int
}

func volume(t *testing.T, id, secret string) *kubelet {
	dir := t.TempDir()
	k := &kubelet{dir: dir, Files: cred.Files{AccessKeyID: filepath.Join(dir, "id"), AccessKeySecret: filepath.Join(dir, "secret")}}
	k.update(t, id, secret)
	link(t, "..data/id", k.AccessKeyID)
	link(t, "..data/secret", k.AccessKeySecret)
	return k
}

func (k *kubelet) update(t *testing.T, id, secret string) {
	t.Helper()
	k.n++
	version := fmt.Sprintf("..v%d", k.n)
	if err := os.Mkdir(filepath.Join(k.dir, version), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(k.dir, version, "id"), id)
	write(t, filepath.Join(k.dir, version, "secret"), secret)
	link(t, version, filepath.Join(k.dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(k.dir, "..data_tmp"), filepath.Join(k.dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// stat is a file that need not exist.
type stat struct {
	mode     fs.FileMode
	uid, gid uint32
}

func (s stat) Name() string       { return "" }
func (s stat) Size() int64        { return 0 }
func (s stat) Mode() fs.FileMode  { return s.mode }
func (s stat) ModTime() time.Time { return time.Time{} }
func (s stat) IsDir() bool        { return false }
func (s stat) Sys() any           { return &syscall.Stat_t{Uid: s.uid, Gid: s.gid} }

func TestJudge(t *testing.T) {
	const me, mine, foreign = 1000, 1001, 2000
	for _, tt := range []struct {
		stat
		ok bool
	}{
		{stat{0o600, me, mine}, true},
		{stat{0o400, me, mine}, true},
		{stat{0o400, 0, 0}, true},
		{stat{0o440, 0, 0}, true}, // systemd, by an access control list
		{stat{0o440, 0, mine}, true},
		{stat{0o640, 0, mine}, true},
		{stat{0o640, 0, foreign}, false},
		{stat{0o640, me, mine}, false},
		{stat{0o600, foreign, mine}, false},
		{stat{0o440, foreign, mine}, false},
		{stat{0o444, 0, 0}, false},
		{stat{0o604, 0, mine}, false},
		{stat{0o660, 0, mine}, false},
		{stat{0o650, 0, mine}, false},
		{stat{0o600 | fs.ModeNamedPipe, me, mine}, false},
		{stat{0o600 | fs.ModeDevice, 0, 0}, false},
	} {
		if err := cred.Judge(tt.stat, me, mine, 1002); (err == nil) != tt.ok {
			t.Errorf("%v of %d:%d: got %v, want ok %v", tt.mode, tt.uid, tt.gid, err, tt.ok)
		}
	}
}

func TestSystemd(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := cred.Systemd("id", "secret", ""); class(err) != cred.Missing {
		t.Errorf("without the variable: got %v", err)
	}
	f := files(t)
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(f.AccessKeyID))
	if got, err := cred.Systemd("id", "secret", "token"); got != f || err != nil {
		t.Errorf("got %v, %v, want %v", got, err, f)
	}
	f.SecurityToken = ""
	if got, err := cred.Systemd("id", "secret", ""); got != f || err != nil {
		t.Errorf("got %v, %v, want %v", got, err, f)
	}
	for _, name := range []string{"", ".", "..", "../id", "/etc/id", "a/b"} {
		if _, err := cred.Systemd(name, "secret", ""); class(err) != cred.Malformed {
			t.Errorf("%q: got %v", name, err)
		}
	}
	// It may be the secret itself.
	if _, err := cred.Systemd("id", "a/canary", ""); err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "name of the secret") {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name, id, secret, token string
		want                    cred.Class
		text                    string
	}{
		{"all three", "LTAI4", "s3cret", "tok", "", ""},
		{"no token", "LTAI4", "s3cret", "", "", ""},
		{"no id", "", "s3cret", "tok", cred.Missing, cred.VarAccessKeyID},
		{"no secret", "LTAI4", "", "tok", cred.Missing, cred.VarAccessKeySecret},
		{"a bad token", "LTAI4", "s3cret", "t k", cred.Malformed, cred.VarSecurityToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(cred.VarAccessKeyID, tt.id)
			t.Setenv(cred.VarAccessKeySecret, tt.secret)
			t.Setenv(cred.VarSecurityToken, tt.token)
			c, err := cred.Environment{}.Fetch(t.Context())
			if class(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v, want %q with %q", err, tt.want, tt.text)
			}
			if err == nil && (c.AccessKeyID != tt.id || c.AccessKeySecret.Reveal() != tt.secret || c.SecurityToken.Reveal() != tt.token) {
				t.Errorf("got %q %q %q", c.AccessKeyID, c.AccessKeySecret.Reveal(), c.SecurityToken.Reveal())
			}
		})
	}
}
