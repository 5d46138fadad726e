package status

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Systemd is the service manager that started this process: sd_notify(3) and
// sd_listen_fds(3). The nil Systemd is none, and takes everything.
type Systemd struct {
	name     string        // of its socket
	fd       int           // of ours
	Watchdog time.Duration // within which "WATCHDOG=1" must come; 0 = it is not waited for
}

// notifyWait bounds how long a service manager that does not read is waited for.
const notifyWait = time.Second

// OpenSystemd returns the service manager that the environment names, or nil,
// and takes its variables out of the environment.
func OpenSystemd() (*Systemd, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, v := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(v)
	}
	if name == "" {
		return nil, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for $NOTIFY_SOCKET: %w", err)
	}
	wait := unix.NsecToTimeval(notifyWait.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up the socket for $NOTIFY_SOCKET: %w", err)
	}
	s := &Systemd{name: name, fd: fd}
	if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.Watchdog = time.Duration(n) * time.Microsecond
	}
	return s, nil
}

// Notify sends assignments such as "READY=1".
func (s *Systemd) Notify(assignments ...string) error { return s.send(assignments, nil) }

// Reloading says that the configuration is read anew, until "READY=1".
func (s *Systemd) Reloading() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return err
	}
	return s.Notify("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000))
}

// Store has a copy of a descriptor kept over a restart.
func (s *Systemd) Store(name string, fd int) error {
	return s.send([]string{"FDSTORE=1", "FDNAME=" + name, "FDPOLL=0"}, unix.UnixRights(fd))
}

// Unstore has descriptors of that name let go.
func (s *Systemd) Unstore(name string) error {
	return s.Notify("FDSTOREREMOVE=1", "FDNAME="+name)
}

func (s *Systemd) send(assignments []string, rights []byte) error {
	if s == nil {
		return nil
	}
	for i, a := range assignments {
		assignments[i] = strings.ReplaceAll(a, "\n", " ")
	}
	for {
		// Not connected: the service manager may make its socket anew. A leading @
		// is an abstract name, here and for systemd.
		err := unix.Sendmsg(s.fd, []byte(strings.Join(assignments, "\n")), rights, &unix.SockaddrUnix{Name: s.name}, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// A Descriptor came with the start of the process.
type Descriptor struct {
	Name string
	FD   int
}

// Descriptors returns what the service manager handed over, once, and takes
// its variables out of the environment. They are the caller's, and no child
// gets them.
func Descriptors() ([]Descriptor, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || len(names) != n && n > 0 {
		return nil, errors.New("LISTEN_FDS and LISTEN_FDNAMES do not fit")
	}
	const first = 3
	var all []Descriptor
	for i := range n {
		unix.CloseOnExec(first + i)
		all = append(all, Descriptor{names[i], first + i})
	}
	return all, nil
}
