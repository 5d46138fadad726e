package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"time"

	"sealtail/conf"
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
	file := flags.String("c", "", "configuration `FILE`")
	dir := flags.String("state-dir", "", "the agent's state `DIR`ectory")
	asJSON := flags.Bool("json", false, "print the whole snapshot")
	if _, err := command.Parse(flags, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *file == "" && *dir == "":
		return command.Usage("status: -c FILE is missing")
	case *dir == "":
		var err error
		if *dir, err = conf.StateDir(*file); err != nil {
			return command.Fail(command.ExitConfig, err, "mend "+*file+", or name the state directory with which the agent runs: sealtail status --state-dir "+conf.DefaultStateDir())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, text, err := status.Ask(ctx, *dir)
	if err != nil {
		return unanswered(err)
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

// unanswered adds to why there is no snapshot what to do about it.
func unanswered(err error) error {
	switch {
	case errors.Is(err, status.ErrNotRunning):
		return command.Fail(exitNotRunning, err, "systemctl status sealtail, journalctl -u sealtail; or the state directory is another: agent.state_dir")
	case errors.Is(err, status.ErrNoAnswer):
		return command.Fail(exitNotRunning, err, "it ends just now, is stopped (SIGSTOP, a debugger, a frozen cgroup), hangs, or has no descriptor left: look at its state in ps, and at LimitNOFILE; systemd's watchdog restarts it, or systemctl restart sealtail")
	}
	return command.Hinted(err, "run this as root or as the agent's user")
}

// silent is an exit code whose reason was printed.
type silent int

func (silent) Error() string { return "" }
