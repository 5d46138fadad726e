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
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/cred"
	"sealtail/internal/cloud"
	"sealtail/internal/command"
	"sealtail/internal/durable"
	"sealtail/internal/trust"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/seal/keyring"
	"sealtail/spool"
	"sealtail/tail"
)

func checkCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	load := configFlag(flags)
	online := flags.Bool("online", false, "ask the services too")
	alone := flags.Bool("alone", false, "look at nothing that FILE names")
	if _, err := command.Parse(flags, args, 0, 0); err != nil {
		return err
	}
	if *online && *alone {
		return command.Usage("check: --online does not go with --alone")
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	if *alone {
		_, err := fmt.Fprintf(stdout, "%s: digest %s\n", cfg.File, cfg.Digest)
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &checking{cfg: cfg, keys: make(map[string]string), taken: make(map[[2]uint64]string), warnings: cfg.Warnings}
	for _, name := range slices.Sorted(maps.Keys(cfg.Keys)) {
		c.key(ctx, name)
	}
	c.dir("agent.state_dir", cfg.Agent.StateDir)
	if err := private(cfg.Agent.StateDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.fault("agent.state_dir", err.Error(), "chmod 0700 "+cfg.Agent.StateDir)
	}
	c.memory("/proc/swaps")
	for _, name := range slices.Sorted(maps.Keys(cfg.Sinks)) {
		c.sink(ctx, name)
	}
	text := fmt.Sprintf("%s: host %s, state in %s, digest %s\n", cfg.File, cfg.Agent.Host, cfg.Agent.StateDir, cfg.Digest)
	for _, s := range cfg.Streams {
		lines, err := c.stream(s)
		if err != nil {
			return err
		}
		text += lines
	}
	if problem, fix := fewFiles(len(cfg.Streams)); problem != "" {
		c.warn("stream", problem, fix)
	}
	right := len(c.faults) == 0
	if *online && right {
		text += c.online(ctx)
	}
	for _, w := range c.warnings {
		program.Tell(stderr, "warning", w.Error())
		program.Tell(stderr, "hint", w.Fix)
	}
	switch {
	case !right:
		return c.faults
	case len(c.faults) > 0:
		return outside{c.faults}
	}
	_, err = io.WriteString(stdout, text)
	return err
}

// checking holds a configuration against the system it is on.
type checking struct {
	cfg      *conf.Config
	keys     map[string]string    // name → what wraps its data keys, in words
	taken    map[[2]uint64]string // device and inode → the stream that takes the file
	faults   conf.Faults
	warnings []conf.Fault
}

func (c *checking) fault(key, problem, fix string) {
	c.faults = append(c.faults, c.cfg.Fault(key, problem, fix))
}

func (c *checking) warn(key, problem, fix string) {
	c.warnings = append(c.warnings, c.cfg.Fault(key, problem, fix))
}

// key looks at what wraps data keys, as far as that is on this host.
func (c *checking) key(ctx context.Context, name string) {
	k := c.cfg.Keys[name]
	if k.Provider != "alikms" {
		c.keyring(ctx, name)
		return
	}
	c.keys[name] = fmt.Sprintf("CMK %s at %s", k.KeyID, k.Endpoint)
	c.access(ctx, "key."+name+".credentials", k.Credentials)
	_, err := cloud.KMS(k)
	if err == nil {
		err = trust.Check(k.Route.CAFile)
	}
	if err != nil && !isCredentials(err) {
		c.faults = append(c.faults, kmsFault(c.cfg, name, err))
	}
}

// keyring wants one that opens, computes rightly, and whose primary wraps.
func (c *checking) keyring(ctx context.Context, name string) {
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
	dek, err := ring.Generate(ctx, checkContext)
	if err != nil {
		fault(err, "see sealtail keyring list -f "+file)
		return
	}
	dek.Plain.Wipe()
	c.needed(name, file, keys)
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

// needed wants a keyring that has the keys under which batches are sealed that
// wait in spools.
func (c *checking) needed(name, file string, keys []keyring.Key) {
	at, needed := "key."+name+".file", neededKeys{files: keyringsOf(c.cfg)}
	for _, s := range c.cfg.Streams {
		if s.Key != name {
			continue
		}
		err := spool.Unshipped(durable.OS, filepath.Join(c.cfg.Agent.StateDir, "streams", s.Name), func(env []byte) error {
			e, err := seal.Parse(env)
			if err == nil {
				needed.ids = append(needed.ids, keysNamed(e)...)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.warn(at, "whether it has the keys of what waits in the spool of stream "+s.Name+" is not known: "+err.Error(), "run this as the agent's user, or root")
		}
	}
	lost, destroyed := needed.without(keys)
	if len(lost) > 0 {
		c.fault(at, lostKeys(file, lost).Error(), "put it back: until these are shipped no data key is made; or name the file that has it in another [key.NAME]")
	}
	if len(destroyed) > 0 {
		c.warn(at, "batches in the spool are sealed under key "+strings.Join(destroyed, ", ")+", which is destroyed: without a copy of it nobody can open them", "if that was not meant, put a copy of the keyring back")
	}
}

// checkContext is an empty context in its encoding.
var checkContext = []byte{0, 0}

// access wants an access key. In the environment, or where systemd puts one, it
// may be there for the service alone.
func (c *checking) access(ctx context.Context, at string, o conf.Credentials) {
	k, err := cloud.Credentials(o)
	if err == nil {
		_, _, _, err = k.Get(ctx)
	}
	switch {
	case err == nil:
	case o.Type == "file":
		c.fault(at, err.Error(), "the agent's user must find one there, and nobody else")
	default:
		c.warn(at, err.Error(), "the service must have it")
	}
}

func isCredentials(err error) bool {
	_, ok := errors.AsType[*cred.Error](err)
	return ok
}

// sink looks at where batches go, as far as that is on this host.
func (c *checking) sink(ctx context.Context, name string) {
	at, s := "sink."+name, c.cfg.Sinks[name]
	if s.Type == "dir" {
		c.dir(at+".path", s.Path)
		return
	}
	c.access(ctx, at+".credentials", s.Credentials)
	client, err := openSLS(s)
	if err == nil {
		client.Close()
		err = trust.Check(s.Route.CAFile)
	}
	if err != nil && !isCredentials(err) {
		c.faults = append(c.faults, logstoreFault(c.cfg, name, s, err))
	}
	for _, key := range slices.Sorted(maps.Keys(c.cfg.Keys)) {
		if c.uses(name, key) {
			c.apart(name, key, c.cfg.Keys[key].KeyID)
		}
	}
}

// uses reports whether a stream goes to a sink under a key.
func (c *checking) uses(sink, key string) bool {
	return slices.ContainsFunc(c.cfg.Streams, func(s conf.Stream) bool { return s.Sink == sink && s.Key == key })
}

// apart wants two different CMKs: the data keys' and the Logstore's, which the
// service's role may use.
func (c *checking) apart(sink, key, cmk string) {
	if own := c.cfg.Sinks[sink].Encryption.CMKKeyID; own == "" || bareID(own) != bareID(cmk) {
		return
	}
	c.warn("key."+key+".key_id", "this CMK is also the Logstore's of sink "+sink+": the service may open with it what is sealed here, and who disables it stops both",
		"use another CMK for data keys")
}

// bareID returns the id of a CMK that is named by its id or ARN.
func bareID(cmk string) string {
	if _, id, ok := strings.Cut(cmk, ":key/"); ok {
		return id
	}
	return cmk
}

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

// memory looks at whether what is in memory can get to a disk.
func (c *checking) memory(swaps string) {
	if b, err := os.ReadFile(swaps); err == nil && strings.Count(string(b), "\n") > 1 { // its first line is a heading
		c.warn("agent", "this host swaps: lines that are read can get to its disk in clear; data keys cannot", "encrypt swap, turn it off, or set MemorySwapMax=0 in the service")
	}
	uses := make(map[keyUse]bool)
	for _, s := range c.cfg.Streams {
		uses[keysOf(s)] = true
	}
	// A data key takes a page, the next one and what an answer is decoded to others.
	need := len(uses) * 8 * unix.Getpagesize()
	try := seal.NewSecret(need)
	defer try.Wipe()
	if !try.Locked() {
		var limit unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
		c.warn("agent", fmt.Sprintf("data keys take %d bytes that this user cannot lock, RLIMIT_MEMLOCK is %d: they can get into swap", need, limit.Cur), "set LimitMEMLOCK=1M in the service")
	}
}

// stream says in a few lines what one stream amounts to.
func (c *checking) stream(s conf.Stream) (string, error) {
	files, taken, err := found(s)
	if err != nil {
		return "", fmt.Errorf("stream %s: %w", s.Name, err)
	}
	at := "stream." + s.Name + ".include"
	c.twice(s.Name, at, taken)
	for _, p := range s.Include {
		if why := tail.Vain(p, s.Exclude); why != "" {
			c.warn(at, p+" can match nothing: "+why, "mend or remove it")
		}
	}
	if files.Files == 0 {
		c.warn(at, "matches no file now", "")
	}
	if n := files.OpenErrors + files.ScanErrors; n > 0 {
		c.warn(at, fmt.Sprintf("%d files or directories cannot be read by this user", n), "they must be by the agent's user; sealtail run --dry-run names them")
	}
	return fmt.Sprintf("stream %s\n  files  %d now, %d bytes; start_at = %q\n  suite  %s\n  key    %s: %s\n  sink   %s: %s\n",
		s.Name, files.Files, files.Lag, s.StartAt, s.Suite, s.Key, c.keys[s.Key], s.Sink, sinkText(c.cfg.Sinks[s.Sink])), nil
}

// sinkText says in words where a sink leads.
func sinkText(s conf.Sink) string {
	if s.Type == "dir" {
		return "dir " + s.Path
	}
	return fmt.Sprintf("Logstore %s of project %s, to be encrypted: %s", s.Logstore, s.Project, encryptionText(s.Encryption))
}

// twice warns of files that another stream takes too.
func (c *checking) twice(stream, at string, taken []tail.Taken) {
	by := make(map[string]int)
	example := make(map[string]string)
	for _, f := range taken {
		id := [2]uint64{f.Dev, f.Inode}
		other, known := c.taken[id]
		if !known {
			c.taken[id] = stream
			continue
		}
		by[other]++
		example[other] = f.Path
	}
	for _, other := range slices.Sorted(maps.Keys(by)) {
		c.warn(at, fmt.Sprintf("%d files are taken by stream %s too, such as %s: their lines are sealed twice", by[other], other, example[other]),
			"exclude them in one of the two, if that is not meant")
	}
}

// found has the stream's files looked for as the agent does, once.
func found(s conf.Stream) (tail.Stats, []tail.Taken, error) {
	t, err := tail.New(tail.Options{Include: s.Include, Exclude: s.Exclude, Key: make([]byte, 32), Once: true})
	if err != nil {
		return tail.Stats{}, nil, err
	}
	// It has one round when it may not go on, and nobody takes what it reads.
	ctx, stop := context.WithCancel(context.Background())
	stop()
	err = t.Run(ctx, ctx, make(chan *record.Chunk))
	return t.Stats(), t.Taken(), err
}
