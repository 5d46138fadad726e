package status

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

func isAny(err error, errnos ...unix.Errno) bool {
	return slices.ContainsFunc(errnos, func(n unix.Errno) bool { return errors.Is(err, n) })
}

// readFix says what to do about files that cannot be read.
func readFix(err error) string {
	fix := fileFix(err)
	switch {
	case fix != "":
	case isAny(err, unix.EACCES, unix.EPERM):
		fix = "let the agent's user read what include names, by its groups or a drop-in of /usr/share/sealtail/systemd"
	default:
		fix = "mend what it says"
	}
	return fix + "; it is tried again by itself"
}

// fileFix says what to do about trouble below a file; "" = it is none that is
// known.
func fileFix(err error) string {
	switch {
	case isAny(err, unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.ENODATA, unix.ENXIO, unix.ENODEV):
		return "its disk or file system fails: dmesg -T tells more; check the disk (smartctl -a), then the file system (fsck)"
	case isAny(err, unix.ESTALE, unix.ENOTCONN, unix.ETIMEDOUT, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENETUNREACH,
		unix.ECONNABORTED, unix.ECONNREFUSED, unix.ECONNRESET, unix.EREMOTEIO):
		return "its network or FUSE file system (findmnt -T PATH) does not answer: see to its server, or mount it again"
	case isAny(err, unix.EMFILE):
		return "the agent has no descriptor left: raise LimitNOFILE in the unit, and restart"
	case isAny(err, unix.ENFILE):
		return "the whole host has no descriptor left: raise fs.file-max (sysctl), or see who has them (lsof)"
	case isAny(err, unix.ENOMEM):
		return "the host has no memory left: free -h"
	}
	return ""
}

// sinkFix says what to do about a sink that refuses, or a batch that cannot be
// set aside.
func sinkFix(s *Snapshot, l *Stream) string {
	err, dir := l.Sink.Err, l.Sink.Dir
	const again = "; it is tried again by itself"
	if l.Sink.Parking {
		if isAny(err, unix.EDQUOT) { // the spool's own limit, or the disk's quota
			return "move out what is in " + s.spoolDir(l) + "/rejected and keep it, or raise spool.max_bytes and reload" + again
		}
		return "free room on the disk of " + s.Process.StateDir + " (df -h)" + again
	}
	if e, ok := errors.AsType[interface {
		error
		Alone() (n, most int)
	}](err); ok {
		if n, most := e.Alone(); n > 0 {
			return fmt.Sprintf("nothing: one batch is refused for what it holds (%d of %d times); then, within minutes, it is set aside, and what waits behind it is shipped", n, most)
		}
	}
	if dir == "" {
		return "mend what it says; sealtail check --online asks the sink" + again
	}
	fix := dirFix(err, dir, dirWords{
		room:  "; all files there but the newest of a stream may be moved away",
		mount: "name " + dir + " in ReadWritePaths= of [Service] (systemctl edit sealtail) and restart",
		move:  "change path of [sink." + l.To + "] and reload",
	})
	if fix == "" {
		fix = "mend what it says"
	}
	return fix + again
}

// StateFix says what to do about an error below the state directory dir, which
// ended a start; "" = it is none that is known.
func StateFix(dir string, err error) string {
	fix := dirFix(err, dir, dirWords{
		write: ", or set agent.state_dir to a directory that it may write to",
		mount: "leave the state to StateDirectory=, or name " + dir + " in ReadWritePaths= of [Service] (systemctl edit sealtail)",
		move:  "set agent.state_dir to another",
	})
	if fix == "" {
		return ""
	}
	return fix + "; systemd and Kubernetes start the agent again by themselves"
}

// dirWords are what to do about one directory that is not so with another.
type dirWords struct{ room, mount, write, move string }

// dirFix is as fileFix, for a directory that the agent writes to.
func dirFix(err error, dir string, w dirWords) string {
	if fix := fileFix(err); fix != "" {
		return fix
	}
	switch {
	case isAny(err, unix.ENOSPC):
		return "free room on the disk of " + dir + " (df -h, df -i)" + w.room
	case isAny(err, unix.EDQUOT):
		return "raise the quota of the agent's user on the disk of " + dir + " (quota), or free room" + w.room
	case isAny(err, unix.EROFS):
		return "under systemd " + w.mount + "; else its file system is read-only: dmesg -T tells why, mount -o remount,rw"
	case isAny(err, unix.EACCES, unix.EPERM):
		return "let the agent's user write to " + dir + " and what is in it (chown -R)" + w.write
	case isAny(err, unix.ENOTDIR, unix.EEXIST):
		return "something that is no directory is in the way: move it, or " + w.move
	}
	return ""
}

func (s *Snapshot) spoolDir(l *Stream) string { return s.Process.StateDir + "/streams/" + l.Name }
