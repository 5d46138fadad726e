package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealtail/internal/command"
	"sealtail/status"
)

// A file that cannot be read keeps nobody from asking: the hint can be typed.
func TestStatusOfAWrongFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(file, []byte("[agent\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, ok := errors.AsType[*command.Failure](statusCommand([]string{"-c", file}, io.Discard))
	if !ok || f.Code != 78 || !strings.Contains(f.Hint, "mend "+file) || !strings.HasSuffix(f.Hint, "--state-dir /var/lib/sealtail") {
		t.Errorf("got %+v", f)
	}
}

// Who gets no snapshot is told why, and not to be another user if that cannot
// help.
func TestUnanswered(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		hint string
	}{
		{status.ErrNotRunning, 4, "journalctl"},
		{fmt.Errorf("%w: process 7", status.ErrNoAnswer), 4, "SIGSTOP"},
		{errors.New("permission denied"), 1, "run this as root"},
	} {
		f, ok := errors.AsType[*command.Failure](unanswered(tt.err))
		if !ok || f.Code != tt.code || !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("%v: got %+v, want exit %d and %q", tt.err, f, tt.code, tt.hint)
		}
	}
}
