package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/internal/command"
	"sealtail/internal/durable"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/spool"
	"sealtail/status"
	"sealtail/tail"
)

func explainCommand(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	load := configFlag(flags)
	var name string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	rest, err := command.Parse(flags, args, 0, 1)
	if err != nil {
		return err
	}
	if len(rest) == 1 && name == "" {
		name, rest = rest[0], nil
	}
	if name == "" || len(rest) > 0 {
		return command.Usage("explain: which file? give one")
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	if name, err = filepath.Abs(name); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n", name)
	e := &explaining{cfg: cfg, name: name, out: stdout}
	ctx, stop := context.WithTimeout(context.Background(), 3*time.Second)
	defer stop()
	if e.running, _, err = status.Ask(ctx, cfg.Agent.StateDir); err != nil {
		e.running = nil
	}
	// Without it, as for another user, a file is known by less.
	e.key, err = os.ReadFile(filepath.Join(cfg.Agent.StateDir, identityFile))
	if err != nil || len(e.key) == 0 {
		e.key, e.keyless = make([]byte, 32), true
	}
	for _, s := range cfg.Streams {
		if err := e.stream(s); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	switch {
	case e.taken == 0:
		return command.Hinted(errors.New("no stream takes it"), "what is said above of the nearest stream is why")
	case e.taken > 1:
		fmt.Fprintf(stdout, "taken by %d streams: its lines are sealed as often\n", e.taken)
	}
	return nil
}

// explaining says what becomes of one file.
type explaining struct {
	cfg     *conf.Config
	name    string
	key     []byte
	keyless bool
	running *status.Snapshot // of the agent, nil if none answers
	out     io.Writer
	taken   int // by so many streams
}

func (e *explaining) say(what, format string, a ...any) {
	fmt.Fprintf(e.out, "  %-9s %s\n", what, fmt.Sprintf(format, a...))
}

func (e *explaining) stream(s conf.Stream) error {
	files, as, stateErr := peekState(e.cfg, s.Name)
	x, err := tail.Explain(tail.Options{
		Include: s.Include, Exclude: s.Exclude, IgnoreOlder: s.IgnoreOlder, Key: e.key, Positions: files,
	}, e.name)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "stream %s\n", s.Name)
	switch {
	case x.Include == "":
		e.say("no", "none of its include patterns matches: %s", strings.Join(s.Include, " "))
	case x.Exclude != "":
		e.say("no", "include %s matches, but so does exclude %s", x.Include, x.Exclude)
	case x.Err != nil && held(x.Known):
		e.taken++
		e.say("yes", "include %s, though %s", x.Include, cannot(x.Err))
	case x.Err != nil:
		e.say("no", "include %s matches, but %s", x.Include, cannot(x.Err))
	default:
		e.taken++
		e.say("yes", "include %s", x.Include)
	}
	if x.Inode != 0 && x.Include != "" {
		e.say("file", "inode %d on device %d:%d, %d bytes, written to %s", x.Inode, unix.Major(x.Dev), unix.Minor(x.Dev), x.Size, x.Modified.UTC().Format(time.RFC3339))
	}
	if stateErr != nil {
		e.say("state", "cannot be read: %v", stateErr)
		return nil
	}
	if x.Known != nil || x.Takes() {
		e.position(&x, as)
	}
	if (x.Takes() || held(x.Known)) && e.running != nil {
		e.problems(s.Name)
	}
	return nil
}

// position says how far the file is taken.
func (e *explaining) position(x *tail.Explanation, as time.Time) {
	when := "no entry is in the spool yet"
	if !as.IsZero() {
		when = "as of the entry of " + as.UTC().Format(time.RFC3339)
	}
	p := x.Known
	if p == nil {
		from := "its beginning"
		if x.Old {
			from = "its end, as it is older than ignore_older"
		}
		e.say("position", "none yet: it is read from %s (%s)", from, when)
		return
	}
	e.say("position", "offset %d, lag %d bytes (%s)", p.Offset, max(0, max(x.Size, p.Size)-p.Offset), when)
	switch {
	case p.Path != e.name:
		e.say("path", "was %s", p.Path)
	case x.Err == nil && !x.Same && e.keyless:
		e.say("content", "cannot be held against the position: %s cannot be read by this user", identityFile)
	case x.Err == nil && !x.Same && p.Ino != x.Inode:
		e.say("content", "of another inode, %d: this is a new file, which is read from its beginning", p.Ino)
	case x.Err == nil && !x.Same:
		e.say("content", "is not what was taken: it was truncated or written anew, and is read from its beginning")
	}
	for _, s := range p.Sources {
		what := "the open record begins at the offset"
		if s.PartID != 0 {
			what = fmt.Sprintf("%d pieces of the open record are sealed", s.PartNext)
		}
		if s.Skip > 0 {
			what = fmt.Sprintf("taken up to %d", s.Skip)
		}
		e.say("record", "%s", strings.TrimSpace(s.Name+" "+what))
	}
	switch {
	case held(p) && e.running != nil:
		e.say("held", "it has no name left; the agent holds it open to read the rest")
	case held(p):
		e.say("held", "it has no name left, and no agent answers: the next one reads the rest if systemd kept it, or tells it as lost")
	}
	if p.Closed != 0 {
		e.say("closed", "since %s", time.Unix(p.Closed, 0).UTC().Format(time.RFC3339))
	}
}

// held reports whether the file was deleted before all of it was taken.
func held(p *record.Position) bool { return p != nil && p.Deleted && p.Closed == 0 }

// problems says what the agent that runs says of the stream.
func (e *explaining) problems(stream string) {
	n := 0
	for _, p := range e.running.Problems {
		if p.Stream == stream || p.Stream == "" {
			e.say("problem", "%s; %s", p.What, p.Fix)
			n++
		}
	}
	if n == 0 {
		e.say("agent", "runs, and nothing is wrong")
	}
}

// cannot says in words why there is nothing to follow.
func cannot(err error) string {
	switch {
	case !tail.Regular(err):
		return "it is no regular file"
	case errors.Is(err, os.ErrNotExist):
		return "nothing is there now"
	case errors.Is(err, os.ErrPermission):
		return "this user cannot read it; the agent's user must"
	}
	return err.Error()
}

// peekState reads the positions of files from a stream's spool, beside an agent
// that may run.
func peekState(cfg *conf.Config, stream string) (files []record.Position, as time.Time, err error) {
	nobody, err := seal.NewIdentity()
	if err != nil {
		return nil, as, err
	}
	st := &state{identity: nobody}
	as, err = spool.Peek(durable.OS, filepath.Join(cfg.Agent.StateDir, "streams", stream), st)
	return st.files(), as, err
}
