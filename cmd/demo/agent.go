package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// An agent is the agent's process, over several lives.
type agent struct {
	path, config, log string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // set before done is closed
}

// start begins a life and waits for the agent to say that it has.
func (a *agent) start(ctx context.Context) error {
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	from := a.logSize()
	cmd := exec.Command(a.path, "run", "-c", a.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	a.cmd, a.done = cmd, make(chan struct{})
	go func() {
		a.err = cmd.Wait()
		close(a.done)
	}()
	_, err = a.says(ctx, "started", from)
	return err
}

// says waits for a line of the agent's log that holds the text, behind an
// offset, and returns it.
func (a *agent) says(ctx context.Context, text string, from int64) (line string, err error) {
	err = waitFor(ctx, "the agent to log: "+text, func() (bool, error) {
		b, err := os.ReadFile(a.log)
		if err != nil {
			return false, err
		}
		for l := range bytes.Lines(b[from:]) {
			if bytes.Contains(l, []byte(text)) {
				line = strings.TrimSpace(string(l))
				return true, nil
			}
		}
		return false, a.alive()
	})
	return line, err
}

func (a *agent) logSize() int64 {
	info, err := os.Stat(a.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// alive returns an error when the process has ended by itself.
func (a *agent) alive() error {
	select {
	case <-a.done:
		return fmt.Errorf("the agent ended: %v", a.err)
	default:
		return nil
	}
}

// kill ends the process with SIGKILL.
func (a *agent) kill() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill() // it may have ended already
		<-a.done
	}
}

// stop ends the process with SIGTERM and wants exit code 0.
func (a *agent) stop(ctx context.Context) error {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-a.done:
		return a.err
	case <-time.After(patience):
		return errors.New("the agent does not stop")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *agent) lastLines(n int) string {
	b, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error() + "\n"
	}
	return lastLines(string(b), n)
}

// lastLines returns the last n lines of a text, each with its end.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n-1):], "")
}
