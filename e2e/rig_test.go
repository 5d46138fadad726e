// Package e2e_test runs the binaries as a user does, on real files, and
// compares what the reader opens with what was written.
package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bin is where the binaries are.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "sealtail-e2e"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		for name, pkg := range map[string]string{
			"sealtail": "./cmd/agent", "sealtail-reader": "./cmd/reader", "sealtail-emulator": "./cmd/emulator",
		} {
			build := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
			build.Dir = ".."
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// lookAtSources has go test know that results depend on every source file: it
// notes what a test looks at.
var lookAtSources = sync.OnceValue(func() error {
	return filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			_, err = os.Stat(path)
		}
		return err
	})
})

// patience bounds what is waited for: it only ends what would never end.
const patience = 5 * time.Minute

// A rig is one agent with its files: logs in logs/, state in state/, sealed
// batches in sealed/. The agent holds the public half of the keyring only.
type rig struct {
	t     testing.TB
	dir   string
	suite string
	env   []string // of all binaries, besides the test's own
	log   string   // file of the agent's own log

	agent  *exec.Cmd
	exited chan struct{} // closed when the agent has ended
	err    error         // how; set before exited is closed
}

// bareRig returns a rig without a config.
func bareRig(t testing.TB, suite string) *rig {
	t.Helper()
	if err := lookAtSources(); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: t.TempDir(), suite: suite}
	r.log = r.path("agent.log")
	if err := os.Mkdir(r.path("logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			if b, err := os.ReadFile(r.log); err == nil {
				t.Logf("the agent's log:\n%s", b[max(0, len(b)-4000):])
			}
		}
	})
	return r
}

// newRig writes the keyrings and a config of one stream, "app", over
// logs/include. Lines of stream are added to its table, lines of key to the
// key's.
func newRig(t testing.TB, suite, include, stream, key string) *rig {
	t.Helper()
	r := bareRig(t, suite)
	r.run("sealtail", "keyring", "new", "-f", r.path("offline.json"), "--kind", "hpke-mlkem768-x25519")
	r.run("sealtail", "keyring", "export-public", "-f", r.path("offline.json"), "--out", r.path("public.json"))
	r.write("sealtail.toml", fmt.Sprintf(`
[agent]
state_dir = %q
host = "host-1"

[key.main]
provider = "keyring"
file = %q
%s

[sink.archive]
type = "dir"
path = %q
retry_max = "2s"

[[stream]]
name = "app"
include = [%q]
suite = %q
key = "main"
sink = "archive"
%s
`, r.path("state"), r.path("public.json"), key, r.path("sealed"), r.path("logs", include), suite, stream))
	r.signers()
	return r
}

func (r *rig) path(name ...string) string {
	return filepath.Join(append([]string{r.dir}, name...)...)
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// run runs a binary that has to succeed.
func (r *rig) run(name string, args ...string) string {
	r.t.Helper()
	out, errs, code := r.try(name, args...)
	if code != 0 {
		r.t.Fatalf("%s %s: exit %d\n%s%s", name, strings.Join(args, " "), code, out[:min(len(out), 2000)], errs)
	}
	return out
}

func (r *rig) try(name string, args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), r.env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// start starts the agent; its log is appended to.
func (r *rig) start() {
	r.t.Helper()
	r.startWith(nil, nil)
}

// startWith does it with more in its environment, and with files from
// descriptor 3 on. LISTEN_PID is the agent's.
func (r *rig) startWith(env []string, files []*os.File) {
	r.t.Helper()
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.agent = exec.Command(filepath.Join(bin, "sealtail"), "run", "-c", r.path("sealtail.toml"))
	r.agent.Stderr = log
	r.agent.Env = append(append(os.Environ(), r.env...), env...)
	r.agent.ExtraFiles = files
	if len(files) > 0 {
		// Only the process itself knows its id beforehand.
		r.agent.Path = "/bin/sh"
		r.agent.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, r.agent.Args...)
	}
	if err := r.agent.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.exited = make(chan struct{})
	go func(agent *exec.Cmd, exited chan<- struct{}) {
		r.err = agent.Wait()
		close(exited)
	}(r.agent, r.exited)
}

// kill ends the agent as a power cut would, as far as a process can be.
func (r *rig) kill() {
	if r.agent != nil {
		r.agent.Process.Kill()
		<-r.exited
		r.agent = nil
	}
}

// stop ends the agent with TERM and wants it to exit with 0.
func (r *rig) stop() {
	r.t.Helper()
	r.agent.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
		r.agent = nil
		if r.err != nil {
			r.t.Errorf("the agent ended with %v", r.err)
		}
	case <-time.After(patience):
		r.t.Fatal("the agent does not stop")
	}
}

// until waits for what another process does.
func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// known waits until the spool has a position of the file that is, or was last,
// at the path, and explain says all that of it.
func (r *rig) known(path string, says ...string) {
	r.t.Helper()
	r.until("what is known of "+path, func() bool {
		out, _, _ := r.try("sealtail", "explain", path, "-c", r.path("sealtail.toml"))
		for _, text := range append(says, "  position  offset ") {
			if !strings.Contains(out, text) {
				return false
			}
		}
		return !strings.Contains(out, "  content ") // of another file, or of an earlier one there
	})
}

// holds reports whether the agent has a file open.
func (r *rig) holds(path string) bool {
	fds := fmt.Sprintf("/proc/%d/fd", r.agent.Process.Pid)
	open, err := os.ReadDir(fds)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, fd := range open {
		if name, _ := os.Readlink(filepath.Join(fds, fd.Name())); name == path {
			return true
		}
	}
	return false
}

func (r *rig) logged(text string) int {
	b, _ := os.ReadFile(r.log)
	return strings.Count(string(b), text)
}

// An opened record as the reader prints it.
type opened struct {
	Stream, Host, Path string
	Inode              uint64
	Offset             int64
	Content            *string
	Base64             *string `json:"content_base64"`
	Event              string
	Time, Source       string
	Tags               map[string]string
	Incomplete         string
}

func (o opened) text(t testing.TB) string {
	if o.Content != nil {
		return *o.Content
	}
	if o.Base64 == nil {
		t.Fatalf("record without content: %+v", o)
	}
	b, err := base64.StdEncoding.DecodeString(*o.Base64)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// open opens everything that was sealed, the chain being whole.
func (r *rig) open() (records []opened) {
	r.t.Helper()
	if len(glob(r.t, r.path("sealed", "app", "*.se1"))) == 0 {
		return nil
	}
	return r.printed(r.run("sealtail-reader", "open", "--format", "json", "--dir", r.path("sealed"),
		"--keyring", r.path("offline.json"), "--signers", r.path("signers")))
}

// printed reads what the reader prints as JSON.
func (r *rig) printed(out string) (records []opened) {
	r.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var o opened
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			r.t.Fatal(err)
		}
		records = append(records, o)
	}
	return records
}

// signers writes the file that names the host's keys, as they are now.
func (r *rig) signers() {
	r.t.Helper()
	r.write("signers", r.run("sealtail", "identity", "-c", r.path("sealtail.toml")))
}

// A ledger is what was written: the lines of each file, by inode.
type ledger struct {
	mu    sync.Mutex
	lines map[uint64][]string
}

// A writer appends numbered lines to one file and notes them.
type writer struct {
	t      *testing.T
	ledger *ledger
	name   string
	f      *os.File
	inode  uint64
	n      int
}

func (l *ledger) writer(t *testing.T, name string) *writer {
	w := &writer{t: t, ledger: l, name: name}
	w.create()
	return w
}

func (w *writer) create() {
	f, err := os.OpenFile(w.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	w.f, w.inode = f, info.Sys().(*syscall.Stat_t).Ino
}

// line appends one line of some length.
func (w *writer) line() {
	w.n++
	line := fmt.Sprintf("%s %08d %s", filepath.Base(w.name), w.n, strings.Repeat("lorem ipsum ", w.n%17))
	if _, err := w.f.WriteString(line + "\n"); err != nil {
		w.t.Fatal(err)
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	if w.ledger.lines == nil {
		w.ledger.lines = make(map[uint64][]string)
	}
	w.ledger.lines[w.inode] = append(w.ledger.lines[w.inode], line)
}

// rotate renames the file to name + "." + to and begins a new one.
func (w *writer) rotate(to string) {
	if err := os.Rename(w.name, w.name+"."+to); err != nil {
		w.t.Fatal(err)
	}
	w.f.Close()
	w.create()
}

func (l *ledger) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lines := range l.lines {
		n += len(lines)
	}
	return n
}

// check compares what was opened with what was written: every line of every
// file once, in the order of the file.
func (l *ledger) check(t *testing.T, records []opened) {
	t.Helper()
	got := make(map[uint64][]string)
	for _, o := range records {
		got[o.Inode] = append(got[o.Inode], o.text(t))
	}
	for inode, want := range l.lines {
		have := got[inode]
		for i := range max(len(want), len(have)) {
			if i >= len(want) || i >= len(have) || want[i] != have[i] {
				t.Errorf("inode %d: line %d of %d opened, %d written: got %q, want %q",
					inode, i, len(have), len(want), at(have, i), at(want, i))
				break
			}
		}
		delete(got, inode)
	}
	for inode, lines := range got {
		t.Errorf("inode %d: %d lines opened that were not written: %q …", inode, len(lines), at(lines, 0))
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "nothing"
}
