package emul_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestDocument holds the control API against docs/EMULATOR.md.
func TestDocument(t *testing.T) {
	routes := func(file, pattern string) []string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(b, -1) {
			found = append(found, string(m[1]))
		}
		slices.Sort(found)
		return found
	}
	served := routes("control.go", `"((?:GET|PUT|POST|DELETE) /control/[^"]*)"`)
	told := routes("../docs/EMULATOR.md", "(?m)^\\| `((?:GET|PUT|POST|DELETE) /control/[^`]*)`")
	if len(served) < 15 || !slices.Equal(served, told) {
		t.Errorf("served:\n%q\ntold:\n%q", served, told)
	}
}
