package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"time"

	"sealtail/internal/command"
	"sealtail/status"
)

// Exit codes of sealtail status, beside those of every command.
const (
	exitPaused     = 3
	exitNotRunning = 4
	exitProblem    = 5
)

func statusCommand(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("status", flag.ContinueOnError)
	load := configFlag(flags)
	asJSON := flags.Bool("json", false, "print the whole snapshot")
	if _, err := command.Parse(flags, args, 0, 0); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, text, err := status.Ask(ctx, cfg.Agent.StateDir)
	if errors.Is(err, status.ErrNotRunning) {
		return command.Fail(exitNotRunning, err, "systemctl status sealtail, journalctl -u sealtail; or the state directory is another: agent.state_dir")
	}
	if err != nil {
		return command.Hinted(err, "run this as root or as the agent's user")
	}
	if *asJSON {
		_, err = stdout.Write(text)
	} else {
		err = s.Write(stdout)
	}
	switch {
	case err != nil:
		return err
	case s.Paused():
		return silent(exitPaused)
	case len(s.Problems) > 0:
		return silent(exitProblem)
	}
	return nil
}

// silent is an exit code whose reason was printed.
type silent int

func (silent) Error() string { return "" }
