package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// stale is the age from which a snapshot shows that nobody makes them.
const stale = 30 * time.Second

// A Board shows the newest snapshot. The zero Board is ready, and shows none.
type Board struct{ newest atomic.Pointer[Snapshot] }

// Post shows s, which must not be changed any more.
func (b *Board) Post(s *Snapshot) { b.newest.Store(s) }

// Newest returns what was posted last, or nil.
func (b *Board) Newest() *Snapshot { return b.newest.Load() }

// Handler answers GET for /livez, /readyz and /metrics, and with all for
// /status, the whole snapshot.
//
// /livez is 200 while snapshots are made, which waits for nothing outside the
// process: not for a disk under a loop that is stalled. /readyz is 200 while every
// stream can seal. Else both are 503 and say why.
func (b *Board) Handler(all bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", b.answer(live))
	mux.HandleFunc("GET /readyz", b.answer((*Snapshot).Ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(b.registry(), promhttp.HandlerOpts{}))
	if all {
		mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
			s := b.Newest()
			if s == nil {
				http.Error(w, "starting", http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(s) // an error is the client's
		})
	}
	return mux
}

func live(s *Snapshot) (why string) {
	if age := time.Since(s.Time); age > stale {
		return "no look at the loops for " + Span(age.Seconds())
	}
	return ""
}

func (b *Board) answer(ask func(*Snapshot) string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		why := "starting"
		if s := b.Newest(); s != nil {
			why = ask(s)
		}
		if why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	}
}

// Serve answers on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

const socketName = "status.sock"

// Errors of [Ask].
var (
	ErrNotRunning = errors.New("no agent runs with this state directory") // nobody listens
	ErrNoAnswer   = errors.New("the agent does not answer")               // it listens, and ctx ended, or it does; with its process id where that is known
)

// socketIn returns a path of the socket in dir that fits an address, valid until
// done is called.
func socketIn(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, socketName)
	if len(path) < len(unix.RawSockaddrUnix{}.Path) {
		return path, func() {}, nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, socketName), func() { unix.Close(fd) }, nil
}

// Listen opens the socket in dir, which nobody else uses, for root and the
// user of this process.
func Listen(dir string) (net.Listener, error) {
	path, done, err := socketIn(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the next start does
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return &peers{UnixListener: l, may: func(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }}, nil
}

// peers are the connections of those who may ask. One descriptor is kept for
// them: where there is no other, they are answered one at a time.
type peers struct {
	*net.UnixListener
	may func(uid uint32) bool

	mu    sync.Mutex
	spare *os.File // nil while it is used; guarded by mu
}

// keep has a descriptor kept, if there is one.
func (p *peers) keep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spare == nil {
		p.spare, _ = os.Open(os.DevNull)
	}
}

// spend gives the one that is kept away.
func (p *peers) spend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare.Close() // also of nil
	p.spare = nil
}

// An asking is the connection of one who may ask.
type asking struct {
	net.Conn
	p *peers
}

// Close has a descriptor kept again.
func (a asking) Close() error {
	err := a.Conn.Close()
	a.p.keep()
	return err
}

// Accept is called by one goroutine.
func (p *peers) Accept() (net.Conn, error) {
	for {
		p.keep()
		conn, err := p.AcceptUnix()
		if isAny(err, unix.EMFILE, unix.ENFILE) {
			p.spend()
			conn, err = p.AcceptUnix()
		}
		if err != nil {
			return nil, err
		}
		if cred, err := peer(conn); err == nil && p.may(cred.Uid) {
			return asking{conn, p}, nil
		}
		conn.Close()
	}
}

func peer(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return nil, e
	}
	return cred, err
}

// Ask returns the snapshot of the agent that runs with the state directory
// dir, also as the agent wrote it.
func Ask(ctx context.Context, dir string) (*Snapshot, []byte, error) {
	path, done, err := socketIn(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, ErrNotRunning
	}
	if err != nil {
		return nil, nil, err
	}
	defer done()
	var pid, uid atomic.Int32 // of who listens
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		if cred, err := peer(conn.(*net.UnixConn)); err == nil {
			pid.Store(cred.Pid)
			uid.Store(int32(cred.Uid))
		}
		return conn, nil
	}}
	silent := func() error {
		if pid := pid.Load(); pid > 0 {
			return fmt.Errorf("%w: process %d", ErrNoAnswer, pid)
		}
		return ErrNoAnswer
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := transport.RoundTrip(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil, ErrNotRunning
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if me := os.Getuid(); me == 0 || int32(me) == uid.Load() { // whom it answers; it ends
			return nil, nil, silent()
		}
		return nil, nil, errors.New("the agent refused to answer user " + strconv.Itoa(os.Getuid()))
	case ctx.Err() != nil, errors.Is(err, syscall.EAGAIN): // many others wait for it too
		return nil, nil, silent()
	case err != nil:
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil: // ctx ended, or it does
		return nil, nil, silent()
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the agent answers %s: %s", resp.Status, b)
	}
	s := new(Snapshot)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	return s, b, nil
}
