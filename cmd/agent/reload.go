package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.uber.org/zap"

	"sealtail/conf"
	"sealtail/internal/trust"
	"sealtail/pipeline"
	"sealtail/seal/keyring"
	"sealtail/tail"
)

// reloading is how changes of the configuration went.
type reloading struct {
	done    int64     // took effect
	tried   time.Time // the newest
	err     error     // why it was refused
	restart []string  // what waits for a restart
}

// readAgain has the agent do as its configuration's file says now. A file that
// is wrong, or would lose something, changes nothing.
func (a *agent) readAgain(ctx, alive context.Context) {
	a.tell(a.systemd.Reloading())
	a.setPhase("reloading")
	next, restart, err := a.next()
	if err == nil {
		if err := a.change(ctx, alive, next); err != nil {
			a.fail(err)
			return
		}
		if ctx.Err() != nil {
			return // stopped meanwhile
		}
	}
	a.set(func() {
		a.reload.tried, a.reload.err = time.Now(), err
		if err == nil {
			a.reload.done++
			a.reload.restart = restart
		}
	})
	a.setPhase("running")
	switch {
	case err != nil:
		a.log.Error("reload refused, the configuration before stays in effect", zap.Error(err))
	default:
		for _, key := range restart {
			a.log.Warn("changed, takes effect at the next restart", zap.String("key", key))
		}
		a.log.Info("reloaded", zap.String("config", next.Digest), zap.Int("streams", len(next.Streams)))
	}
	a.tell(a.systemd.Notify("READY=1"))
}

// next reads the file and returns what can be changed to, with the keys that
// cannot without a restart.
func (a *agent) next() (next *conf.Config, restart []string, err error) {
	next, err = conf.Load(a.cfg.File)
	if err != nil {
		return nil, nil, oneLine(err)
	}
	for _, w := range next.Warnings {
		a.log.Warn("config", zap.String("warning", w.Error()), zap.String("hint", w.Fix))
	}
	restart = changedKeys("agent", reflect.ValueOf(a.cfg.Agent), reflect.ValueOf(next.Agent))
	next.Agent = a.cfg.Agent
	for _, s := range next.Streams {
		if err := a.fits(next, s); err != nil {
			return nil, nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	return next, restart, nil
}

// changedKeys names the keys of a table that differ.
func changedKeys(at string, x, y reflect.Value) (keys []string) {
	for i := range x.NumField() {
		key := at + "." + x.Type().Field(i).Tag.Get("toml")
		switch f, g := x.Field(i), y.Field(i); {
		case f.Kind() == reflect.Struct:
			keys = append(keys, changedKeys(key, f, g)...)
		case !f.Equal(g):
			keys = append(keys, key)
		}
	}
	return keys
}

// fits tries what a stream is built of, without touching its state, and its
// keyring.
func (a *agent) fits(next *conf.Config, s conf.Stream) error {
	if !sameLine(a.cfg, next, s.Name) {
		quiet := zap.NewNop()
		keys, err := openKeys(next, s, quiet, nil)
		if err != nil {
			return err
		}
		end, err := openStore(next, s, quiet)
		if err != nil {
			return fmt.Errorf("sink %s: %w", s.Sink, err)
		}
		if err := end.close(); err != nil {
			return err
		}
		if faults := routeFaults(next, s); faults != nil {
			return oneLine(faults)
		}
		if _, err := newChain(next, s, a.id.signing, keys.Keys, nil); err != nil {
			return err
		}
		if _, err := newPipeline(next, s, new(chain), forgetful{}, pipeline.Options{}); err != nil {
			return err
		}
		if _, err := newTailer(s, len(next.Streams), tail.Options{Key: a.id.key}); err != nil {
			return err
		}
	}
	k := next.Keys[s.Key]
	if k.Provider != "keyring" {
		return nil
	}
	keys, err := keyring.Open(k.File).List()
	if err != nil {
		return fmt.Errorf("key %s: %w", s.Key, err)
	}
	if l := a.lines[s.Name]; l != nil {
		lost, _ := neededKeys{ids: l.spooledKeys(), files: keyringsOf(next)}.without(keys)
		if len(lost) > 0 {
			return fmt.Errorf("key %s: %w: put it back until they are shipped", s.Key, lostKeys(k.File, lost))
		}
	}
	return nil
}

// routeFaults are those of the files that the routes of a stream name.
func routeFaults(cfg *conf.Config, s conf.Stream) (faults conf.Faults) {
	for _, at := range []struct {
		section string
		route   conf.Route
	}{{"key." + s.Key, cfg.Keys[s.Key].Route}, {"sink." + s.Sink, cfg.Sinks[s.Sink].Route}} {
		if e, ok := errors.AsType[*trust.Error](trust.Check(at.route.CAFile)); ok {
			faults = append(faults, cfg.Fault(at.section+dotted(e.Key), e.Error(), e.Fix))
		}
	}
	return faults
}

// oneLine says all faults of a file in a line.
func oneLine(err error) error {
	var faults conf.Faults
	if !errors.As(err, &faults) {
		return err
	}
	return errors.New(strings.ReplaceAll(faults.Error(), "\n", "; "))
}
