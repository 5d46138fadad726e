//go:build torture

package e2e_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"sealtail/internal/rootcore"
	"sealtail/seal"
	"sealtail/seal/keyring"
)

// Root takes cores of the running agent. The data key in use is in none that
// leaves out what the agent excludes; one used before is not even in a core of
// all pages, after a rotation as between the last wipe and the exit.
func TestNoKeyInAgentsCore(t *testing.T) {
	rootcore.Need(t)
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			canary := rand.Text() // is in the agent's ordinary memory, as part of its configuration
			r := newRig(t, suite, "*.log", quickStream+fmt.Sprintf("\ntags = { canary = %q }", canary), "dek_max_batches = 16\n")
			r.start()
			patterns := map[string][]byte{"canary": []byte(canary)}
			keys, lines := 0, 0
			sealUntil := func(want int) {
				for keys < want {
					lines++
					appendTo(t, r.path("logs", "a.log"), fmt.Sprintf("line %d\n", lines))
					r.until("it to be sealed", func() bool { return len(r.open()) == lines })
					deks := r.dataKeys()
					for i, dek := range deks {
						patterns[fmt.Sprintf("data key %d", i)] = dek
						patterns[fmt.Sprintf("data key %d in base64", i)] = []byte(base64.StdEncoding.EncodeToString(dek))[:42]
						patterns[fmt.Sprintf("data key %d in hex", i)] = []byte(hex.EncodeToString(dek))
					}
					keys = len(deks)
				}
			}
			wants := func(when, core string, want ...string) {
				t.Helper()
				if found := rootcore.Find(t, core, patterns); !slices.Equal(found, want) {
					t.Errorf("in a core %s: got %q, want %q", when, found, want)
				}
			}
			pid := r.agent.Process.Pid
			sealUntil(1)
			wants("without what is excluded", rootcore.Take(t, pid, rootcore.Usual), "canary")
			sealUntil(2)
			wants("of all pages after a rotation", rootcore.Take(t, pid, rootcore.All), "canary", "data key 1")
			wants("of all pages at the exit", rootcore.TakeAtExit(t, pid, rootcore.All, func() { r.agent.Process.Signal(syscall.SIGTERM) }), "canary")
			r.stop()
			if n := len(r.dataKeys()); n != keys {
				t.Errorf("%d data keys were used, %d were looked for", n, keys)
			}
		})
	}
}

// dataKeys returns the data keys of all envelopes, in the order of use.
func (r *rig) dataKeys() (deks [][]byte) {
	r.t.Helper()
	seen := make(map[string]bool)
	for _, env := range r.envelopes() {
		e, err := seal.Parse(env)
		if err != nil {
			r.t.Fatal(err)
		}
		wrapped := string(e.Recipients[0].Wrapped)
		if seen[wrapped] {
			continue
		}
		seen[wrapped] = true
		dek, err := seal.Unwrap(r.t.Context(), &e.Header, e.Recipients, keyring.Open(r.path("offline.json")))
		if err != nil {
			r.t.Fatal(err)
		}
		deks = append(deks, slices.Clone(dek.Bytes()))
		dek.Wipe()
	}
	return deks
}
