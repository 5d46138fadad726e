// Demo is a tour of sealtail that takes less than a minute:
//
//	go run ./cmd/demo [--bin DIR] [--act 1|2] [--keep]
//
// Act one runs the real agent on files that it grows and rotates, kills it,
// takes its key away and gives it back, tampers with what was shipped, opens
// all of it with the reader and counts. Act two ships to an encrypted Logstore
// of the emulator, and takes away both master keys in turn. The exit code is 0
// only if every line came back exactly once. Everything happens in a temporary
// directory and on loopback addresses.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "", "use the programs in `DIR` instead of building them")
	act := flag.Int("act", 0, "`1` or 2: this act alone")
	keep := flag.Bool("keep", false, "keep the directory of the tour")
	flag.Parse()
	if flag.NArg() > 0 || *act < 0 || *act > 2 {
		flag.Usage()
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *act, *keep); err != nil {
		fmt.Printf("\nFAILED: %v\n", err)
		os.Exit(1)
	}
}

// A step is one scene of an act.
type step = func(context.Context) error

func run(ctx context.Context, bin string, act int, keep bool) error {
	dir, err := os.MkdirTemp("", "sealtail-demo-")
	if err != nil {
		return err
	}
	if keep {
		defer fmt.Printf("\nKept: %s\n", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	if bin, err = binaries(ctx, bin, filepath.Join(dir, "bin")); err != nil {
		return err
	}
	began, lines := time.Now(), 0
	if act != 2 {
		fmt.Println("\nACT ONE: a key of your own, a directory")
		t := newTour(filepath.Join(dir, "one"), bin)
		t.inputs = []string{"--dir", t.path("store")}
		t.opens = []string{"--keyring", t.path("office/keyring.json")}
		if err := t.play(ctx, t.steps()); err != nil {
			return err
		}
		lines += t.logs.written()
	}
	if act != 1 {
		fmt.Println("\nACT TWO: an encrypted Logstore, keys in a KMS")
		t := &cloudTour{tour: newTour(filepath.Join(dir, "two"), bin)}
		defer func() {
			if t.emulator != nil {
				t.emulator.stop()
			}
		}()
		t.inputs = []string{"-c", t.path("office/reader.toml")}
		if err := t.play(ctx, t.steps()); err != nil {
			return err
		}
		lines += t.logs.written()
	}
	fmt.Printf("\nEvery one of %d lines came back exactly once, in order, in %.0f s.\n", lines, time.Since(began).Seconds())
	return nil
}

func newTour(dir, bin string) *tour {
	t := &tour{dir: dir, bin: bin, logs: &logs{dir: filepath.Join(dir, "host", "logs")}, began: time.Now()}
	t.agent = &agent{path: filepath.Join(bin, "sealtail"), config: t.path("host/sealtail.toml"), log: t.path("agent.log")}
	return t
}

// play goes through an act and ends its agent.
func (t *tour) play(ctx context.Context, steps []step) error {
	defer t.agent.kill()
	for _, step := range steps {
		if err := step(ctx); err != nil {
			fmt.Printf("\nThe end of the agent's log:\n%s", t.agent.lastLines(15))
			return err
		}
	}
	return nil
}

// binaries returns the directory of the programs: the one given, else dir,
// where it builds them.
func binaries(ctx context.Context, given, dir string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	fmt.Println("Building sealtail, sealtail-reader and sealtail-emulator …")
	for name, pkg := range map[string]string{
		"sealtail": "sealtail/cmd/agent", "sealtail-reader": "sealtail/cmd/reader", "sealtail-emulator": "sealtail/cmd/emulator",
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return dir, nil
}

// patience is how long a step waits for what it expects, on a busy machine.
const patience = 5 * time.Minute

// waitFor polls until done says so, and leaves the agent as much time as done
// takes.
func waitFor(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %s for %s", patience, what))
	defer cancel()
	for {
		began := time.Now()
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(max(50*time.Millisecond, time.Since(began))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
