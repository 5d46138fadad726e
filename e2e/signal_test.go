package e2e_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// hand writes text to the process that reads the FIFO name, once it does.
func (r *rig) hand(name, text string, before func()) {
	r.t.Helper()
	var f *os.File
	r.until("a reader of "+name, func() (ok bool) {
		r.runs()
		fd, err := syscall.Open(name, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		f = os.NewFile(uintptr(fd), name)
		return err == nil
	})
	before()
	if _, err := f.WriteString(text); err != nil {
		r.t.Error(err)
	}
	f.Close()
}

// runs wants the agent not to have ended.
func (r *rig) runs() {
	r.t.Helper()
	select {
	case <-r.exited:
		r.t.Fatalf("the agent ended with %v", r.err)
	default:
	}
}

// Signals that come while the configuration is not read yet are heeded once it is.
func TestSignalsAtTheStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
	}{{"HUP", syscall.SIGHUP}, {"TERM", syscall.SIGTERM}, {"INT", syscall.SIGINT}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "aes-256-gcm", "*.log", quickStream, quickKey)
			file := r.path("sealtail.toml")
			config, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(file, 0o600); err != nil {
				t.Fatal(err)
			}
			logged := func(text string) bool {
				r.runs()
				b, _ := os.ReadFile(r.log)
				return strings.Contains(string(b), text)
			}
			r.start()
			r.hand(file, string(config), func() { r.agent.Process.Signal(c.signal) })
			if c.signal == syscall.SIGHUP {
				r.until("the start", func() bool { return logged(" started ") })
				r.hand(file, string(config), func() {})
				r.until("the reload", func() bool { return logged(" reloaded ") })
			}
			r.stop() // or it has ended: TERM changes nothing
		})
	}
}
