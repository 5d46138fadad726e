// Demo is a tour of sealtail that takes less than a minute:
//
//	go run ./cmd/demo [--bin DIR] [--keep]
//
// It runs the real agent on files that it grows and rotates, kills it, takes
// its key away and gives it back, tampers with what was shipped, opens all of
// it with the reader and counts. Its exit code is 0 only if every line came
// back exactly once. Everything happens in a temporary directory.
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
	bin := flag.String("bin", "", "use sealtail and sealtail-reader in `DIR` instead of building them")
	keep := flag.Bool("keep", false, "keep the directory of the tour")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *keep); err != nil {
		fmt.Printf("\nFAILED: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, keep bool) error {
	dir, err := os.MkdirTemp("", "sealtail-demo-")
	if err != nil {
		return err
	}
	if keep {
		defer fmt.Printf("\nKept: %s\n", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	t := &tour{dir: dir, bin: bin, logs: &logs{dir: filepath.Join(dir, "host", "logs")}}
	if err := t.binaries(ctx); err != nil {
		return err
	}
	t.began = time.Now()
	t.agent = &agent{path: filepath.Join(t.bin, "sealtail"), config: t.path("host/sealtail.toml"), log: t.path("agent.log")}
	defer t.agent.kill()
	for _, step := range []func(context.Context) error{
		t.keys, t.configure, t.follow, t.rotate, t.crash, t.pause, t.look, t.tamper, t.prove,
	} {
		if err := step(ctx); err != nil {
			fmt.Printf("\nThe end of the agent's log:\n%s", t.agent.lastLines(15))
			return err
		}
	}
	return nil
}

// binaries builds both commands unless they were given.
func (t *tour) binaries(ctx context.Context) error {
	if t.bin != "" {
		abs, err := filepath.Abs(t.bin)
		t.bin = abs
		return err
	}
	t.bin = t.path("bin")
	fmt.Println("Building sealtail and sealtail-reader …")
	for name, pkg := range map[string]string{"sealtail": "sealtail/cmd/agent", "sealtail-reader": "sealtail/cmd/reader"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(t.bin, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

// patience is how long a step waits for what it expects, on a busy machine.
const patience = time.Minute

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
