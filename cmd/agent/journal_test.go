package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
)

// TestJournalPriorities gives the journal levels that it can filter by, and
// nobody else a prefix.
func TestJournalPriorities(t *testing.T) {
	for _, journal := range []bool{true, false} {
		name := filepath.Join(t.TempDir(), "stderr")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
		if !journal {
			t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino+1)) // it reads somebody else
		}
		log := newLog(f).With(zap.String("stream", "app"))
		log.Info("went on")
		log.Warn("waits")
		log.Error("lost")
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if len(lines) != 3 {
			t.Fatalf("got %q, want three lines", lines)
		}
		for i, want := range []struct{ prefix, rest string }{{"<6>", "INFO went on"}, {"<4>", "WARN waits"}, {"<3>", "ERROR lost"}} {
			rest, found := strings.CutPrefix(lines[i], want.prefix)
			if found != journal || !strings.Contains(rest, " "+want.rest+` {"stream": "app"}`) {
				t.Errorf("journal %t: got %q", journal, lines[i])
			}
		}
	}
}
