package e2e_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sealtail/status"
)

var suites = []string{"aes-256-gcm", "sm4-gcm"}

// quick makes batches and key life fast enough for a test.
const (
	quickStream = `batch = { max_age = "50ms" }`
	quickKey    = `refresh = "1s"
confirm = "0s"
retry_max = "500ms"
retry_revoked = "500ms"`
)

func TestEveryLineOnce(t *testing.T) {
	t.Parallel()
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, suite, "*.log*", quickStream, "")
			var l ledger
			a, b := l.writer(t, r.path("logs", "a.log")), l.writer(t, r.path("logs", "b.log"))
			for range 1000 {
				a.line() // there before the agent
			}
			r.start()
			for i := range 5000 {
				a.line()
				if i%7 == 0 {
					b.line()
				}
				if i%1000 == 999 {
					a.rotate(fmt.Sprint(i / 1000))
				}
			}
			r.until("all to be opened", func() bool { return len(r.open()) >= l.total() })
			r.stop()
			b.line() // while it is down
			b.rotate("down")
			b.line()
			r.start()
			r.until("all to be opened", func() bool { return len(r.open()) >= l.total() })
			r.stop()
			l.check(t, r.open())
			if out := r.run("sealtail-reader", "verify", "--dir", r.path("sealed"), "--signers", r.path("signers")); !strings.Contains(out, "anchored") {
				t.Errorf("verify says %q, want anchored", out)
			}
		})
	}
}

func TestH59_KillNine(t *testing.T) {
	t.Parallel()
	torture(t, "sm4-gcm", 6, 30*time.Millisecond)
}

// torture kills the agent at random moments while files grow and rotate.
func torture(t *testing.T, suite string, kills int, pace time.Duration) {
	r := newRig(t, suite, "*.log*", quickStream, "")
	var l ledger
	writers := []*writer{l.writer(t, r.path("logs", "a.log")), l.writer(t, r.path("logs", "b.log")), l.writer(t, r.path("logs", "c.log"))}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r.start()
	for kill := range kills {
		end := time.After(pace + time.Duration(random.Int64N(int64(10*pace))))
		for n, running := 0, true; running; n++ {
			select {
			case <-end:
				running = false
			default:
			}
			w := writers[random.IntN(len(writers))]
			for range random.IntN(200) {
				w.line()
			}
			if random.IntN(20) == 0 {
				w.rotate(fmt.Sprintf("%d-%d", kill, n))
			}
			<-time.After(time.Duration(random.IntN(3)) * time.Millisecond)
		}
		r.kill()
		if random.IntN(2) == 0 {
			writers[random.IntN(len(writers))].rotate(fmt.Sprintf("%d-down", kill))
			writers[random.IntN(len(writers))].line()
		}
		r.start()
	}
	for _, w := range writers {
		w.line()
	}
	r.until("all to be opened", func() bool { return len(r.open()) >= l.total() })
	r.stop()
	records := r.open()
	l.check(t, records)
	t.Logf("%d kills, %d lines of %d files opened once", kills, len(records), len(l.lines))
}

// While the key is disabled sealing pauses and the files buffer; enabling it
// lets everything through.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log*", quickStream, quickKey)
	var l ledger
	w := l.writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("the first line", func() bool { return len(r.open()) == 1 })
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	r.until("the pause", func() bool { return r.logged("paused") > 0 })
	before := len(r.open())
	for i := range 20_000 {
		w.line()
		if i%5000 == 0 {
			w.rotate(fmt.Sprint(i))
		}
	}
	if got := len(r.open()); got != before {
		t.Errorf("%d records were sealed in a pause", got-before)
	}
	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	r.until("the rest", func() bool { return len(r.open()) >= l.total() })
	r.stop()
	l.check(t, r.open())
	out := r.run("sealtail-reader", "open", "--format", "json", "--events", "--dir", r.path("sealed"), "--keyring", r.path("offline.json"))
	if !strings.Contains(out, `"pause"`) {
		t.Error("no pause event was sealed")
	}
}

// A line is nowhere but in its own file and in the reader's output.
func TestH81_Canary(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a9c51e2"
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, suite, "*.log", quickStream, "")
			name := r.path("logs", "a.log")
			if err := os.WriteFile(name, []byte(strings.Repeat(canary+"\n", 3)), 0o600); err != nil {
				t.Fatal(err)
			}
			r.start()
			r.until("the canary", func() bool { return len(r.open()) == 3 })
			r.kill()
			r.run("sealtail", "run", "--dry-run", "-c", r.path("sealtail.toml"))
			filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || path == name {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				for _, form := range []string{canary, "Y2FuYXJ5LTdmM2E5YzUxZTI", "63616e6172792d37663361396335316532"} {
					if bytes.Contains(b, []byte(form)) {
						t.Errorf("%s holds the canary", path)
					}
				}
				return nil
			})
			for _, o := range r.open() {
				if o.text(t) != canary {
					t.Errorf("opened %q", o.text(t))
				}
			}
			if out, _, _ := r.try("sealtail", "run", "--dry-run", "-c", r.path("sealtail.toml")); strings.Contains(out, canary) {
				t.Error("dry-run prints the canary unasked")
			}
			if out := r.run("sealtail", "run", "--dry-run", "--show", "-c", r.path("sealtail.toml")); !strings.Contains(out, canary) {
				t.Errorf("dry-run --show does not show the line: %s", out)
			}
		})
	}
}

// start_at = "end" means: as of the stream's very first start.
func TestStartAtEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream+"\nstart_at = \"end\"", "")
	old := r.path("logs", "old.log")
	appendTo(t, old, "before the first start\n")
	r.start()
	r.until("the start", func() bool { return r.logged("started") > 0 })
	r.until("the first entry", func() bool { return len(glob(t, r.path("sealed", "app", "*.se1"))) > 0 })
	appendTo(t, old, "appended\n")
	appendTo(t, r.path("logs", "new.log"), "first line of a new file\n")
	r.until("two lines", func() bool { return len(r.open()) >= 2 })
	r.kill()
	appendTo(t, old, "while down\n")
	appendTo(t, r.path("logs", "born.log"), "born while down\n")
	r.start()
	r.until("four lines", func() bool { return len(r.open()) >= 4 })
	r.stop()
	var got []string
	for _, o := range r.open() {
		got = append(got, o.text(t))
	}
	slices.Sort(got)
	if want := []string{"appended", "born while down", "first line of a new file", "while down"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An unfinished line stays in its file until it is finished.
func TestUnfinishedLineAcrossAStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream+"\nflush_after = \"1h\"", "")
	name := r.path("logs", "a.log")
	appendTo(t, name, "whole\nhal")
	r.start()
	r.until("the whole line", func() bool { return len(r.open()) == 1 })
	r.stop()
	appendTo(t, name, "f\n")
	r.start()
	r.until("the other line", func() bool { return len(r.open()) == 2 })
	r.stop()
	if got := r.open()[1].text(t); got != "half" {
		t.Errorf("got %q, want %q", got, "half")
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", "", "")
	r.start()
	r.until("the start", func() bool { return r.logged("started") > 0 })
	if _, errs, code := r.try("sealtail", "run", "-c", r.path("sealtail.toml")); code != 1 || !strings.Contains(errs, "hint") {
		t.Errorf("got exit %d, %q", code, errs)
	}
	r.stop()
}

func appendTo(t testing.TB, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Files that are born, rotated out of the pattern and left behind by a kill
// while the key is disabled are read when it is back.
func TestRotatedAndKilledInAPause(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	var l ledger
	w := l.writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("the first line", func() bool { return len(r.open()) == 1 })
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	r.until("the pause", func() bool { return r.logged("paused") > 0 })
	for i := range 3 {
		for range 5 {
			w.line()
		}
		r.known(w.name)
		w.rotate(fmt.Sprint(i))
	}
	w.line()
	r.known(w.name)
	r.kill()
	r.start()
	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	r.until("the rest", func() bool { return len(r.open()) >= l.total() })
	r.stop()
	l.check(t, r.open())
}

// What only a deleted file held when the agent ends in a pause is lost, and
// told to the byte.
func TestDeletedInAPause(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"stop", "kill"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
			r.edit("[agent]\n", "[agent]\nstop = { seal_timeout = \"500ms\" }\n")
			taken, born := r.path("logs", "taken.log"), r.path("logs", "born.log")
			appendTo(t, taken, "first\n")
			r.start()
			r.until("the first line", func() bool { return len(r.open()) == 1 })
			r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
			r.until("the pause", func() bool { return r.logged("paused") > 0 })
			appendTo(t, taken, "second\n")
			appendTo(t, born, "only\n")
			r.known(taken, "offset 6, lag 7 bytes")
			r.known(born, "offset 0, lag 5 bytes")
			for _, name := range []string{taken, born} {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			for name, position := range map[string]string{taken: "offset 6, lag 7 bytes", born: "offset 0, lag 5 bytes"} {
				r.known(name, position, "  yes ", "*.log, though nothing is there now", "the agent holds it open", "no data key: revoked")
			}
			r.until("status to count them", func() bool {
				s, code := r.status()
				return code == 3 && first(s).Files.Lag == 12 && first(s).Files.Held > 0
			})
			if end == "stop" {
				r.stop()
			} else {
				r.kill()
			}
			r.known(taken, "offset 6, lag 7 bytes", "  held ", "no agent answers")
			r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
			r.start()
			var out string
			r.until("both losses", func() bool {
				out = r.run("sealtail-reader", "open", "--format", "json", "--events", "--dir", r.path("sealed"), "--keyring", r.path("offline.json"))
				return strings.Count(out, `"event":"loss"`) == 2
			})
			for _, want := range []string{`"from":"6"`, `"to":"13"`, `"from":"0"`, `"to":"5"`} {
				if !strings.Contains(out, want) {
					t.Errorf("the losses do not say %s:\n%s", want, out)
				}
			}
			var s status.Snapshot
			var code int
			r.until("the losses in status", func() bool { s, code = r.status(); return code == 5 && first(s).Ledger.Losses == 2 })
			if g := first(s).Ledger; g.Lost != 12 || g.By["deleted"] != 12 || !reflect.DeepEqual(g.Loss, g.Recent) || g.Newest.IsZero() {
				t.Errorf("ledger %+v", g)
			}
			want := first(s).Ledger
			still := func(what string, began func(status.Snapshot) bool) {
				t.Helper()
				r.until("the "+what, func() bool { s, code = r.status(); return began(s) && first(s).Spool.Recovered })
				if g := first(s).Ledger; code != 5 || !reflect.DeepEqual(g.Loss, want.Loss) || !reflect.DeepEqual(g.Recent, want.Recent) || !g.Newest.Equal(want.Newest) {
					t.Errorf("after a %s: exit %d, ledger %+v, want %+v", what, code, g, want)
				}
			}
			r.edit(`max_age = "50ms"`, `max_age = "51ms"`)
			r.reload("")
			still("reload", func(s status.Snapshot) bool { return s.Process.Reloads == 1 })
			for range 2 { // the second finds it in a snapshot alone
				r.kill()
				r.start()
				still("restart", func(s status.Snapshot) bool { return s.Process.PID == r.agent.Process.Pid })
			}
			r.stop()
		})
	}
}

// A stream that is taken out of the config and put back goes on where it was.
func TestH27_StreamPutBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, "")
	name := r.path("logs", "a.log")
	appendTo(t, name, "one\n")
	r.start()
	r.until("the first line", func() bool { return len(r.open()) == 1 })
	r.stop()
	config, err := os.ReadFile(r.path("sealtail.toml"))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(config), `name = "app"`, `name = "other"`, 1)
	r.write("sealtail.toml", strings.Replace(other, r.path("logs", "*.log"), r.path("none", "*.log"), 1))
	before := r.logged("started")
	r.start()
	r.until("the other stream", func() bool { return r.logged("started") > before })
	appendTo(t, name, "two\n")
	r.stop()
	r.write("sealtail.toml", string(config))
	r.start()
	r.until("the second line", func() bool { return len(r.open()) >= 2 })
	r.stop()
	var got []string
	for _, o := range r.open() {
		got = append(got, o.text(t))
	}
	if want := []string{"one", "two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
