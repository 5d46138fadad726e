package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/internal/command"
	"sealtail/record"
	"sealtail/seal/keyring"
	"sealtail/tail"
)

func checkCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	load := configFlag(flags)
	if _, err := command.Parse(flags, args, 0, 0); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	c := &checking{cfg: cfg, keys: make(map[string]string), warnings: cfg.Warnings}
	for _, name := range slices.Sorted(maps.Keys(cfg.Keys)) {
		c.key(name)
	}
	c.dir("agent.state_dir", cfg.Agent.StateDir)
	for _, name := range slices.Sorted(maps.Keys(cfg.Sinks)) {
		c.dir("sink."+name+".path", cfg.Sinks[name].Path)
	}
	text := fmt.Sprintf("%s: host %s, state in %s, digest %s\n", cfg.File, cfg.Agent.Host, cfg.Agent.StateDir, cfg.Digest)
	for _, s := range cfg.Streams {
		lines, err := c.stream(s)
		if err != nil {
			return err
		}
		text += lines
	}
	for _, w := range c.warnings {
		program.Tell(stderr, "warning", w.Error())
		program.Tell(stderr, "hint", w.Fix)
	}
	if len(c.faults) > 0 {
		return c.faults
	}
	_, err = io.WriteString(stdout, text)
	return err
}

// checking holds a configuration against the system it is on.
type checking struct {
	cfg      *conf.Config
	keys     map[string]string // name → what its keyring is, in words
	faults   conf.Faults
	warnings []conf.Fault
}

func (c *checking) fault(key, problem, fix string) {
	c.faults = append(c.faults, c.cfg.Fault(key, problem, fix))
}

func (c *checking) warn(key, problem, fix string) {
	c.warnings = append(c.warnings, c.cfg.Fault(key, problem, fix))
}

// key wants a keyring that opens, computes rightly, and whose primary wraps.
func (c *checking) key(name string) {
	at, file := "key."+name+".file", c.cfg.Keys[name].File
	fault := func(err error, fix string) {
		err = keyringHint(file, err)
		if f, ok := errors.AsType[*command.Failure](err); ok {
			fix = f.Hint
		}
		c.fault(at, err.Error(), fix)
	}
	ring := keyring.Open(file)
	keys, err := ring.List()
	if err == nil {
		err = ring.SelfTest()
	}
	if err != nil {
		fault(err, "mend it, or restore it from a copy")
		return
	}
	dek, err := ring.Generate(context.Background(), checkContext)
	if err != nil {
		fault(err, "see sealtail keyring list -f "+file)
		return
	}
	clear(dek.Plain)
	for _, k := range keys {
		if k.Primary {
			c.keys[name] = fmt.Sprintf("%s, primary %s", file, k.ID)
		}
	}
	if slices.ContainsFunc(keys, func(k keyring.Key) bool { return k.Opens }) {
		c.warn(at, "the host can open what it shipped: the keyring holds a symmetric key or a private half",
			"keep the keyring elsewhere and give the host its public half: sealtail keyring export-public")
	}
}

// checkContext is an empty context in its encoding.
var checkContext = []byte{0, 0}

// dir wants a directory that can be written to, or made.
func (c *checking) dir(key, dir string) {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != "/":
			continue
		case err != nil:
			c.fault(key, err.Error(), "make it reachable for this user, or choose another")
		case !info.IsDir():
			c.fault(key, at+" is not a directory", "choose another")
		case unix.Access(at, unix.W_OK|unix.X_OK) != nil:
			c.warn(key, at+" cannot be written to by this user", "it must be by the agent's user")
		}
		return
	}
}

// stream says in a few lines what one stream amounts to.
func (c *checking) stream(s conf.Stream) (string, error) {
	files, err := found(s)
	if err != nil {
		return "", fmt.Errorf("stream %s: %w", s.Name, err)
	}
	at := "stream." + s.Name + ".include"
	if files.Files == 0 {
		c.warn(at, "matches no file now", "")
	}
	if n := files.OpenErrors + files.ScanErrors; n > 0 {
		c.warn(at, fmt.Sprintf("%d files or directories cannot be read by this user", n), "they must be by the agent's user; sealtail run --dry-run names them")
	}
	return fmt.Sprintf("stream %s\n  files  %d now, %d bytes; start_at = %q\n  suite  %s\n  key    %s: %s\n  sink   %s: %s %s\n",
		s.Name, files.Files, files.Lag, s.StartAt, s.Suite, s.Key, c.keys[s.Key], s.Sink, c.cfg.Sinks[s.Sink].Type, c.cfg.Sinks[s.Sink].Path), nil
}

// found has the stream's files looked for as the agent does, once.
func found(s conf.Stream) (tail.Stats, error) {
	t, err := tail.New(tail.Options{Include: s.Include, Exclude: s.Exclude, Key: make([]byte, 32), Once: true})
	if err != nil {
		return tail.Stats{}, err
	}
	// It has one round when it may not go on, and nobody takes what it reads.
	ctx, stop := context.WithCancel(context.Background())
	stop()
	err = t.Run(ctx, make(chan *record.Chunk))
	return t.Stats(), err
}
