package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A tour is what its steps share. On the host lies what an agent has: logs, a
// config, the public half of the keyring, its state. Beside it lie the store,
// and the private half, which the host never sees.
//
//	DIR/host/{logs, sealtail.toml, keyring.json, state}
//	DIR/store/<stream>/*.se1
//	DIR/office/{keyring.json, signers}
type tour struct {
	dir, bin string
	inputs   []string // what the reader is given to read, as flags
	opens    []string // and to open it with
	agent    *agent
	logs     *logs
	began    time.Time
	step     int

	web, audit *file // that are grown at the moment
}

func (t *tour) steps() []step {
	return []step{t.keys, t.configure, t.follow, t.rotate, t.crash, t.pause, t.look, t.tamper, t.prove}
}

func (t *tour) path(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

func (t *tour) title(format string, args ...any) {
	t.step++
	fmt.Printf("\n%d. %s  (%.1f s)\n", t.step, fmt.Sprintf(format, args...), time.Since(t.began).Seconds())
}

func (t *tour) say(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

// show prints what a command printed, or a file.
func (t *tour) show(text string) {
	fmt.Print("\n")
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Print("    ", strings.ReplaceAll(line, t.dir+"/", "DIR/"))
	}
	fmt.Print("\n\n")
}

func (t *tour) command(name string, args ...string) {
	fmt.Printf("  $ %s %s\n", name, strings.ReplaceAll(strings.Join(args, " "), t.dir+"/", "DIR/"))
}

// do runs one of the commands, shows it, and returns what it printed.
func (t *tour) do(ctx context.Context, command string, args ...string) (stdout string, err error) {
	t.command(command, args...)
	stdout, stderr, err := t.quiet(ctx, command, args...)
	if err != nil {
		return stdout, fmt.Errorf("%s %s: %w\n%s", command, args[0], err, stdout+stderr)
	}
	return stdout, nil
}

func (t *tour) quiet(ctx context.Context, command string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(t.bin, command), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (t *tour) keys(ctx context.Context) error {
	t.title("Keys: the host can seal, it cannot open")
	for _, dir := range []string{"host", "office", "store"} {
		if err := os.MkdirAll(t.path(dir), 0o700); err != nil {
			return err
		}
	}
	if _, err := t.do(ctx, "sealtail", "keyring", "new", "-f", t.path("office/keyring.json"), "--kind", "hpke-mlkem768-x25519"); err != nil {
		return err
	}
	if _, err := t.do(ctx, "sealtail", "keyring", "export-public", "-f", t.path("office/keyring.json"), "--out", t.path("host/keyring.json")); err != nil {
		return err
	}
	list, err := t.do(ctx, "sealtail", "keyring", "list", "-f", t.path("host/keyring.json"))
	if err != nil {
		return err
	}
	t.show(list)
	t.say("The private half stays in the office. Whoever takes the host over cannot read what it shipped.")
	return nil
}

const config = `[agent]
state_dir = "DIR/host/state"
host = "demo-host"

[key.main]
provider = "keyring"
file = "DIR/host/keyring.json"
refresh = "2s"            # short, for a short tour
confirm = "2s"
retry_max = "2s"
retry_revoked = "2s"

[sink.store]
type = "dir"
path = "DIR/store"
retry_max = "2s"

[[stream]]
name = "web"
include = ["DIR/host/logs/web/*.log*"]
suite = "aes-256-gcm"
key = "main"
sink = "store"
batch = { max_age = "200ms" }

[[stream]]
name = "audit"
include = ["DIR/host/logs/audit/**/*.log*"]
exclude = ["**/*.tmp"]
suite = "sm4-gcm"
key = "main"
sink = "store"
tags = { cluster = "hz-1" }
batch = { max_age = "200ms" }
flush_after = "1h"        # half a line is not given up
`

func (t *tour) configure(ctx context.Context) error {
	t.title("Config: two streams, one sealed with AES, one with SM4")
	if err := os.WriteFile(t.agent.config, []byte(strings.ReplaceAll(config, "DIR", t.dir)), 0o600); err != nil {
		return err
	}
	t.show(config)
	var err error
	if t.web, err = t.logs.create("web/access.log"); err != nil {
		return err
	}
	if t.audit, err = t.logs.create("audit/audit.log"); err != nil {
		return err
	}
	checked, err := t.do(ctx, "sealtail", "check", "-c", t.agent.config)
	if err != nil {
		return err
	}
	t.show(checked)
	signers, err := t.do(ctx, "sealtail", "identity", "-c", t.agent.config)
	if err != nil {
		return err
	}
	t.show(signers)
	t.say("These public keys go to the office: the host signs every batch.")
	return os.WriteFile(t.path("office/signers"), []byte(signers), 0o600)
}

func (t *tour) follow(ctx context.Context) error {
	t.title("Follow: lines are sealed and shipped")
	if err := t.agent.start(ctx); err != nil {
		return err
	}
	if err := errors.Join(t.web.grow(1500), t.audit.grow(1500)); err != nil {
		return err
	}
	return t.arrived(ctx)
}

// arrived waits until the reader opens as many lines as were written.
func (t *tour) arrived(ctx context.Context) error {
	want, began := t.logs.written(), time.Now()
	err := waitFor(ctx, fmt.Sprintf("%d lines to arrive", want), func() (bool, error) {
		all, err := t.opensAll(ctx, want)
		return all, errors.Join(err, t.agent.alive())
	})
	if err == nil {
		t.say("The reader opens all %d lines written so far. (waited %.1f s)", want, time.Since(began).Seconds())
	}
	return err
}

// opensAll reports whether the reader opens all of so many lines. Until then one
// batch may be missing before others: they are shipped at the same time.
func (t *tour) opensAll(ctx context.Context, lines int) (bool, error) {
	const missing = 4 // exit code of the reader
	got, err := t.open(ctx)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == missing {
		return false, nil
	}
	if len(got) > lines {
		err = fmt.Errorf("%d lines were written, %d came back", lines, len(got))
	}
	return len(got) == lines, err
}

func (t *tour) rotate(ctx context.Context) error {
	t.title("Rotate: by every method, without losing a line")
	t.say("rename, then create: access.log becomes access.log.1 with lines still unread")
	old := t.web
	err := errors.Join(old.grow(1000), old.rename("access.log.1"))
	if err != nil {
		return err
	}
	old.fate = "renamed with lines unread, then grown"
	if t.web, err = t.logs.create("web/access.log"); err != nil {
		return err
	}
	// A program that was not told of the rotation goes on in the old file.
	if err := errors.Join(t.web.grow(1000), old.grow(500)); err != nil {
		return err
	}

	t.say("rename over: a finished new file takes the name audit.log, the old one has no name any more")
	old = t.audit
	if t.audit, err = t.logs.create("audit/audit.log.tmp"); err != nil {
		return err
	}
	err = errors.Join(old.grow(1000), t.audit.grow(1000), t.audit.rename("audit.log"))
	if err != nil {
		return err
	}
	old.fate = "replaced with lines unread"

	t.say("a new file in a new directory, and a line of which only half is there yet")
	late, err := t.logs.create("audit/2026/late.log")
	if err != nil {
		return err
	}
	late.fate = "new, in a new directory; one line in two halves"
	if err := late.grow(500); err != nil {
		return err
	}
	seen := t.logs.written()
	if err := late.half(func() error {
		return waitFor(ctx, "what is whole to arrive", func() (bool, error) {
			return t.opensAll(ctx, seen)
		})
	}); err != nil {
		return err
	}
	if err := t.arrived(ctx); err != nil {
		return err
	}

	t.say("truncate: access.log is emptied after its lines were taken, and filled again")
	t.web.fate = "emptied after it was taken"
	if t.web, err = t.web.empty(); err != nil {
		return err
	}
	t.web.fate = "filled again after that"
	if err := t.web.grow(800); err != nil {
		return err
	}
	t.say("delete: late.log goes, after its lines were taken")
	late.fate += "; deleted"
	if err := os.Remove(late.path); err != nil {
		return err
	}
	return t.arrived(ctx)
}

// crash kills the agent several times while both streams are written to and
// rotated.
func (t *tour) crash(ctx context.Context) error {
	const kills = 3
	t.title("Crash: kill -9, %d times, in full flow", kills)
	before := t.logs.written()
	flowing, stop := context.WithCancel(ctx)
	defer stop()
	flow := make(chan error, 1)
	go func() { flow <- t.flow(flowing) }()
	for range kills {
		size := t.storeSize()
		grown := size + 50_000 + rand.Int64N(100_000)
		if err := waitFor(ctx, "the store to grow", func() (bool, error) {
			return t.storeSize() > grown, t.agent.alive()
		}); err != nil {
			return err
		}
		t.agent.kill()
		t.say("killed when %d lines were written, and started again", t.logs.written())
		if err := t.agent.start(ctx); err != nil {
			return err
		}
	}
	stop()
	if err := <-flow; err != nil {
		return err
	}
	t.say("%d lines were written meanwhile, and the files rotated under way.", t.logs.written()-before)
	return t.arrived(ctx)
}

// flow writes to both streams, and rotates them, until ctx ends.
func (t *tour) flow(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := errors.Join(t.web.grow(120), t.audit.grow(80)); err != nil {
			return err
		}
		if n%100 != 0 {
			continue
		}
		if err := t.rotateBoth("renamed in full flow, across kills"); err != nil {
			return err
		}
	}
}

// rotateBoth renames the files that are grown and creates new ones.
func (t *tour) rotateBoth(fate string) error {
	for _, f := range []**file{&t.web, &t.audit} {
		old := *f
		name, _ := filepath.Rel(t.logs.dir, old.path)
		old.fate = fate
		if err := old.rename(fmt.Sprintf("%s.%s", filepath.Base(name), old.label)); err != nil {
			return err
		}
		var err error
		if *f, err = t.logs.create(name); err != nil {
			return err
		}
	}
	return nil
}

// storeSize returns the bytes in the store.
func (t *tour) storeSize() (bytes int64) {
	for _, file := range sealed(t.path("store/*")) {
		if info, err := os.Stat(file); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

func (t *tour) pause(ctx context.Context) error {
	t.title("Revoke the key: sealing pauses, the files buffer, nothing is dropped")
	from := t.agent.logSize()
	if _, err := t.do(ctx, "sealtail", "keyring", "disable", "-f", t.path("host/keyring.json")); err != nil {
		return err
	}
	said, err := t.agent.says(ctx, "sealing paused", from)
	if err != nil {
		return err
	}
	t.say("The agent's log:")
	t.show(said)
	got, err := t.open(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(t.web.grow(3000), t.audit.grow(3000)); err != nil {
		return err
	}
	t.web.fate, t.audit.fate = "grown during the pause", "grown during the pause"
	t.say("The reader has %d lines; %d more were written just now and wait in their files.", len(got), t.logs.written()-len(got))
	if _, err := t.do(ctx, "sealtail", "keyring", "enable", "-f", t.path("host/keyring.json")); err != nil {
		return err
	}
	return t.arrived(ctx)
}
