package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"sealtail/conf"
	"sealtail/seal"
	"sealtail/seal/keyring"
)

// A ring makes data keys from a keyring, as long as that has the keys under
// which batches are sealed that wait in the spool. One that lost such a key is
// another keyring, put there by mistake, or the key was taken away: either way
// what is sealed from now on might be opened by nobody. A key that the file
// itself says is destroyed was not lost but given up; that is told, and sealing
// goes on under the primary.
//
// It is held so at each use of the file, whatever made it change, and at a start.
type ring struct {
	*keyring.Keyring
	file      string
	needs     func() neededKeys
	destroyed atomic.Pointer[[]string] // keys that wait, as of the newest use
	log       *zap.Logger
}

// openRing is also for a keyring that is not right now: it may be mended while
// the agent waits.
func openRing(file string, needs func() neededKeys, log *zap.Logger) *ring {
	r := &ring{Keyring: keyring.Open(file), file: file, needs: needs, log: log}
	if err := r.SelfTest(); err != nil {
		log.Warn("keyring fails its self-test", zap.String("file", file), zap.Error(err))
	}
	if opens, err := r.Opens(); err == nil && opens {
		log.Warn("the keyring can open what it seals: whoever takes over this host can read what it shipped", zap.String("file", file))
	}
	return r
}

// Generate is called by one goroutine.
func (r *ring) Generate(ctx context.Context, context []byte) (seal.DataKey, error) {
	return r.GenerateIf(ctx, context, func(keys []keyring.Key) error {
		lost, destroyed := r.needs().without(keys)
		if before := r.destroyed.Swap(&destroyed); len(destroyed) > 0 && (before == nil || !slices.Equal(*before, destroyed)) {
			r.log.Error("keys are destroyed under which batches in the spool are sealed", zap.String("file", r.file), zap.Strings("keys", destroyed))
		}
		if len(lost) > 0 {
			return &seal.KMSError{Class: seal.Revoked, Code: "LostKey", Err: lostKeys(r.file, lost)}
		}
		return nil
	})
}

// destroyedOf returns those of the keys that were destroyed.
func (r *ring) destroyedOf(ids []string) (gone []string) {
	if r == nil || r.destroyed.Load() == nil {
		return nil
	}
	for _, id := range *r.destroyed.Load() {
		if slices.Contains(ids, id) {
			gone = append(gone, id)
		}
	}
	return gone
}

func lostKeys(file string, ids []string) error {
	return fmt.Errorf("keyring %s lost key %s, under which batches in the spool are sealed", file, strings.Join(ids, ", "))
}

// neededKeys are what a keyring has to have for what waits in spools.
type neededKeys struct {
	ids   []string // in any order, and perhaps twice
	files []string // of all keyrings that may have them: a stream may have gone over to another
}

// without returns the keys that neither a keyring with these keys nor any of
// the files has, and those that are destroyed in one of them and usable in none.
func (n neededKeys) without(keys []keyring.Key) (lost, destroyed []string) {
	has := make(map[string]bool) // false = destroyed
	note := func(keys []keyring.Key) {
		for _, k := range keys {
			has[k.ID] = has[k.ID] || k.State != keyring.Destroyed
		}
	}
	note(keys)
	if !slices.ContainsFunc(n.ids, func(id string) bool { return !has[id] }) {
		return nil, nil
	}
	for _, file := range n.files {
		if keys, err := keyring.Open(file).List(); err == nil {
			note(keys)
		}
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(n.ids))) {
		switch usable, known := has[id]; {
		case !known:
			lost = append(lost, id)
		case !usable:
			destroyed = append(destroyed, id)
		}
	}
	return lost, destroyed
}

// needed returns what the keyring of a key has to have for the lines that use
// it.
func (a *agent) needed(key string) (n neededKeys) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lines {
		if l.stream.Key == key {
			n.ids = append(n.ids, l.spooledKeys()...)
		}
	}
	n.files = keyringsOf(a.cfg)
	return n
}

// spooledKeys returns the keys of keyrings that envelopes name which are not
// acknowledged yet, in order. It waits for nothing.
func (l *line) spooledKeys() []string {
	s := l.spool.Stats()
	return l.named.among(s.Pending + s.Unrecovered)
}

// keyringsOf returns the files of all keyrings.
func keyringsOf(cfg *conf.Config) (files []string) {
	for _, k := range cfg.Keys {
		if k.Provider == "keyring" {
			files = append(files, k.File)
		}
	}
	slices.Sort(files)
	return files
}

// namedKeys remembers which keys of keyrings the envelopes of a spool name. It
// is safe for concurrent use.
type namedKeys struct {
	mu        sync.Mutex
	envelopes int64            // that went into the spool, as far as it remembers
	last      map[string]int64 // key's id → number of the newest envelope that names it
}

func (n *namedKeys) add(e *seal.Envelope) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = make(map[string]int64)
	}
	n.envelopes++
	for _, id := range keysNamed(e) {
		n.last[id] = n.envelopes
	}
}

// among returns those that the newest so many envelopes name, in order.
func (n *namedKeys) among(pending int64) (ids []string) {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, last := range n.last {
		if last > n.envelopes-pending {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// keysNamed returns the keys of keyrings that an envelope's data key is wrapped
// under.
func keysNamed(e *seal.Envelope) (ids []string) {
	for _, r := range e.Recipients {
		if r.Type == seal.TypeKeyring || r.Type == seal.TypeHPKE {
			ids = append(ids, string(r.KeyID))
		}
	}
	return ids
}
