//go:build torture

package seal_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"sealtail/internal/rootcore"
)

// A core that root takes of a process that hides its memory holds no data key,
// nor what comes of one: while it is in use since its pages are left out, and
// later, even of a core of all pages, since it is wiped.
func TestNoKeyInCore(t *testing.T) {
	if os.Getenv(memoryChild) != "" {
		t.Skip("in the child")
	}
	rootcore.Need(t)
	for _, suite := range suites {
		for _, end := range []string{"revoke", "stop"} {
			t.Run(suite.String()+" "+end, func(t *testing.T) {
				c := startChild(t, suite)
				c.do("hide")
				c.do("seal")
				traces := tracesOf(suite, c.deks[0], c.header)
				if end == "stop" {
					c.wantInCore(rootcore.Usual, traces)
				} else {
					c.do("rotate")
					traces["the newer data key"] = c.deks[len(c.deks)-1]
					c.wantInCore(rootcore.All, traces, "the newer data key")
				}
				c.do(end)
				c.wantInCore(rootcore.All, traces)
			})
		}
	}
}

// wantInCore takes a core of the child and fails unless just these patterns, and
// the canary, are in it.
func (c *child) wantInCore(pages rootcore.Pages, patterns map[string][]byte, want ...string) {
	c.t.Helper()
	patterns["canary"] = bytes.Clone(c.canary)
	found := rootcore.Find(c.t, rootcore.Take(c.t, c.cmd.Process.Pid, pages), patterns)
	if want = append([]string{"canary"}, want...); !slices.Equal(found, want) {
		c.t.Errorf("in a core (of all pages: %v): got %q, want %q", pages, found, want)
	}
}
