package main

import (
	"os"
	"strings"
	"testing"
)

func TestPoliciesOf(t *testing.T) {
	got := policiesOf("# sink a: Logstore b of project c\n\n# trust: for the role r\n# a note\n{\n}\n\n# managed: for the role r\n# attach it: by its name\n\n# sealtail-agent: for the agent\n{}\n")
	if strings.TrimSpace(got["trust"]) != "{\n}" || strings.TrimSpace(got["sealtail-agent"]) != "{}" || strings.TrimSpace(got["managed"]) != "" {
		t.Errorf("got %q", got)
	}
}

// What the tour misses it names, and nothing else.
func TestNothingSealed(t *testing.T) {
	tour := &tour{dir: t.TempDir(), logs: &logs{}}
	if err := os.Mkdir(tour.path("store"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := tour.anEnvelope("audit"); err == nil || strings.Contains(err.Error(), "%!") {
		t.Errorf("got %v", err)
	}
	if err := tour.tamper(t.Context()); err == nil || strings.Contains(err.Error(), "%!") {
		t.Errorf("got %v", err)
	}
}
