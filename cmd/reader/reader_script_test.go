package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sealtail-reader": main,
		"sealed":          sealed,
		"join":            join,
		"flip":            flip,
	})
}

// Each file of testdata/script is one story of a user at the command line.
// "exits CODE COMMAND …" is exec with the exit code that is wanted.
func TestScript(t *testing.T) {
	stories, err := os.ReadDir("testdata/script")
	if err != nil || len(stories) == 0 {
		t.Fatalf("no story in testdata/script: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", e.WorkDir)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command of a -race run ends a second late
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
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
			},
		},
	})
}
