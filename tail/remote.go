package tail

import (
	"time"

	"golang.org/x/sys/unix"
)

// staleWait is how long a file on a network file system may seem shorter than
// it was: attributes are cached there.
const staleWait = 2 * time.Minute

// shorter reports whether a file that has less than was taken of it was
// truncated. On a network file system its size may be an old one: there it was
// if what it has is different, or if it stays so.
func (t *Tailer) shorter(f *file, st *unix.Stat_t) bool {
	if !t.isRemote(f) {
		return true
	}
	if n := int(f.pos.Head.Len); n > 0 && st.Size >= int64(n) {
		if head, ok := t.printAt(f.fd, n, 0); ok && head != f.pos.Head {
			return true
		}
	}
	if f.look.short == 0 {
		f.look.short = max(1, t.now)
	}
	return t.now >= f.look.short+staleWait
}

func (t *Tailer) isRemote(f *file) bool {
	remote, known := t.remotes[f.pos.Dev]
	if !known {
		remote = t.remote(f.fd)
		t.remotes[f.pos.Dev] = remote
	}
	return remote
}

// statfsRemote reports whether the file system of an open file is one whose
// files change on other machines.
func statfsRemote(fd int) bool {
	var fs unix.Statfs_t
	if again(func() error { return unix.Fstatfs(fd, &fs) }) != nil {
		return false
	}
	const cifs, smb2, lustre, gpfs = 0xff534d42, 0xfe534d42, 0x0bd00bd0, 0x47504653
	switch uint32(fs.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, cifs, smb2, unix.FUSE_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC, unix.V9FS_MAGIC, unix.OCFS2_SUPER_MAGIC, lustre, gpfs:
		return true
	}
	return false
}
