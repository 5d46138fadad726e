package main

import (
	"os"
	"path/filepath"
	"testing"

	"sealtail/conf"
)

// check warns of swap, and only where there is some.
func TestCheckWarnsOfSwap(t *testing.T) {
	const heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for text, want := range map[string]int{
		"":      0,
		heading: 0,
		heading + "/dev/sda2 partition 1048572 0 -2\n": 1,
	} {
		swaps := filepath.Join(t.TempDir(), "swaps")
		if err := os.WriteFile(swaps, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := &checking{cfg: new(conf.Config)}
		c.memory(swaps)
		if len(c.warnings) != want {
			t.Errorf("%q: got %v, want %d warnings", text, c.warnings, want)
		}
	}
}
