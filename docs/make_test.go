package docs_test

import (
	"os"
	"strings"
	"testing"
)

// TestMakeTargets wants CONTRIBUTING.md to have every target of the Makefile,
// and no other.
func TestMakeTargets(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for line := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			documented[name] = true
		}
	}
	targets := 0
	for line := range strings.Lines(string(makefile)) {
		names, ok := strings.CutPrefix(line, ".PHONY:")
		if !ok {
			continue
		}
		for _, name := range strings.Fields(names) {
			targets++
			if !documented[name] {
				t.Errorf("CONTRIBUTING.md has no make %s", name)
			}
			delete(documented, name)
		}
	}
	if targets == 0 {
		t.Error("no target in the Makefile")
	}
	for name := range documented {
		t.Errorf("CONTRIBUTING.md has make %s, the Makefile not", name)
	}
}
