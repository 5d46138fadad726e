package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"sealtail/conf"
	"sealtail/internal/cloud"
	"sealtail/internal/command"
	"sealtail/reader"
	"sealtail/seal"
	"sealtail/sink/sls"
)

// logstores are those that a configuration names, and what to pull from them.
type logstores struct {
	config string
	sls.Range
	cfg *conf.Config // nil: there is none
}

func (l *logstores) flags(fs *flag.FlagSet) {
	fs.StringVar(&l.config, "c", "", "configuration `FILE`")
	now := time.Now()
	for name, to := range map[string]*time.Time{"from": &l.From, "to": &l.To} {
		fs.Func(name, "`TIME` of receipt", func(s string) (err error) {
			*to, err = parseTime(s, now)
			return err
		})
	}
	fs.Func("shard", "`NUMBER` of a shard", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return errors.New("is no number of a shard")
		}
		l.Shards = append(l.Shards, int(n))
		return nil
	})
}

// parseTime reads a time, a day, or how long ago it is.
func parseTime(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, errors.New("is no time: write 2006-01-02T15:04:05Z, 2006-01-02 (its beginning in UTC), or 90m for so long ago")
}

// load reads the configuration, if one is given.
func (l *logstores) load(verb string) error {
	limited := !l.From.IsZero() || !l.To.IsZero() || l.Shards != nil
	switch {
	case l.config == "" && limited:
		return command.Usage("%s: --from, --to and --shard are of Logstores, which -c FILE names", verb)
	case l.config == "":
		return nil
	case !l.To.IsZero() && !l.From.Before(l.To):
		return command.Usage("%s: --to is not later than --from", verb)
	}
	cfg, err := conf.LoadReader(l.config)
	var faults conf.Faults
	if err != nil && !errors.As(err, &faults) {
		return command.Fail(command.ExitConfig, err, "")
	}
	l.cfg = cfg
	return err
}

// logstoreName is how people name a Logstore.
func logstoreName(s conf.Sink) string { return s.Project + "/" + s.Logstore }

// accept reports whether the configuration lets an envelope for one Logstore
// be found in another.
func (l *logstores) accept(sealed, _ seal.Context) bool {
	return l.cfg != nil && slices.Contains(l.cfg.Reader.AcceptFrom, sealed["project"]+"/"+sealed["logstore"])
}

// each hands over every Logstore. Where they are to be read again, what is
// sealed is copied to a temporary file without a name.
func (l *logstores) each(ctx context.Context, again bool, yield func(input) error) error {
	if l.cfg == nil {
		return nil
	}
	for _, name := range l.cfg.Reader.Sinks {
		s := l.cfg.Sinks[name]
		if own := l.cfg.Reader.Credentials; own.Type != "" {
			s.Credentials = own
		}
		client, err := cloud.Logstore(s, string(program)+"/"+command.Version(release))
		if err != nil {
			return fmt.Errorf("sink %s: %w", name, err)
		}
		err = l.pull(ctx, client, logstoreName(s), again, yield)
		client.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *logstores) pull(ctx context.Context, client *sls.Client, name string, again bool, yield func(input) error) error {
	project, logstore := client.Destination()
	i := input{Source: reader.Source{Name: name, Destination: seal.Context{"project": project, "logstore": logstore}}}
	copied := bufio.NewWriter(io.Discard)
	if again {
		f, err := tempFile()
		if err != nil {
			return err
		}
		i.Open = func() (reader.File, error) { return unclosed{f}, nil }
		copied = bufio.NewWriterSize(f, 1<<20)
	}
	i.logs = func(yield func(*reader.Log) error) error {
		offset := int64(0)
		err := client.Pull(ctx, l.Range, func(it *sls.Item) error {
			log := logOf(it)
			log.Offset = offset
			offset += int64(len(it.Sealed))
			if _, err := copied.Write(it.Sealed); err != nil {
				return fmt.Errorf("copy: %w", err)
			}
			return yield(log)
		})
		if err != nil {
			return hinted(err)
		}
		return copied.Flush()
	}
	return yield(i)
}

func logOf(it *sls.Item) *reader.Log {
	f := it.Fields
	return &reader.Log{
		Sealed: it.Sealed, Stub: it.Stub, Why: it.Why, Topic: it.Topic, Err: it.Err,
		StreamID: f.StreamID, Epoch: f.Epoch, Seq: f.Seq, DEKID: f.DEKID, First: f.First, Last: f.Last,
		Where: fmt.Sprintf("in shard %d, of topic %q, from %q, shipped %s", it.Shard, it.Topic, it.Source, stamp(it.Time*1e9)),
	}
}

// hinted takes the hint of SLS's errors out of their text.
func hinted(err error) error {
	e, ok := errors.AsType[*sls.Error](err)
	if !ok {
		return err
	}
	said, hint := *e, e.Hint
	said.Hint = ""
	if e.Class == sls.Denied {
		hint = "allow it to the access key: sealtail provision --print-policies prints what a reader needs"
	}
	return command.Hinted(&said, hint)
}

// unwrappers are the services that [reader] lets open data keys. Each is asked
// for the CMK of its own key, and for those of which no [key] says whose they
// are.
func (l *logstores) unwrappers() (us []seal.Unwrapper, err error) {
	if l.cfg == nil {
		return nil, nil
	}
	placed := make(map[string]bool)
	for _, k := range l.cfg.Keys {
		placed[k.KeyID] = true
	}
	for _, name := range slices.Sorted(maps.Keys(l.cfg.Keys)) {
		k := l.cfg.Keys[name]
		if k.Provider != "alikms" {
			continue
		}
		var allow []string
		for _, id := range l.cfg.Reader.Allow {
			if id == k.KeyID || !placed[id] {
				allow = append(allow, id)
			}
		}
		if own := l.cfg.Reader.Credentials; own.Type != "" {
			k.Credentials = own
		}
		client, err := cloud.KMS(k, allow...)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		us = append(us, client)
	}
	return us, nil
}
