package status_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sealtail/status"
)

// Who may ask at the socket gets the snapshot, however long its path is.
func TestSocket(t *testing.T) {
	for _, name := range []string{"short", strings.Repeat("long", 40)} {
		t.Run(name[:4], func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			if _, _, err := status.Ask(t.Context(), dir); !errors.Is(err, status.ErrNotRunning) {
				t.Errorf("without a directory: %v", err)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, _, err := status.Ask(t.Context(), dir); !errors.Is(err, status.ErrNotRunning) {
				t.Errorf("without a socket: %v", err)
			}
			var board status.Board
			board.Post(well())
			for range 2 { // the second finds the socket of the first
				l, err := status.Listen(dir)
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- status.Serve(ctx, l, board.Handler(true)) }()
				if s, _, err := status.Ask(t.Context(), dir); err != nil || s.Streams[0].Name != "audit" || !s.Time.Equal(noon) {
					t.Errorf("got %+v, %v", s, err)
				}
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if _, _, err := status.Ask(t.Context(), dir); !errors.Is(err, status.ErrNotRunning) {
					t.Errorf("after the end: %v", err)
				}
			}
		})
	}
}

// An agent that hangs, or ends before it answered, is told from one that does
// not run and from one that refuses, with its process id.
func TestSocketWithoutAnAnswer(t *testing.T) {
	for name, end := range map[string]func(stop func(), conn net.Conn){
		"hangs": func(stop func(), _ net.Conn) { stop() },
		"ends":  func(_ func(), conn net.Conn) { conn.Close() },
		"ends in its answer": func(_ func(), conn net.Conn) {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
			conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := status.Listen(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			asked := make(chan error, 1)
			go func() {
				_, _, err := status.Ask(ctx, dir)
				asked <- err
			}()
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			end(stop, conn)
			if err := <-asked; !errors.Is(err, status.ErrNoAnswer) || !strings.HasSuffix(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Another user gets no answer, even where the directory lets him in.
func TestSocketOfAnotherUser(t *testing.T) {
	if dir := os.Getenv("ASK"); dir != "" {
		_, _, err := status.Ask(t.Context(), dir)
		if err == nil || errors.Is(err, status.ErrNotRunning) {
			t.Errorf("got %v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	dir, err := os.MkdirTemp("", "status")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := status.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{dir: 0o755, filepath.Join(dir, "status.sock"): 0o666} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var board status.Board
	board.Post(well())
	go status.Serve(ctx, l, board.Handler(true))
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^"+t.Name()+"$")
	cmd.ExtraFiles, cmd.Dir = []*os.File{exe}, "/"
	cmd.Env = append(os.Environ(), "ASK="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}

// The service manager gets what it is sent, and there may be none.
func TestSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	none, err := status.OpenSystemd()
	if err != nil || none != nil || none.Notify("READY=1") != nil || none.Store("x", 0) != nil {
		t.Errorf("without a service manager: %v, %v", none, err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@sealtail-test-" + filepath.Base(t.TempDir())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		t.Setenv("WATCHDOG_USEC", "2000000")
		s, err := status.OpenSystemd()
		if err != nil || s.Watchdog.Seconds() != 2 || os.Getenv("NOTIFY_SOCKET") != "" {
			t.Fatalf("got %+v, %v", s, err)
		}
		if err := errors.Join(s.Notify("READY=1", "STATUS=two\nlines"), s.Store("a-b", 0), s.Unstore("a-b")); err != nil {
			t.Fatal(err)
		}
		b, oob := make([]byte, 1000), make([]byte, 1000)
		for _, want := range []string{"READY=1\nSTATUS=two lines", "FDSTORE=1\nFDNAME=a-b\nFDPOLL=0", "FDSTOREREMOVE=1\nFDNAME=a-b"} {
			n, rights, _, _, err := conn.ReadMsgUnix(b, oob)
			if err != nil || string(b[:n]) != want || (rights > 0) != strings.HasPrefix(want, "FDSTORE=") {
				t.Errorf("got %q with %d bytes of rights, %v; want %q", b[:n], rights, err, want)
			}
			if messages, err := unix.ParseSocketControlMessage(oob[:rights]); err == nil && len(messages) == 1 {
				fds, _ := unix.ParseUnixRights(&messages[0])
				for _, fd := range fds {
					unix.Close(fd)
				}
			}
		}
		conn.Close()
		if err := s.Notify("READY=1"); err == nil {
			t.Error("nobody listens, and nothing is said")
		}
	}
}

// Where no descriptor is left the agent answers all the same, again and again.
func TestSocketWithoutADescriptor(t *testing.T) {
	dir := t.TempDir()
	var board status.Board
	board.Post(well())
	l, err := status.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- status.Serve(ctx, l, board.Handler(true)) }()
	defer func() { stop(); <-ended }()
	if _, _, err := status.Ask(t.Context(), dir); err != nil { // it waits for the next
		t.Fatal(err)
	}

	// Who asks is in this process: it has its descriptors already.
	asking := make([]int, 5)
	for i := range asking {
		if asking[i], err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(asking[i])
		wait := unix.Timeval{Sec: 60}
		if err := unix.SetsockoptTimeval(asking[i], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			t.Fatal(err)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		defer unix.Close(fd)
	}
	for _, fd := range asking {
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "status.sock")}); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte("GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 15)
		if n, err := unix.Read(fd, answer); err != nil || string(answer[:n]) != "HTTP/1.1 200 OK" {
			t.Fatalf("got %q, %v", answer[:max(n, 0)], err)
		}
		for n := 1; n > 0; { // until it is closed on the other side
			n, _ = unix.Read(fd, make([]byte, 4<<10))
		}
	}
}
