package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/conf"
	"sealtail/internal/durable"
	"sealtail/pipeline"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/seal/keyring"
	"sealtail/spool"
)

// A switchable key service works or is revoked.
type switchable struct {
	seal.KMS
	mu  sync.Mutex
	err error
}

func (s *switchable) Generate(ctx context.Context, context []byte) (seal.DataKey, error) {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return seal.DataKey{}, err
	}
	return s.KMS.Generate(ctx, context)
}

func (s *switchable) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// A pausing is one process's run of a stream, from its pauses to its spool.
type pausing struct {
	t        *testing.T
	keys     *seal.Keys
	commit   *committer
	pauses   *pauses
	pipeline *pipeline.Pipeline
	in       chan *record.Chunk
	stages   stages
	kill     context.CancelFunc // of all but the data keys
	wipe     context.CancelFunc // of those
	sp       *spool.Spool
}

// begin starts a process on the spool in dir.
func begin(t *testing.T, dir string, id *seal.Identity, kms seal.KMS) *pausing {
	t.Helper()
	header, err := envelopeContext(conf.Sink{Type: "dir"})
	if err != nil {
		t.Fatal(err)
	}
	p := &pausing{t: t, in: make(chan *record.Chunk)}
	p.keys = seal.NewKeys(seal.KeyOptions{
		Refresh: time.Millisecond, Confirm: -1, RetryRevoked: time.Millisecond, RetryMax: time.Millisecond,
	}, kms, seal.AES256GCM, header)
	st := &state{identity: id}
	if p.sp, err = spool.Open(dir, spool.Options{FS: unsynced{durable.OS}}, st); err != nil {
		t.Fatal(err)
	}
	if err := p.sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.commit = &committer{spool: p.sp, state: st}
	p.pauses = newPauses(p.keys, st.pauses())
	sealer, err := seal.NewChain(seal.ChainOptions{Identity: id, Keys: p.keys, Suite: seal.AES256GCM, Context: header, Head: st.Head()})
	if err != nil {
		t.Fatal(err)
	}
	p.pipeline, err = pipeline.New(pipeline.Options{
		Stream: "s", Host: "h", MaxContent: seal.MaxContent, MaxAge: time.Millisecond, News: p.pauses.news,
		Start: []record.Event{{Name: "start", Time: time.Now()}}, Stop: "terminated",
	}, &chain{Chain: sealer}, p.commit)
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.Background())
	alive, wipe := context.WithCancel(context.Background())
	p.kill, p.wipe = kill, wipe
	p.stages.run("keys", kill, func() error { return p.keys.Run(alive) })
	p.stages.run("pipeline", kill, func() error { return p.pipeline.Run(ctx, p.in) })
	p.stages.run("pauses", kill, func() error { return unlessEnded(ctx, p.pauses.note(ctx, p.commit)) })
	return p
}

// end ends the process: with a stop, or as kill -9 does.
func (p *pausing) end(graceful bool) {
	p.t.Helper()
	if graceful {
		close(p.in)
		p.stages.wait("pipeline")
	}
	p.kill()
	p.stages.wait("pipeline", "pauses")
	p.wipe()
	p.stages.wait("keys")
	if p.stages.err != nil {
		p.t.Error(p.stages.err)
	}
	if err := p.sp.Close(); err != nil {
		p.t.Error(err)
	}
}

// until waits for a condition of the committed state.
func (p *pausing) until(what string, holds func(*state) bool) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		p.commit.mu.Lock()
		ok := holds(p.commit.state)
		p.commit.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no %s in 30 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func noted(n int) func(*state) bool {
	return func(s *state) bool { return len(s.pauses()) == n }
}

// told opens what the spool holds and returns its events in order.
func told(t *testing.T, dir string, id *seal.Identity, ring *keyring.Keyring) (names []string, pauses []record.Event) {
	t.Helper()
	sp, err := spool.Open(dir, spool.Options{}, &state{identity: id})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	sp.CloseInput()
	for {
		envs, upto, err := sp.Next(t.Context(), nil, 1<<20)
		if errors.Is(err, io.EOF) {
			return names, pauses
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, env := range envs {
			e, err := seal.Parse(env)
			if err != nil {
				t.Fatal(err)
			}
			dek, err := seal.Unwrap(t.Context(), &e.Header, e.Recipients, ring)
			if err != nil {
				t.Fatal(err)
			}
			content, err := e.Open(dek.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			list, err := seal.Decompress(e.Codec, content)
			if err != nil {
				t.Fatal(err)
			}
			groups, err := record.Decode(list)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				_, events, _ := g.Records()
				for _, ev := range events {
					names = append(names, ev.Name)
					if ev.Name == "pause" {
						pauses = append(pauses, ev)
					}
				}
			}
		}
		sp.Trim(upto)
	}
}

// Each pause is told once: one in which nothing waited, one that a stop or a
// kill cuts, and one that had ended but whose event was not committed.
func TestEachPauseIsTold(t *testing.T) {
	ringFile := filepath.Join(t.TempDir(), "keyring.json")
	if _, err := keyring.New(ringFile, keyring.AES256GCM); err != nil {
		t.Fatal(err)
	}
	id, err := seal.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	revoked := &seal.KMSError{Class: seal.Revoked, Code: "Rejected.Disabled"}
	for _, tt := range []struct {
		name string
		live func(t *testing.T, dir string, kms *switchable)
		want string
	}{
		{"nothing waits in it", func(t *testing.T, dir string, kms *switchable) {
			p := begin(t, dir, id, kms)
			p.until("start", func(s *state) bool { return s.last != nil })
			kms.set(revoked)
			p.until("note", noted(1))
			kms.set(nil)
			p.until("key", func(*state) bool { return p.keys.State().Phase != seal.Paused })
			p.end(true)
		}, "start pause stop"},
		{"killed in it", func(t *testing.T, dir string, kms *switchable) {
			kms.set(revoked)
			p := begin(t, dir, id, kms)
			p.until("note", noted(1))
			p.end(false)
			p = begin(t, dir, id, kms)
			p.until("note", noted(2))
			kms.set(nil)
			p.until("both told", noted(0))
			p.end(true)
		}, "start pause pause stop"},
		{"killed in it, and again", func(t *testing.T, dir string, kms *switchable) {
			kms.set(revoked)
			p := begin(t, dir, id, kms)
			for n := 1; n <= 4; n++ {
				p.until("note", noted(n))
				p.end(false)
				time.Sleep(time.Second)
				p = begin(t, dir, id, kms)
			}
			p.until("note", noted(5))
			kms.set(nil)
			p.until("all told", noted(0))
			p.end(true)
		}, "start pause pause pause pause pause stop"},
		{"stopped in it, and started when it is over", func(t *testing.T, dir string, kms *switchable) {
			p := begin(t, dir, id, kms)
			p.until("start", func(s *state) bool { return s.last != nil })
			kms.set(revoked)
			p.until("note", noted(1))
			p.end(false)
			kms.set(nil)
			p = begin(t, dir, id, kms)
			p.until("told", noted(0))
			p.end(true)
		}, "start start pause stop"},
		{"its line is replaced in it, as by a reload", func(t *testing.T, dir string, kms *switchable) {
			kms.set(revoked)
			p := begin(t, dir, id, kms)
			p.until("note", noted(1))
			p.pauses = newPauses(p.keys, p.commit.state.pauses())
			if got := p.pauses.news(); len(got) != 0 {
				t.Errorf("got %d news of a pause that lasts", len(got))
			}
			if p.pauses.id != p.commit.state.pauses()[0].ID {
				t.Error("a second note would be committed")
			}
			kms.set(nil)
			p.until("told", noted(0))
			p.end(true)
		}, "start pause stop"},
		{"killed before its event is committed", func(t *testing.T, dir string, kms *switchable) {
			p := begin(t, dir, id, kms)
			p.until("start", func(s *state) bool { return s.last != nil })
			kms.set(revoked)
			p.until("note", noted(1))
			kms.set(nil)
			p.until("key", func(*state) bool { return p.keys.State().Phase != seal.Paused })
			if got := p.pauses.news(); len(got) != 1 { // taken, and lost with the process
				t.Errorf("got %d news, want 1", len(got))
			}
			p.end(false)
			p = begin(t, dir, id, kms)
			p.until("told", noted(0))
			p.end(true)
		}, "start start pause stop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			var began, ended time.Time
			synctest.Test(t, func(t *testing.T) {
				began = time.Now()
				tt.live(t, dir, &switchable{KMS: keyring.Open(ringFile)})
				ended = time.Now()
			})
			names, pauses := told(t, dir, id, keyring.Open(ringFile))
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			last := began.UnixNano()
			for _, p := range pauses {
				var from, to int64
				if _, err := fmt.Sscan(p.Fields[1].Value+" "+p.Fields[2].Value, &from, &to); err != nil {
					t.Error(err)
				}
				if p.Fields[0].Value != "revoked" || from < last || to < from || to > ended.UnixNano() {
					t.Errorf("got %v", p.Fields)
				}
				last = to
			}
		})
	}
}

// A pause does not end before it began, whatever the clock says.
func TestPauseWithClockPutBack(t *testing.T) {
	from := time.Unix(1000, 0)
	for to, want := range map[time.Time]string{from.Add(time.Second): "1001000000000", from: "1000000000000", from.Add(-time.Hour): "1000000000000"} {
		if got := tellPause(1, "outage", from, to).Events[0].Fields[2]; got.Key != "to" || got.Value != want {
			t.Errorf("to %v: got %v, want %s", to, got, want)
		}
	}
}
