package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sealtail/internal/command"
	"sealtail/status"
)

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
