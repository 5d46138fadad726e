// Package commandtest runs the stories of a program's users at the command
// line. Each file of testdata/script is one, in the language of [testscript].
package commandtest

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Scripts runs each story, in an environment that env completes. In a story,
//
//	exits CODE COMMAND …
//
// is exec with the exit code that is wanted.
func Scripts(t *testing.T, env func(*testscript.Env)) {
	const dir = "testdata/script"
	stories, err := os.ReadDir(dir)
	if err != nil || len(stories) == 0 {
		t.Fatalf("no story in %s: %v", dir, err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command of a -race run ends a second late
			env(e)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("got exit code %d, want %d", got, want)
	}
}
