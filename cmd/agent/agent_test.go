package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/pipeline"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/seal/keyring"
	"sealtail/sink"
	"sealtail/spool"
	"sealtail/status"
	"sealtail/tail"
)

// A deleted file is kept until its position is committed as closed, here and in
// systemd's store.
func TestHeldFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	systemd, err := status.OpenSystemd()
	if err != nil {
		t.Fatal(err)
	}
	told := func(want string) {
		t.Helper()
		b := make([]byte, 1000)
		n, err := manager.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("systemd is told %q, %v; want %q", b[:n], err, want)
		}
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	held := heldFile{"my-app.1", st.Dev, st.Ino}
	stored := func() (d status.Descriptor) {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return status.Descriptor{Name: held.String(), FD: fd}
	}

	h := newHeldFiles(systemd, nil, zap.NewNop())
	hold := h.hold("my-app.1")
	hold(st.Dev, st.Ino, int(f.Fd()))
	told("FDSTORE=1\nFDNAME=" + held.String() + "\nFDPOLL=0")
	hold(st.Dev, st.Ino, int(f.Fd())) // again, by the next tailer
	h.committed("my-app.1", []record.Position{{Dev: st.Dev, Ino: st.Ino, Offset: 10}, {Dev: st.Dev, Ino: st.Ino + 1, Closed: 1}})
	h.committed("my-app.1", []record.Position{{Dev: st.Dev, Ino: st.Ino, Forget: true}, {Dev: st.Dev, Ino: st.Ino, Closed: 1, Forget: true}}) // had the inode before
	h.committed("other", []record.Position{{Dev: st.Dev, Ino: st.Ino, Closed: 1}})
	if fds := h.of("my-app.1"); len(fds) != 1 || len(h.of("other")) != 0 {
		t.Errorf("held: %v", fds)
	} else {
		unix.Close(fds[0])
	}
	h.committed("my-app.1", []record.Position{{Dev: st.Dev, Ino: st.Ino, Closed: 1}})
	told("FDSTOREREMOVE=1\nFDNAME=" + held.String())

	// What comes back is taken if it is what its name says, once.
	other := stored()
	other.Name = heldFile{"my-app.1", st.Dev, st.Ino + 1}.String()
	strange := stored()
	strange.Name = "stored"
	h = newHeldFiles(systemd, []status.Descriptor{stored(), other, strange}, zap.NewNop())
	told("FDSTOREREMOVE=1\nFDNAME=" + other.Name)
	told("FDSTOREREMOVE=1\nFDNAME=stored")
	if len(h.fds) != 1 {
		t.Errorf("came back: %v", h.fds)
	}
	h.keep(func(stream string) bool { return stream != "my-app.1" })
	told("FDSTOREREMOVE=1\nFDNAME=" + held.String())
}

// That there are more deleted files than are kept is told once, until one is
// let go.
func TestHeldFilesAreFew(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	h := newHeldFiles(nil, nil, zap.New(core))
	h.most = 2
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hold := h.hold("app")
	for ino := range uint64(4) {
		hold(1, ino, int(f.Fd()))
		if got, want := logs.FilterMessageSnippet("more deleted files are open").Len(), map[bool]int{true: 1}[ino >= 2]; got != want {
			t.Errorf("file %d: told %d times, want %d", ino, got, want)
		}
	}
	hold(1, 0, -1)
	hold(1, 5, int(f.Fd()))
	hold(1, 6, int(f.Fd()))
	if got := logs.Len(); got != 2 {
		t.Errorf("told %d times in all, want 2", got)
	}
	h.keep(func(string) bool { return false })
}

// stalledLine is a line whose loops run nowhere; what they tell is as of now.
func stalledLine(t *testing.T) *line {
	t.Helper()
	files, err := tail.New(tail.Options{Include: []string{filepath.Join(t.TempDir(), "*")}, Key: []byte("key")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(pipeline.Options{MaxContent: seal.MaxContent}, new(chain), forgetful{})
	if err != nil {
		t.Fatal(err)
	}
	l := &line{stream: conf.Stream{Name: "app"}, tail: files, pipeline: p, chain: new(chain),
		commit: new(committer), spool: new(spool.Spool), sink: sink.New(sink.Options{}, nil, nil)}
	l.aside.Store(new(spool.Aside))
	return l
}

// A loop is stalled when it has not gone on for a minute, and not while it
// does not run.
func TestStalled(t *testing.T) {
	l := stalledLine(t)
	now := time.Now()
	if got := l.stalled(now.Add(time.Hour)); got != nil {
		t.Errorf("nothing runs: %q", got)
	}
	l.beginning.Now()
	if got := l.stalled(now.Add(stallAfter)); got != nil {
		t.Errorf("within a minute: %q", got)
	}
	if got := l.stalled(now.Add(stallAfter + 10*time.Second)); !slices.Equal(got, []string{"app: recover"}) {
		t.Errorf("after a minute: %q", got)
	}
}

// A hungStore takes the one envelope that it hands out, and hangs when that is
// to leave it, as on a disk that hangs.
type hungStore struct{ held chan struct{} }

func (q hungStore) Next(ctx context.Context, _ []byte, _ int) ([][]byte, uint64, error) {
	select {
	case <-q.held:
		return nil, 0, io.EOF
	default:
		return [][]byte{[]byte("envelope")}, 1, nil
	}
}
func (q hungStore) Trim(uint64)                                 { <-q.held }
func (hungStore) Park([]byte, string) (string, error)           { return "", nil }
func (hungStore) Put(context.Context, [][]byte) error           { return nil }
func (hungStore) PutStub(context.Context, []byte, string) error { return nil }

// A spool that hangs on its disk after a request stalls the line.
func TestTrimStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, q := stalledLine(t), hungStore{make(chan struct{})}
		l.sink = sink.New(sink.Options{}, q, q)
		ended := make(chan error)
		go func() { ended <- l.sink.Run(t.Context()) }()
		time.Sleep(tryAfter)
		if got := l.stalled(time.Now()); got != nil {
			t.Errorf("within %v: %q", tryAfter, got)
		}
		time.Sleep(time.Minute)
		if got := l.stalled(time.Now()); !slices.Equal(got, []string{"app: request"}) {
			t.Errorf("after %v: %q", tryAfter, got)
		}
		close(q.held)
		if err := <-ended; err != nil || l.stalled(time.Now()) != nil {
			t.Errorf("got %v, stalled %q", err, l.stalled(time.Now()))
		}
	})
}

// A loop that hangs stops the watchdog's food; a wait does not.
func TestWatchdog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "120000000")
	systemd, err := status.OpenSystemd()
	if err != nil {
		t.Fatal(err)
	}
	l := stalledLine(t)
	cfg := &conf.Config{Streams: []conf.Stream{l.stream}}
	use := keysOf(l.stream)
	a := &agent{cfg: cfg, systemd: systemd, log: zap.NewNop(), phase: "running", final: make(chan error, 1),
		lines: map[string]*runningLine{"app": {line: l}},
		keys:  map[keyUse]*runningKeys{use: {Keys: seal.NewKeys(seal.KeyOptions{}, nil, seal.AES256GCM, nil)}}}
	read := func() string {
		b := make([]byte, 4096)
		n, err := manager.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	var w watching
	a.look(&w)
	if got := read(); !strings.Contains(got, "WATCHDOG=1") {
		t.Errorf("told %q", got)
	}
	long := time.Now().Add(-time.Hour)
	l.beginning.Store(&long)
	w.fed = long
	a.look(&w)
	if got := read(); strings.Contains(got, "WATCHDOG=1") || !reflect.DeepEqual(a.board.Newest().Stalled, []string{"app: recover"}) {
		t.Errorf("told %q; stalled: %q", got, a.board.Newest().Stalled)
	}
	l.beginning.Now()
	a.look(&w)
	if got := read(); !strings.Contains(got, "WATCHDOG=1") {
		t.Errorf("told %q", got)
	}
}

// Whoever finds the socket is told how the agent stands, however early.
func TestAnswersFromTheBeginning(t *testing.T) {
	for range 50 {
		dir := t.TempDir()
		a := &agent{cfg: &conf.Config{Agent: conf.Agent{StateDir: dir}}, log: zap.NewNop(), phase: "starting", final: make(chan error, 1),
			changed: make(chan struct{}, 1), held: newHeldFiles(nil, nil, zap.NewNop()), keys: make(map[keyUse]*runningKeys), lines: make(map[string]*runningLine)}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.run(ctx, nil) }()
		err := status.ErrNotRunning
		for errors.Is(err, status.ErrNotRunning) {
			_, _, err = status.Ask(ctx, dir)
		}
		stop()
		if err := errors.Join(err, <-ended); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNamedKeys(t *testing.T) {
	var n namedKeys
	add := func(kind uint8, id string) {
		n.add(&seal.Envelope{Recipients: []seal.Recipient{{Type: kind, KeyID: []byte(id)}}})
	}
	for range 3 {
		add(seal.TypeKeyring, "old")
	}
	add(seal.TypeHPKE, "new")
	add(seal.TypeHPKE, "new")
	for pending, want := range map[int64][]string{0: nil, 1: {"new"}, 2: {"new"}, 3: {"new", "old"}, 5: {"new", "old"}} {
		if got := n.among(pending); !slices.Equal(got, want) {
			t.Errorf("%d pending: got %q, want %q", pending, got, want)
		}
	}
}

func TestChangedKeys(t *testing.T) {
	x := conf.Agent{StateDir: "/a", Host: "h", Stop: conf.Stop{SealTimeout: 1}}
	y := conf.Agent{StateDir: "/a", Host: "i", Stop: conf.Stop{SealTimeout: 1, ShipTimeout: 2}}
	want := []string{"agent.host", "agent.stop.ship_timeout"}
	if got := changedKeys("agent", reflect.ValueOf(x), reflect.ValueOf(y)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A change that fails for good ends the agent, and is not told as done.
func TestReloadFails(t *testing.T) {
	dir := t.TempDir()
	ring := filepath.Join(dir, "keyring.json")
	if _, err := keyring.New(ring, keyring.AES256GCM); err != nil {
		t.Fatal(err)
	}
	file, state := filepath.Join(dir, "sealtail.toml"), filepath.Join(dir, "state")
	text := fmt.Sprintf(`
agent = { state_dir = %q, host = "h" }
key.k = { provider = "keyring", file = %q }
sink.s = { type = "dir", path = %q }
stream = [{ name = "app", include = [%q], suite = "aes-256-gcm", key = "k", sink = "s" }]
`, state, ring, filepath.Join(dir, "sealed"), filepath.Join(dir, "*.log"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := conf.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	id, err := openIdentity(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "streams"), nil, 0o600); err != nil { // is to be a directory
		t.Fatal(err)
	}
	a := &agent{id: id, held: newHeldFiles(nil, nil, zap.NewNop()), log: zap.NewNop(), cfg: cfg,
		final: make(chan error, 1), changed: make(chan struct{}, 1),
		keys: make(map[keyUse]*runningKeys), lines: make(map[string]*runningLine)}
	alive, wipe := context.WithCancel(t.Context())
	a.readAgain(t.Context(), alive)
	wipe()
	for _, k := range a.keys {
		<-k.done
	}
	if len(a.final) != 1 || a.reload.done != 0 || a.phase == "running" {
		t.Errorf("got %d errors, %d reloads, phase %s", len(a.final), a.reload.done, a.phase)
	}
}

// What is not sealed of deleted files is not said to stay.
func TestTellsUnsealed(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	l := &line{log: zap.New(core)}
	ctx, end := context.WithCancel(t.Context())
	l.tellUnsealed(ctx)
	if n := logs.Len(); n != 0 {
		t.Errorf("told %d times before the time ended", n)
	}
	end()
	l.tellUnsealed(ctx)
	if n := logs.FilterMessageSnippet("of deleted files it stays only over").Len(); n != 1 {
		t.Errorf("told: %v", logs.All())
	}
}

// A line that begins anew seals and ships for a moment only, unless the agent
// ends.
func TestLimit(t *testing.T) {
	const all = 30 * time.Second
	for name, tt := range map[string]struct {
		change bool
		after  time.Duration // from the line's end to the agent's
		want   time.Duration
	}{
		"stop":                      {false, 0, all},
		"change":                    {true, time.Minute, changeTime},
		"change of a stopped one":   {true, 0, all},
		"stop while a change ships": {true, changeTime / 2, changeTime/2 + all},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				agent, end := context.WithCancel(t.Context())
				ctx, change := context.WithCancelCause(agent)
				defer change(nil)
				if tt.change {
					change(errChanged)
				}
				time.AfterFunc(tt.after, end)
				if tt.after == 0 {
					<-agent.Done()
				}
				began, stopped := time.Now(), make(chan time.Time, 1)
				done := limit(ctx, agent, all, func() { stopped <- time.Now() })
				if got := (<-stopped).Sub(began); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				done()
				<-agent.Done()
			})
		})
	}
}
