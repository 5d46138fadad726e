package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"sealtail/conf"
	"sealtail/internal/cloud"
	"sealtail/internal/command"
	"sealtail/internal/durable"
	"sealtail/seal"
	"sealtail/seal/alikms"
	"sealtail/status"
)

func runCommand(args []string, stdout, stderr io.Writer) error {
	// Before all else: a signal that is not caught ends the process.
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	load := configFlag(fs)
	dry := fs.Bool("dry-run", false, "read to the files' end, ship nothing, write nothing")
	show := fs.Bool("show", false, "with --dry-run: print sample records as they are")
	if _, err := command.Parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *show && !*dry {
		return command.Usage("run: --show goes with --dry-run")
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	collectSoon()
	log := newLog(stderr)
	for _, w := range cfg.Warnings {
		log.Warn("config", zap.String("warning", w.Error()), zap.String("hint", w.Fix))
	}
	if problem, fix := fewFiles(len(cfg.Streams)); problem != "" {
		log.Warn("few open files", zap.String("warning", problem), zap.String("hint", fix))
	}
	if err := selfTest(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	if *dry {
		return dryRun(ctx, cfg, *show, log, stdout)
	}
	return runAgent(ctx, cfg, again, log)
}

// collectSoon lets garbage grow to half of what is in use, not to as much again:
// buffers are used over, so that there is little of it and this costs nothing.
func collectSoon() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// newLog writes a line an entry: time, level, message, fields as JSON.
func newLog(w io.Writer) *zap.Logger {
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.RFC3339TimeEncoder
	e.EncodeDuration = zapcore.StringDurationEncoder
	e.EncodeLevel = zapcore.CapitalLevelEncoder
	e.ConsoleSeparator = " "
	enc := zapcore.NewConsoleEncoder(e)
	if command.ToJournal(w) {
		enc = priorities{enc}
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), zap.InfoLevel))
}

// runAgent runs every stream's line until ctx ends or one fails for good.
func runAgent(ctx context.Context, cfg *conf.Config, again <-chan os.Signal, log *zap.Logger) error {
	lock, err := lockState(ctx, cfg.Agent.StateDir)
	if err != nil {
		return stateFault(cfg, err)
	}
	defer lock.Close()
	id, err := openIdentity(cfg.Agent.StateDir)
	if err != nil {
		return stateFault(cfg, newer(err))
	}
	if id.replaced {
		log.Warn("this state is from another machine: new signing keys and new streams begin; what is spooled ships as it is")
	}
	a := &agent{
		id: id, log: log, began: time.Now(), cfg: cfg, phase: "starting", final: make(chan error, 1), changed: make(chan struct{}, 1),
		keys: make(map[keyUse]*runningKeys), lines: make(map[string]*runningLine),
	}
	if a.systemd, err = status.OpenSystemd(); err != nil {
		return err
	}
	came, err := status.Descriptors()
	if err != nil {
		log.Warn("descriptors that came with the start are not known", zap.Error(err))
	}
	a.held = newHeldFiles(a.systemd, came, log)
	return stateFault(cfg, a.run(ctx, again))
}

// A keyUse is what one data key serves: streams share it only if they have
// key, sink and suite in common.
type keyUse struct{ key, sink, suite string }

func keysOf(s conf.Stream) keyUse { return keyUse{s.Key, s.Sink, s.Suite} }

func (u keyUse) String() string { return "key " + u.key + " for " + u.sink + " " + u.suite }

// openKeys builds the data keys that a stream needs. A keyring must have the
// keys of what waits.
func openKeys(cfg *conf.Config, s conf.Stream, log *zap.Logger, needs func() neededKeys) (*runningKeys, error) {
	suite, err := seal.ParseSuite(s.Suite)
	if err != nil {
		return nil, err
	}
	header, err := envelopeContext(cfg.Sinks[s.Sink])
	if err != nil {
		return nil, err
	}
	k := cfg.Keys[s.Key]
	log = log.With(zap.String("key", s.Key), zap.String("suite", s.Suite))
	keys := new(runningKeys)
	var kms seal.KMS
	if k.Provider == "keyring" {
		keys.ring = openRing(k.File, needs, log)
		kms = keys.ring
	} else {
		access, err := cloud.Credentials(k.Credentials)
		var client *alikms.Client
		if err == nil {
			client, err = access.KMS(k)
		}
		if err != nil {
			return nil, startFault(cfg, "key."+s.Key, k.Credentials, err)
		}
		kms, keys.trouble = client, access.Trouble
		if suite == seal.SM4GCM {
			kms = &sm4CMK{KMS: client, describe: client, required: k.RequireSM4CMK, log: log}
		}
	}
	keys.Keys = seal.NewKeys(keyOptions(k, log), kms, suite, header)
	return keys, nil
}

func keyOptions(k conf.Key, log *zap.Logger) seal.KeyOptions {
	o := seal.KeyOptions{
		Refresh: k.Refresh, Rotate: k.Rotate, HardAge: k.HardAge, Grace: k.Grace,
		Confirm: k.Confirm, CallTimeout: k.CallTimeout, RetryMax: k.RetryMax, RetryRevoked: k.RetryRevoked, CredentialsGrace: k.CredentialsGrace,
		MaxBatches: k.DEKMaxBatches, MaxBytes: int64(k.DEKMaxBytes), Log: log,
	}
	for _, d := range []*time.Duration{&o.Grace, &o.Confirm, &o.CredentialsGrace} {
		if *d == 0 {
			*d = -1 // none; 0 would be the default
		}
	}
	return o
}

// stateFault is an error of the state directory, with what to do about it unless
// it says so itself. Nothing else on this host ends the agent.
func stateFault(cfg *conf.Config, err error) error {
	if _, ok := errors.AsType[*command.Failure](err); ok {
		return err
	}
	return command.Hinted(err, status.StateFix(cfg.Agent.StateDir, err))
}

// private wants a directory that others have no rights on.
func private(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("state directory %s: others have rights on it (mode %04o)", dir, info.Mode().Perm())
	}
	return err
}

// ours wants a directory of this user. What root makes in one of the agent's
// user, the agent cannot open.
func ours(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	name := fmt.Sprintf("#%d", st.Uid)
	if u, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil {
		name = u.Username
	}
	return command.Hinted(fmt.Errorf("state directory %s: belongs to user %s, not to this one", dir, name),
		"run this as that user (of the service: systemctl start sealtail, or runuser -u "+name+" -- sealtail …), or chown -R the directory")
}

// lockState makes the state directory and keeps other agents out of it. It
// waits a second for who holds the lock for a moment, as sealtail identity.
func lockState(ctx context.Context, dir string) (io.Closer, error) {
	if err := durable.MkdirAll(durable.OS, dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if err := private(dir); err != nil {
		return nil, command.Hinted(err, "chmod 0700 "+dir)
	}
	if err := ours(dir); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		lock, err := durable.Lock(filepath.Join(dir, lockFile))
		if !errors.Is(err, durable.ErrLocked) {
			return lock, err
		}
		if try == 10 || ctx.Err() != nil {
			return nil, command.Hinted(fmt.Errorf("state directory %s: %w", dir, err), "another sealtail runs with it: stop that one, or give this one its own agent.state_dir")
		}
		time.Sleep(100 * time.Millisecond)
	}
}
