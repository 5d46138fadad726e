package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sealtail/status"
)

// freeAddress returns an address that nobody listens on, and nobody else will:
// it has a loopback address of its own.
func freeAddress(t testing.TB) string {
	t.Helper()
	own := rand.N(1<<24-2) + 1
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", own>>16, own>>8&255, own&255))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// edit replaces text in the agent's configuration.
func (r *rig) edit(old, new string) {
	r.t.Helper()
	b, err := os.ReadFile(r.path("sealtail.toml"))
	if err != nil {
		r.t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		r.t.Fatalf("%q is not in the configuration", old)
	}
	r.write("sealtail.toml", strings.Replace(string(b), old, new, 1))
}

// status asks the agent how it stands.
func (r *rig) status() (s status.Snapshot, code int) {
	r.t.Helper()
	out, errs, code := r.try("sealtail", "status", "--json", "-c", r.path("sealtail.toml"))
	if out != "" {
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			r.t.Fatalf("status --json prints %q: %v", out, err)
		}
	} else if code != 4 {
		r.t.Fatalf("status: exit %d: %s", code, errs)
	}
	return s, code
}

// first returns the first stream, which is not there while the agent starts.
func first(s status.Snapshot) (l status.Stream) {
	if len(s.Streams) > 0 {
		l = s.Streams[0]
	}
	return l
}

func get(t testing.TB, url string) (body string, code int) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return err.Error(), 0
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), resp.StatusCode
}

// Somebody who knows nothing is told of a pause: why, and what to do; and that
// all goes on by itself.
func TestStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	address := freeAddress(t)
	r.edit("[agent]\n", fmt.Sprintf("[agent]\nlisten = %q\n", address))
	if _, code := r.status(); code != 4 {
		t.Errorf("without an agent: exit %d, want 4", code)
	}
	var l ledger
	w := l.writer(t, r.path("logs", "a.log"))
	w.line()
	began := time.Now()
	r.start()
	r.until("that all is well", func() bool {
		s, code := r.status()
		return code == 0 && len(s.Streams) == 1 && first(s).Sink.Envelopes > 0
	})
	if out := r.run("sealtail", "status", "-c", r.path("sealtail.toml")); !strings.HasPrefix(out, "fine ") {
		t.Errorf("status says %q", out)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if body, code := get(t, "http://"+address+path); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if _, code := get(t, "http://"+address+"/status"); code != 404 {
		t.Errorf("/status by TCP: %d, want 404", code)
	}

	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	r.until("the pause", func() bool { _, code := r.status(); return code == 3 })
	for range 1000 {
		w.line()
	}
	r.until("the lag", func() bool { s, _ := r.status(); return first(s).Files.Lag > 1000 && first(s).Files.LagAge > 2 })
	s, _ := r.status()
	if p := first(s).Paused; !strings.Contains(p.Why, "revoked (Disabled)") || p.Since.Before(began) || p.Since.After(time.Now()) {
		t.Errorf("paused: %+v", p)
	}
	out, _, code := r.try("sealtail", "status", "-c", r.path("sealtail.toml"))
	if code != 3 || !strings.HasPrefix(out, "PAUSED ") || !strings.Contains(out, "fix: mend the keyring file of [key.main]") {
		t.Errorf("exit %d: %s", code, out)
	}
	if body, code := get(t, "http://"+address+"/livez"); code != 200 {
		t.Errorf("/livez in a pause: %d %s", code, body)
	}
	if body, code := get(t, "http://"+address+"/readyz"); code != 503 || !strings.Contains(body, "app: no data key") {
		t.Errorf("/readyz in a pause: %d %s", code, body)
	}
	metrics, _ := get(t, "http://"+address+"/metrics")
	for _, want := range []string{"sealtail_paused{stream=\"app\"} 1\n", "sealtail_key_state{state=\"paused\",stream=\"app\"} 1\n", "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %q", want)
		}
	}

	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	r.until("that all is well", func() bool { _, code := r.status(); return code == 0 })
	r.until("the rest", func() bool { return len(r.open()) >= l.total() })
	r.stop()
	l.check(t, r.open())
}

// A sink that refuses is told too, and an address that is taken stops nothing.
func TestStatusOfASinkThatRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r.edit("[agent]\n", fmt.Sprintf("[agent]\nlisten = %q\n", taken.Addr()))
	r.write("sealed", "in the way")
	w := new(ledger).writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("the refusal", func() bool {
		s, code := r.status()
		return code == 5 && len(s.Problems) == 1 && strings.Contains(s.Problems[0].What, "sink archive refuses") && first(s).Spool.Pending > 0
	})
	r.until("the log to tell of the address that is taken", func() bool {
		return r.logged(fmt.Sprintf(`"hint": "agent.listen in %s: `, r.path("sealtail.toml"))) > 0
	})
	os.Remove(r.path("sealed"))
	r.until("that all is well", func() bool { _, code := r.status(); return code == 0 })
	r.stop()
}

// What damage of the spool has set aside is told until somebody moves it away,
// over a reload and a restart.
func TestStatusOfADamagedSpool(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	r.write("sealed", "in the way")
	w := new(ledger).writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("a batch in the spool", func() bool { s, _ := r.status(); return first(s).Spool.Pending > 0 })
	r.kill()
	f, err := os.OpenFile(r.path("state", "streams", "app", "00000001.seg"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damaged"), 8192+100); err != nil { // of the first frame
		t.Fatal(err)
	}
	f.Close()
	if err := os.Remove(r.path("sealed")); err != nil {
		t.Fatal(err)
	}
	told := func(what string) {
		t.Helper()
		r.until("the damage, after "+what, func() bool {
			s, code := r.status()
			return code == 5 && first(s).Spool.Damaged == 1 && first(s).Spool.Pending == 0 && strings.Contains(s.Problems[0].What, "damaged in 1 place")
		})
	}
	r.start()
	told("a start")
	r.edit(`max_age = "50ms"`, `max_age = "51ms"`)
	r.reload("")
	told("a reload")
	r.stop()
	r.start()
	told("a restart")
	if err := os.RemoveAll(r.path("state", "streams", "app", "damaged")); err != nil {
		t.Fatal(err)
	}
	r.until("that all is well", func() bool { _, code := r.status(); return code == 0 })
	r.stop()
}

// A manager is a fake service manager. It reads all the time, as the real one:
// an agent waits no longer than a second for it.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	told chan struct{} // holds one: there is more in said

	mu   sync.Mutex
	fds  map[string]int // the store; guarded by mu
	said []string       // guarded by mu
	at   int            // messages of said that until took
}

func newManager(t *testing.T) *manager {
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, conn: conn, told: make(chan struct{}, 1), fds: make(map[string]int)}
	var reading sync.WaitGroup
	reading.Go(m.read)
	t.Cleanup(func() {
		conn.Close()
		reading.Wait()
		for _, fd := range m.fds {
			unix.Close(fd)
		}
	})
	return m
}

// run has the agent started by this manager, with the descriptors in its
// store.
func (m *manager) run(r *rig) {
	m.t.Helper()
	// What the agent before said last is taken first.
	const end = "that is all"
	if _, err := m.conn.WriteToUnix([]byte(end), m.conn.LocalAddr().(*net.UnixAddr)); err != nil {
		m.t.Fatal(err)
	}
	m.until(end)
	env := []string{"NOTIFY_SOCKET=" + m.conn.LocalAddr().String(), "WATCHDOG_USEC=4000000"}
	var names []string
	var files []*os.File
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, fd := range m.fds {
		own, err := unix.Dup(fd)
		if err != nil {
			m.t.Fatal(err)
		}
		names = append(names, name)
		files = append(files, os.NewFile(uintptr(own), name))
	}
	env = append(env, fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	r.startWith(env, files)
	for _, f := range files {
		f.Close()
	}
}

// until takes messages until one that has all the texts.
func (m *manager) until(texts ...string) {
	m.t.Helper()
	late := time.After(patience)
	for {
		m.mu.Lock()
		for m.at < len(m.said) {
			text := m.said[m.at]
			m.at++
			if !slices.ContainsFunc(texts, func(want string) bool { return !strings.Contains(text, want) }) {
				m.mu.Unlock()
				return
			}
		}
		m.mu.Unlock()
		select {
		case <-m.told:
		case <-late:
			m.mu.Lock()
			said := slices.Clone(m.said)
			m.mu.Unlock()
			m.t.Fatalf("waited for %q; so far: %q", texts, said)
		}
	}
}

// stored is how many descriptors there are in the store.
func (m *manager) stored() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.fds)
}

// read takes what the agent says until the socket is closed.
func (m *manager) read() {
	b, oob := make([]byte, 64<<10), make([]byte, 4096)
	for {
		n, rights, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				m.t.Error(err)
			}
			return
		}
		m.mu.Lock()
		m.store(string(b[:n]), oob[:rights])
		m.said = append(m.said, string(b[:n]))
		m.mu.Unlock()
		select {
		case m.told <- struct{}{}:
		default:
		}
	}
}

// store does with descriptors what a message says. m.mu is held.
func (m *manager) store(text string, oob []byte) {
	name := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "FDNAME="); ok {
			name = rest
		}
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		m.t.Error(err)
	}
	for _, c := range messages {
		fds, err := unix.ParseUnixRights(&c)
		if err != nil || len(fds) != 1 || !strings.Contains(text, "FDSTORE=1") {
			m.t.Errorf("%q with descriptors %v: %v", text, fds, err)
			continue
		}
		if _, ok := m.fds[name]; ok {
			m.t.Errorf("%s is stored twice", name)
		}
		m.fds[name] = fds[0]
	}
	if strings.Contains(text, "FDSTOREREMOVE=1") {
		fd, ok := m.fds[name]
		if !ok {
			m.t.Errorf("%s is removed and was not stored", name)
			return
		}
		unix.Close(fd)
		delete(m.fds, name)
	}
}

// The service manager is told what goes on; a pause feeds the watchdog, a
// process that does not go on does not.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	r.edit("[agent]\n", "[agent]\nstop = { seal_timeout = \"3s\" }\n")
	m := newManager(t)
	w := new(ledger).writer(t, r.path("logs", "a.log"))
	w.line()
	m.run(r)
	m.until("READY=1")
	m.until("WATCHDOG=1")
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	m.until("STATUS=paused: app: no data key: revoked (Disabled)")
	w.line()
	for range 3 {
		m.until("WATCHDOG=1")
	}
	r.agent.Process.Signal(syscall.SIGHUP)
	m.until("RELOADING=1\nMONOTONIC_USEC=")
	m.until("READY=1")
	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	m.until("STATUS=1 streams, 1 files")
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	m.until("STATUS=paused")
	w.line()
	before := m.at
	r.agent.Process.Signal(syscall.SIGTERM)
	m.until("STOPPING=1")
	m.at = before // either may come first
	m.until("EXTEND_TIMEOUT_USEC=15000000")
	r.stop()
}

// Deleted files that are not read yet outlive restarts, also by kill -9; and so
// do those that are born and deleted while a pause keeps the agent from sealing
// what it has read.
func TestHeldOverRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log*", quickStream, quickKey)
	r.edit("[agent]\n", "[agent]\nstop = { seal_timeout = \"15s\" }\n")
	m := newManager(t)
	var l ledger
	w := l.writer(t, r.path("logs", "a.log"))
	w.line()
	m.run(r)
	m.until("READY=1")
	r.until("the first line", func() bool { return len(r.open()) == 1 })
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	m.until("STATUS=paused")
	for i := range 3 {
		for range 2000 {
			w.line()
		}
		old := fmt.Sprint(i)
		w.rotate(old)
		w.line()
		r.until("the rotation to be seen", func() bool { s, _ := r.status(); return first(s).Files.Followed == 2 })
		os.Remove(w.name + "." + old)
		m.until("FDSTORE=1")
		if i < 2 {
			r.kill()
		} else {
			r.agent.Process.Signal(syscall.SIGTERM)
			m.until("STOPPING=1")
			passing := l.writer(t, r.path("logs", "passing.log"))
			passing.line()
			r.until("the agent to open what is born while it stops", func() bool { return r.holds(passing.name) })
			os.Remove(passing.name)
			m.until("FDSTORE=1")
			r.stop()
		}
		m.run(r)
		m.until("READY=1")
	}
	if n := m.stored(); n != 4 {
		t.Fatalf("%d descriptors are stored, want 4", n)
	}
	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	r.until("all", func() bool { return len(r.open()) >= l.total() })
	r.until("that nothing is lost", func() bool { _, code := r.status(); return code == 0 })
	r.stop()
	l.check(t, r.open())
}

// Whatever is wrong with services, names, keys and rights at the start, the
// agent starts, waits, says why, and goes on when it is mended.
func TestNothingOutsideEndsTheAgent(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream, key: quickCMK})
	b, err := os.ReadFile(c.path("sealtail.toml"))
	if err != nil {
		t.Fatal(err)
	}
	right := strings.Replace(string(b), shipAll, `stop = { seal_timeout = "200ms", ship_timeout = "200ms" }`, 1)
	dial := fmt.Sprintf("dial_address = %q", c.emulator.Address)
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	for _, tt := range []struct {
		name     string
		old, new string
		code     int
		says     string
	}{
		// No resolver is asked for a label of 64 bytes: what it says of others, and when, depends on the machine.
		{"no name resolves", dial, fmt.Sprintf(`dial_address = "%s.invalid:443"`, strings.Repeat("n", 64)), 3, "no such host"},
		{"nobody listens", dial, `dial_address = "127.0.0.1:1"`, 3, "connection refused"},
		{"no access key", c.path("agent.id"), c.path("nowhere.id"), 3, "nowhere.id"},
		{"no such CMK", c.emulator.CMKs["data"], "no-such-key", 3, "revoked"},
		{"another region", `"` + region + `"`, `"cn-beijing"`, 5, "sink audit refuses"},
	} {
		if !strings.Contains(right, tt.old) {
			t.Fatalf("%s: %q is not in the configuration", tt.name, tt.old)
		}
		c.write("sealtail.toml", strings.ReplaceAll(right, tt.old, tt.new))
		c.start()
		w.line()
		c.until(tt.name, func() bool {
			s, code := c.status()
			return code == tt.code && len(s.Problems) > 0 && strings.Contains(fmt.Sprint(s.Problems), tt.says)
		})
		c.stop()
	}
	c.write("sealtail.toml", right)
	c.start()
	c.until("all", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
}

// After a pause a large file does not keep what is new in others waiting.
func TestBacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	var l ledger
	old := l.writer(t, r.path("logs", "old.log"))
	old.line()
	r.start()
	r.until("the first line", func() bool { return len(r.open()) == 1 })
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	r.until("the pause", func() bool { _, code := r.status(); return code == 3 })
	const backlog = 64 << 20
	appendTo(t, old.name, strings.Repeat(strings.Repeat("x", 1023)+"\n", backlog>>10))
	r.until("the backlog", func() bool { s, _ := r.status(); return first(s).Files.Lag >= backlog })
	fresh := l.writer(t, r.path("logs", "new.log"))
	for range 10 {
		fresh.line()
	}
	r.until("the new file", func() bool { s, _ := r.status(); return first(s).Files.Followed == 2 })
	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	began := time.Now()
	r.until("the end", func() bool {
		s, code := r.status()
		return code == 0 && first(s).Files.Lag == 0 && first(s).Spool.Pending == 0
	})
	t.Logf("%d MiB in %v", backlog>>20, time.Since(began).Round(100*time.Millisecond))
	r.stop()
	// All that is new was sealed before half of what is old was.
	at, news := 0, 0
	for i, o := range r.open() {
		if o.Inode == fresh.inode {
			at, news = i, news+1
		}
	}
	if news != 10 || at > backlog>>11 {
		t.Errorf("%d new lines, the last as record %d", news, at)
	}
}
