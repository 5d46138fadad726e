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

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/internal/command"
	"sealtail/seal/keyring"
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
		text += c.stream(s)
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

// key wants a keyring that opens and whose primary wraps.
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
	if opens, err := ring.Opens(); err == nil && opens {
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
func (c *checking) stream(s conf.Stream) string {
	files, bytes, unread := 0, int64(0), ""
	seen := make(map[string]bool)
	for _, pattern := range s.Include {
		err := doublestar.GlobWalk(os.DirFS("/"), pattern[1:], func(path string, d fs.DirEntry) error {
			path = "/" + path
			if seen[path] || excluded(s.Exclude, path) {
				return nil
			}
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				return nil
			}
			seen[path] = true
			files, bytes = files+1, bytes+info.Size()
			if unix.Access(path, unix.R_OK) != nil {
				unread = path
			}
			return nil
		})
		if err != nil {
			c.warn("stream."+s.Name+".include", err.Error(), "")
		}
	}
	if files == 0 {
		c.warn("stream."+s.Name+".include", "matches no file now", "")
	}
	if unread != "" {
		c.warn("stream."+s.Name+".include", unread+" cannot be read by this user", "it must be by the agent's user")
	}
	return fmt.Sprintf("stream %s\n  files  %d now, %d bytes; start_at = %q\n  suite  %s\n  key    %s: %s\n  sink   %s: %s %s\n",
		s.Name, files, bytes, s.StartAt, s.Suite, s.Key, c.keys[s.Key], s.Sink, c.cfg.Sinks[s.Sink].Type, c.cfg.Sinks[s.Sink].Path)
}

func excluded(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := doublestar.Match(p, path)
		return err == nil && ok
	})
}
