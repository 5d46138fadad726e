package main

import (
	"os"
	"strings"
	"testing"
)

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
