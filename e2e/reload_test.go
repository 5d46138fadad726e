package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sealtail/status"
)

// reload has the configuration read again and waits until that took effect, or
// with refused until it was refused for that reason.
func (r *rig) reload(refused string) {
	r.t.Helper()
	before, _ := r.status()
	r.agent.Process.Signal(syscall.SIGHUP)
	r.until("the reload", func() bool {
		r.runs()
		s, _ := r.status()
		if refused != "" {
			return s.Process.Reloaded.After(before.Process.Reloaded) && strings.Contains(s.Process.ReloadError, refused)
		}
		return s.Process.Reloads > before.Process.Reloads && s.Process.Phase == "running"
	})
}

// Streams change, come and go under load: only those that changed begin anew,
// and every line is opened once.
func TestH78_Reload(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "a.log*", quickStream, quickKey)
	stream := func(name, include, more string) string {
		return fmt.Sprintf("\n[[stream]]\nname = %q\ninclude = [%q]\nsuite = \"sm4-gcm\"\nkey = \"main\"\nsink = \"archive\"\n%s\n", name, r.path("logs", include), more)
	}
	base, err := os.ReadFile(r.path("sealtail.toml"))
	if err != nil {
		t.Fatal(err)
	}
	other := stream("other", "b.log*", quickStream)
	config := func(text string) { r.write("sealtail.toml", text) }
	config(string(base) + other)
	var l ledger
	var load sync.WaitGroup
	stop := make(chan struct{})
	for _, name := range []string{"a.log", "b.log", "c.log"} {
		w := l.writer(t, r.path("logs", name))
		load.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for n := 1; ; n++ {
				select {
				case <-tick.C:
				case <-stop:
					return
				}
				w.line()
				if n%1500 == 0 {
					w.rotate(fmt.Sprint(n))
				}
			}
		})
	}
	r.start()
	r.until("the first lines", func() bool { return len(r.open()) > 0 })

	changed := strings.Replace(string(base), quickStream, `batch = { max_age = "20ms", level = "better" }`, 1)
	third := stream("third", "c.log*", `batch = { max_age = "50ms" }`)
	for range 2 {
		config(changed + other)
		r.reload("")
		config(changed + other + third)
		r.reload("")
		r.until("lines of the new stream", func() bool {
			s, _ := r.status()
			return len(s.Streams) == 3 && s.Streams[2].Sealed.Records > 0
		})
		config(string(base) + other)
		r.reload("")
	}
	config(string(base) + other + "[[stream]]\n")
	r.reload("stream[2]")
	config(strings.Replace(string(base), "[agent]\n", "[agent]\nsm4_engine = \"tjfoc\"\n", 1) + other + third)
	r.reload("")
	s, code := r.status()
	if code != 5 || strings.Join(s.Process.Restart, " ") != "agent.sm4_engine" {
		t.Errorf("exit %d, waits for a restart: %q", code, s.Process.Restart)
	}
	close(stop)
	load.Wait()
	r.until("all to be opened", func() bool { return len(r.open()) >= l.total() })
	r.stop()
	l.check(t, r.open())
	for stream, want := range map[string]int{"app": 4 + 1, "other": 1, "third": 2 + 1} {
		if got := r.logged(fmt.Sprintf(`stream stopped {"stream": %q`, stream)); got != want {
			t.Errorf("stream %s ended %d times, want %d", stream, got, want)
		}
	}
}

// A reload in a pause keeps the deleted files that are not read yet.
func TestReloadInAPause(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log*", quickStream, quickKey)
	r.edit("[agent]\n", "[agent]\nstop = { seal_timeout = \"500ms\" }\n")
	var l ledger
	w := l.writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("the first line", func() bool { return len(r.open()) == 1 })
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	r.until("the pause", func() bool { _, code := r.status(); return code == 3 })
	for range 20_000 {
		w.line()
	}
	w.rotate("1")
	w.line()
	r.until("the rotation to be seen", func() bool { s, _ := r.status(); return first(s).Files.Followed == 2 })
	os.Remove(w.name + ".1")
	r.until("the file to be held", func() bool { s, _ := r.status(); return first(s).Files.Held > 0 })
	for i := range 2 {
		r.edit(fmt.Sprintf(`max_age = "%dms"`, 50+i), fmt.Sprintf(`max_age = "%dms"`, 51+i))
		r.reload("")
	}
	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	r.until("all", func() bool { return len(r.open()) >= l.total() })
	if s, _ := r.status(); first(s).Ledger.Losses != 0 {
		t.Errorf("lost: %+v", first(s).Ledger)
	}
	r.stop()
	l.check(t, r.open())
}

// Until all streams have drained, in a pause as well, the agent looks after the
// files of each: of what is born and deleted meanwhile the next start knows how
// much is lost.
func TestFilesWhileDraining(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	if err := os.Mkdir(r.path("more"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.edit("[agent]\n", "[agent]\nstop = { seal_timeout = \"100ms\", ship_timeout = \"10m\" }\n")
	r.edit("[[stream]]\n", fmt.Sprintf(`[sink.more]
type = "dir"
path = %q

[[stream]]
name = "more"
include = [%q]
suite = "sm4-gcm"
key = "main"
sink = "more"

[[stream]]
`, r.path("sealed-more"), r.path("more", "*.log")))
	r.write("sealed", "in the way")
	var l ledger
	w := l.writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("a batch in the spool", func() bool { s, _ := r.status(); return len(s.Streams) == 2 && s.Streams[1].Spool.Pending > 0 })
	r.run("sealtail", "keyring", "disable", "-f", r.path("public.json"))
	r.until("the pause", func() bool { _, code := r.status(); return code == 3 })
	w.line() // so that sealing waits
	r.agent.Process.Signal(syscall.SIGTERM)
	r.until("the stop", func() bool { return r.logged("INFO stopping") > 0 })
	const line = "passing\n"
	for _, dir := range []string{"logs", "more"} {
		passing := r.path(dir, "passing.log")
		r.write(filepath.Join(dir, "passing"), line)
		if err := os.Rename(r.path(dir, "passing"), passing); err != nil {
			t.Fatal(err)
		}
		r.known(passing)
		if err := os.Remove(passing); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(r.path("sealed")); err != nil {
		t.Fatal(err)
	}
	<-r.exited
	r.run("sealtail", "keyring", "enable", "-f", r.path("public.json"))
	r.start()
	r.until("both losses to be told", func() bool {
		s, _ := r.status()
		return len(s.Streams) == 2 && s.Streams[0].Ledger.Losses == 1 && s.Streams[1].Ledger.Losses == 1
	})
	s, _ := r.status()
	for _, got := range s.Streams {
		if got.Ledger.Lost != int64(len(line)) {
			t.Errorf("stream %s: %d bytes are told as lost, want %d", got.Name, got.Ledger.Lost, len(line))
		}
	}
	r.stop()
}

// A keyring that lost a key under which spooled batches are sealed is refused
// until the key is back or the batches are shipped.
func TestReloadOfAKeyring(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	r.write("sealed", "in the way")
	w := new(ledger).writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("a batch in the spool", func() bool { s, code := r.status(); return code == 5 && first(s).Spool.Pending > 0 })
	r.run("sealtail", "keyring", "new", "-f", r.path("new.json"), "--kind", "hpke-mlkem768-x25519")
	r.run("sealtail", "keyring", "export-public", "-f", r.path("new.json"), "--out", r.path("new-public.json"))
	r.edit(r.path("public.json"), r.path("new-public.json"))
	r.reload("lost key hpke-mlkem768-x25519-")
	s, _ := r.status()
	if key := first(s).Key; key.State != "ready" && key.State != "refreshing" {
		t.Errorf("the key before is not in use: %+v", key)
	}
	os.Remove(r.path("sealed"))
	r.until("all to be shipped", func() bool { s, _ := r.status(); return first(s).Spool.Pending == 0 })
	r.reload("")
	r.until("the new key", func() bool {
		s, code := r.status()
		return code == 0 && first(s).Key.ID != "" && !strings.Contains(first(s).Key.ID, "lost")
	})
	r.stop()
}

// A keyring file that is replaced by one without a key under which spooled
// batches are sealed is refused: as soon as it is read again, by a reload, at a
// restart, and by check, until the key is had somewhere or the batches are shipped.
func TestKeyringThatLostAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
	r.edit("[agent]\n", "[agent]\nstop = { seal_timeout = \"100ms\", ship_timeout = \"100ms\" }\n")
	r.write("sealed", "in the way")
	l := new(ledger)
	w := l.writer(t, r.path("logs", "a.log"))
	w.line()
	r.start()
	r.until("a batch in the spool", func() bool { s, code := r.status(); return code == 5 && first(s).Spool.Pending > 0 })
	s, _ := r.status()
	if len(first(s).Spool.Keys) != 1 {
		t.Fatalf("the spool names %q", first(s).Spool.Keys)
	}
	old := first(s).Spool.Keys[0]
	r.run("sealtail", "keyring", "new", "-f", r.path("new.json"), "--kind", "hpke-mlkem768-x25519")
	r.run("sealtail", "keyring", "export-public", "-f", r.path("new.json"), "--out", r.path("new-public.json"))
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(r.path(from), r.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	rename("public.json", "old-public.json")
	rename("new-public.json", "public.json")
	refused := func() {
		t.Helper()
		r.until("the refusal", func() bool {
			s, code := r.status()
			return code == 3 && first(s).Key.Code == "LostKey" && strings.Contains(first(s).Paused.Why, "lost key "+old+", under which")
		})
		if out, _, _ := r.try("sealtail", "status", "-c", r.path("sealtail.toml")); !strings.Contains(out, "fix: put the key back") {
			t.Errorf("status says %s", out)
		}
		if _, errs, code := r.try("sealtail", "check", "-c", r.path("sealtail.toml")); code != 78 || !strings.Contains(errs, "lost key "+old) {
			t.Errorf("check: exit %d: %s", code, errs)
		}
	}
	refused()
	w.line()
	r.reload("lost key " + old)
	refused()
	r.stop()
	r.start()
	refused()

	// The key is had in another keyring that the configuration names.
	keep := fmt.Sprintf("\n[key.old]\nprovider = \"keyring\"\nfile = %q\n", r.path("old-public.json"))
	before, err := os.ReadFile(r.path("sealtail.toml"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("sealtail.toml", string(before)+keep)
	r.reload("")
	r.until("the new key", func() bool {
		s, _ := r.status()
		return first(s).Key.ID != "" && first(s).Key.ID != old && len(first(s).Spool.Keys) == 2
	})
	if _, errs, _ := r.try("sealtail", "check", "-c", r.path("sealtail.toml")); strings.Contains(errs, "lost key") {
		t.Errorf("check: %s", errs)
	}
	r.write("sealtail.toml", string(before))
	r.reload("lost key " + old)

	os.Remove(r.path("sealed"))
	r.until("all to be shipped", func() bool { s, _ := r.status(); return first(s).Spool.Pending == 0 && first(s).Sealed.Records > 0 })
	r.reload("")
	r.until("that all is well", func() bool { _, code := r.status(); return code == 0 })
	r.stop()
	l.check(t, r.printed(r.run("sealtail-reader", "open", "--format", "json", "--dir", r.path("sealed"),
		"--keyring", r.path("offline.json"), "--keyring", r.path("new.json"), "--signers", r.path("signers"))))
}

// A key under which spooled batches are sealed, and that the keyring says is
// destroyed, was given up: sealing goes on under the new primary at once, and
// what that means for the batches is told.
func TestKeyringWhereAKeyIsDestroyed(t *testing.T) {
	t.Parallel()
	r := newRig(t, "sm4-gcm", "*.log", quickStream, quickKey)
	r.edit("[agent]\n", "[agent]\nstop = { seal_timeout = \"100ms\", ship_timeout = \"100ms\" }\n")
	r.write("sealed", "in the way")
	new(ledger).writer(t, r.path("logs", "a.log")).line()
	r.start()
	r.until("a batch in the spool", func() bool { s, _ := r.status(); return first(s).Spool.Pending > 0 })
	s, _ := r.status()
	old := first(s).Key.ID
	r.run("sealtail", "keyring", "rotate", "-f", r.path("offline.json"))
	r.run("sealtail", "keyring", "destroy", "-f", r.path("offline.json"), old)
	r.run("sealtail", "keyring", "export-public", "-f", r.path("offline.json"), "--out", r.path("new.json"))
	if err := os.Rename(r.path("new.json"), r.path("public.json")); err != nil {
		t.Fatal(err)
	}
	r.until("the new key, and the word of the old", func() bool {
		s, code := r.status()
		return code == 5 && first(s).Key.ID != "" && first(s).Key.ID != old && first(s).Key.Rotated == 2 &&
			strings.Join(first(s).Spool.Destroyed, " ") == old && s.Problems[0].Severity == status.Lost && strings.Contains(s.Problems[0].What, "key "+old+", which is destroyed")
	})
	if _, errs, _ := r.try("sealtail", "check", "-c", r.path("sealtail.toml")); !strings.Contains(errs, "warning: ") || !strings.Contains(errs, "key "+old+", which is destroyed") {
		t.Errorf("check: %s", errs)
	}
	if r.logged("keys are destroyed under which batches in the spool are sealed") == 0 {
		t.Error("the log does not tell it")
	}
	r.stop()
}
