package pipeline_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"sealtail/internal/sample"
	"sealtail/pipeline"
	"sealtail/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A sealed envelope of the fake sealer: what it was given.
type sealed struct {
	kind        uint8
	first, last int64
	list        []byte
}

// sealer keeps what it seals; gate, if set, holds each Seal.
type sealer struct {
	t    *testing.T
	max  int
	gate func(ctx context.Context) error
	kept []sealed
}

func (s *sealer) Seal(ctx context.Context, buf []byte, kind uint8, first, last int64, codec uint8, content []byte) ([]byte, error) {
	if s.gate != nil {
		if err := s.gate(ctx); err != nil {
			return nil, err
		}
	}
	if len(content) > s.max {
		s.t.Errorf("sealing %d bytes, more than %d", len(content), s.max)
	}
	list := bytes.Clone(content)
	if codec == pipeline.CodecZstd {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		if list, err = d.DecodeAll(content, nil); err != nil {
			s.t.Error(err)
		}
	}
	s.kept = append(s.kept, sealed{kind, first, last, list})
	return fmt.Appendf(buf[:0], "env%d", len(s.kept)-1), nil
}

// spool keeps what was appended.
type spool struct {
	mu   sync.Mutex
	envs []string
	pos  record.Positions
	hold chan struct{}
	err  error
}

func (s *spool) Append(ctx context.Context, env []byte, moved []record.Position) error {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.envs = append(s.envs, string(env))
	s.pos.AppendDelta(nil, moved)
	return nil
}

func (s *spool) has(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.pos.Get(id)
	return ok
}

const maxContent = 704508

type rig struct {
	*pipeline.Pipeline
	sealer *sealer
	spool  *spool
	in     chan *record.Chunk
	done   chan error
	cancel context.CancelFunc
}

func start(t *testing.T, o pipeline.Options, adjust func(*rig)) *rig {
	t.Helper()
	r := &rig{sealer: &sealer{t: t, max: maxContent}, spool: new(spool), in: make(chan *record.Chunk), done: make(chan error, 1)}
	if adjust != nil {
		adjust(r)
	}
	o.Stream, o.Host, o.MaxContent = "audit", "host-1", maxContent
	var err error
	if r.Pipeline, err = pipeline.New(o, r.sealer, r.spool); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx, r.in) }()
	return r
}

func (r *rig) stop(t *testing.T) {
	t.Helper()
	close(r.in)
	if err := <-r.done; err != nil {
		t.Errorf("run: %v", err)
	}
	r.cancel()
}

func chunk(id uint64, offset int64, content ...string) *record.Chunk {
	c := &record.Chunk{Path: "/a", Inode: id, Offset: offset, Time: time.Now().UnixNano()}
	for _, s := range content {
		c.Records = append(c.Records, record.Record{Content: []byte(s), Offset: offset})
		offset += int64(len(s)) + 1
	}
	c.End = offset
	c.Moved = []record.Position{{ID: id, Path: "/a", From: c.Offset, Offset: offset, Size: offset}}
	return c
}

// contents and events of everything sealed, one string an envelope.
func (r *rig) story(t *testing.T) (story []string) {
	t.Helper()
	var envs []string
	for _, e := range r.spool.envs {
		if e != "" { // positions alone
			envs = append(envs, e)
		}
	}
	for i, s := range r.sealer.kept {
		if i >= len(envs) || envs[i] != fmt.Sprintf("env%d", i) {
			t.Errorf("appended %v, want envelopes in the order sealed", envs)
		}
		var parts []string
		if s.kind&pipeline.KindFinal != 0 {
			parts = append(parts, "FINAL")
		}
		if s.kind&pipeline.KindHeartbeat != 0 {
			parts = append(parts, "HEARTBEAT")
		}
		groups, err := record.Decode(s.list)
		if err != nil {
			t.Error(err)
		}
		for _, g := range groups {
			records, events, err := g.Records()
			if err != nil {
				t.Error(err)
			}
			for _, e := range events {
				parts = append(parts, "<"+e.Name+">")
			}
			for _, rec := range records {
				if rec.Time < s.first || rec.Time > s.last {
					t.Errorf("record time %d outside [%d, %d]", rec.Time, s.first, s.last)
				}
				parts = append(parts, string(rec.Content))
			}
		}
		story = append(story, strings.Join(parts, " "))
	}
	return story
}

func TestBatches(t *testing.T) {
	tests := []struct {
		name string
		o    pipeline.Options
		feed func(in chan<- *record.Chunk)
		want []string
	}{
		{"nothing", pipeline.Options{}, func(chan<- *record.Chunk) {}, nil},
		{"by age", pipeline.Options{}, func(in chan<- *record.Chunk) {
			in <- chunk(1, 0, "a")
			time.Sleep(900 * time.Millisecond)
			in <- chunk(1, 2, "b")
			time.Sleep(200 * time.Millisecond)
			in <- chunk(1, 4, "c")
		}, []string{"a b", "c"}},
		{"age counts from the oldest after a full batch", pipeline.Options{MaxRecords: 2}, func(in chan<- *record.Chunk) {
			in <- chunk(1, 0, "a")
			time.Sleep(900 * time.Millisecond)
			in <- chunk(1, 2, "b")
			in <- chunk(1, 4, "c")
			time.Sleep(900 * time.Millisecond)
			in <- chunk(1, 6, "d")
		}, []string{"a b", "c d"}},
		{"by records", pipeline.Options{MaxRecords: 2}, func(in chan<- *record.Chunk) {
			in <- chunk(1, 0, "a", "b", "c")
			in <- chunk(1, 6, "d")
		}, []string{"a b c", "d"}},
		{"by bytes", pipeline.Options{MaxBytes: 1}, func(in chan<- *record.Chunk) {
			in <- chunk(1, 0, "a")
			in <- chunk(2, 0, "b")
		}, []string{"a", "b"}},
		{"start, stop", pipeline.Options{Start: []record.Event{{Name: "start"}}, Stop: "terminated"},
			func(in chan<- *record.Chunk) { in <- chunk(1, 0, "a") }, []string{"<start> a", "FINAL <stop>"}},
		{"the start event does not wait for records", pipeline.Options{Start: []record.Event{{Name: "start"}}},
			func(in chan<- *record.Chunk) {
				time.Sleep(2 * time.Second)
				in <- chunk(1, 0, "a")
			}, []string{"<start>", "a"}},
		{"heartbeat after silence only", pipeline.Options{Heartbeat: 5 * time.Minute}, func(in chan<- *record.Chunk) {
			time.Sleep(4 * time.Minute)
			in <- chunk(1, 0, "a")
			time.Sleep(11 * time.Minute)
			in <- chunk(1, 2, "b")
		}, []string{"a", "HEARTBEAT", "HEARTBEAT", "b"}},
		{"positions alone do not postpone a heartbeat", pipeline.Options{Heartbeat: 5 * time.Minute}, func(in chan<- *record.Chunk) {
			for range 3 {
				in <- &record.Chunk{Moved: []record.Position{{ID: 1}}}
				time.Sleep(2 * time.Minute)
			}
		}, []string{"HEARTBEAT"}},
		{"an event of a file", pipeline.Options{}, func(in chan<- *record.Chunk) {
			in <- &record.Chunk{Events: []record.Event{{Name: "loss", Time: time.Now()}}}
		}, []string{"<loss>"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for i := range tt.o.Start {
					tt.o.Start[i].Time = time.Now()
				}
				r := start(t, tt.o, nil)
				tt.feed(r.in)
				r.stop(t)
				if got := r.story(t); !reflect.DeepEqual(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestPositionsAloneMakeNoEnvelope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, pipeline.Options{}, nil)
		r.in <- &record.Chunk{Moved: []record.Position{{ID: 7, Offset: 9, Size: 9}}}
		r.stop(t)
		if p, ok := r.spool.pos.Get(7); !ok || p.Offset != 9 {
			t.Errorf("got %v, want the position", p)
		}
		if !reflect.DeepEqual(r.spool.envs, []string{""}) || len(r.sealer.kept) != 0 {
			t.Errorf("got entries %q, want one without an envelope", r.spool.envs)
		}
	})
}

// What files gave up is counted whether or not records came of it: it waits for
// nothing any more.
func TestTakenWithoutRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, pipeline.Options{Stop: "terminated"}, nil)
		some, none := chunk(1, 0, "one"), chunk(1, 100)
		some.Raw, some.Taken, none.Taken = 4, 100, 50
		for i, want := range []int64{100, 150} {
			r.in <- []*record.Chunk{some, none}[i]
			time.Sleep(2 * time.Second)
			if s := r.Stats(); s.Taken != want || s.Raw != 4 {
				t.Errorf("got %d bytes taken and %d of records, want %d and 4", s.Taken, s.Raw, want)
			}
		}
		r.stop(t)
	})
}

// Batches that do not compress are halved until each fits, between chunks,
// so that positions never run ahead of what is sealed.
func TestHalvesWhatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, pipeline.Options{Stop: "terminated"}, nil)
		var want [][]byte
		var offset int64
		for range 12 {
			noise := make([]byte, 256<<10)
			rand.Read(noise)
			want = append(want, noise)
			c := chunk(1, offset, string(noise))
			offset = c.End
			r.in <- c
		}
		r.stop(t)
		var got [][]byte
		for i, s := range r.sealer.kept {
			groups, _ := record.Decode(s.list)
			for _, g := range groups {
				records, _, _ := g.Records()
				for _, rec := range records {
					got = append(got, rec.Content)
				}
			}
			if final := s.kind&pipeline.KindFinal != 0; final != (i == len(r.sealer.kept)-1) {
				t.Errorf("envelope %d of %d: FINAL is %v", i, len(r.sealer.kept), final)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %d records, want %d in order", len(got), len(want))
		}
		if p, _ := r.spool.pos.Get(1); p.Offset != offset {
			t.Errorf("got offset %d, want %d", p.Offset, offset)
		}
		if s := r.Stats(); s.Halved == 0 || s.Records != 13 {
			t.Errorf("got %+v, want halvings and 13 records", s)
		}
	})
}

// news are what a pipeline's News brings next.
type news struct {
	mu   sync.Mutex
	next []*record.Chunk
}

func (n *news) add(name string, id uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = append(n.next, &record.Chunk{
		Events: []record.Event{{Name: name, Time: time.Now()}},
		Moved:  []record.Position{{ID: id, Path: "/a"}},
	})
}

func (n *news) take() (next []*record.Chunk) {
	n.mu.Lock()
	defer n.mu.Unlock()
	next, n.next = n.next, nil
	return next
}

// What a batch waits through is sealed in the next one; what moves with an event
// is committed with it.
func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n news
		r := start(t, pipeline.Options{MaxAge: 500 * time.Millisecond, News: n.take}, func(r *rig) {
			r.sealer.gate = func(context.Context) error {
				if len(r.sealer.kept) == 0 {
					time.Sleep(3 * time.Hour)
					n.add("pause", 7)
				}
				return nil
			}
		})
		r.in <- chunk(1, 0, "a")
		n.add("before", 6)
		time.Sleep(3*time.Hour + 700*time.Millisecond)
		synctest.Wait()
		if len(r.spool.envs) != 1 || r.spool.has(6) || r.spool.has(7) {
			t.Error("what moves with an event is committed before it")
		}
		time.Sleep(time.Hour)
		r.stop(t)
		if got, want := r.story(t), []string{"a", "<before> <pause>"}; !reflect.DeepEqual(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if !r.spool.has(6) || !r.spool.has(7) {
			t.Error("what moves with an event is not committed with it")
		}
	})
}

// A quiet stream tells news at once, also those that a heartbeat waited through.
func TestNewsOfAQuietStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n news
		r := start(t, pipeline.Options{Heartbeat: 5 * time.Minute, News: n.take}, func(r *rig) {
			r.sealer.gate = func(context.Context) error {
				if len(r.sealer.kept) == 1 {
					time.Sleep(time.Hour)
					n.add("waited", 7)
				}
				return nil
			}
		})
		n.add("quiet", 6)
		time.Sleep(69 * time.Minute)
		r.in <- chunk(1, 0, "a")
		time.Sleep(6 * time.Minute)
		r.stop(t)
		if got, want := r.story(t), []string{"<quiet>", "HEARTBEAT", "<waited>", "a", "HEARTBEAT"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// News that come up while the agent stops are in the FINAL envelope.
func TestNewsInAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n news
		r := start(t, pipeline.Options{Stop: "terminated", News: n.take}, func(r *rig) {
			r.sealer.gate = func(context.Context) error {
				if len(r.sealer.kept) == 0 {
					time.Sleep(5 * time.Second)
					n.add("pause", 7)
				}
				return nil
			}
		})
		r.in <- chunk(1, 0, "a")
		r.stop(t)
		if got, want := r.story(t), []string{"a", "FINAL <pause> <stop>"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// While sealing waits the pipeline takes what one batch holds and no more.
func TestH79_BackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, pipeline.Options{MaxBytes: 1}, func(r *rig) { r.spool.hold = make(chan struct{}) })
		taken := 0
		for taken = range 100 {
			synctest.Wait()
			select {
			case r.in <- chunk(1, int64(taken), ""):
				continue
			case <-time.After(time.Hour):
			}
			break
		}
		if taken > 4 {
			t.Errorf("took %d batches while the spool had no room", taken)
		}
		close(r.spool.hold)
		r.stop(t)
		if len(r.spool.envs) != taken {
			t.Errorf("got %d envelopes, want %d", len(r.spool.envs), taken)
		}
	})
}

func TestStopWhilePausedLeavesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, pipeline.Options{Stop: "terminated"}, func(r *rig) {
			r.sealer.gate = func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}
		})
		r.in <- chunk(1, 0, "a")
		close(r.in)
		synctest.Wait()
		r.cancel()
		if err := <-r.done; err != nil {
			t.Errorf("got %v, want nil", err)
		}
		if len(r.spool.envs) != 0 || r.spool.pos.Len() != 0 {
			t.Error("something was committed")
		}
	})
}

func TestAFailedAppendEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("fsync: input/output error")
		waiting := make(chan struct{})
		r := start(t, pipeline.Options{MaxBytes: 1}, func(r *rig) {
			r.spool.err = broken
			n := 0
			r.sealer.gate = func(ctx context.Context) error {
				if n++; n > 1 {
					close(waiting)
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		})
		r.in <- chunk(1, 0, "a")
		select {
		case r.in <- chunk(1, 2, "b"):
		case err := <-r.done:
			r.done <- err
		}
		if err := <-r.done; !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		r.cancel()
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]pipeline.Options{
		"level":       {Level: "best", MaxContent: maxContent},
		"max content": {MaxContent: record.MaxChunkEncoded - 1},
	} {
		if _, err := pipeline.New(o, nil, nil); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// discard seals to a fixed envelope and forgets.
type discard struct{}

func (discard) Seal(context.Context, []byte, uint8, int64, int64, uint8, []byte) ([]byte, error) {
	return nil, nil
}
func (discard) Append(context.Context, []byte, []record.Position) error { return nil }

func BenchmarkPipeline(b *testing.B) {
	for _, level := range []string{"fastest", "default", "better"} {
		b.Run(level, func(b *testing.B) {
			p, err := pipeline.New(pipeline.Options{MaxContent: maxContent, Level: level}, discard{}, discard{})
			if err != nil {
				b.Fatal(err)
			}
			in := make(chan *record.Chunk, 1)
			done := make(chan error)
			go func() { done <- p.Run(b.Context(), in) }()
			var chunks []*record.Chunk
			var size int64
			for seed := range uint64(64) {
				lines := strings.Split(string(sample.AccessLog(nil, seed, 190*record.MaxChunkRecords)), "\n")
				c := chunk(1, 0, lines[:record.MaxChunkRecords]...)
				chunks, size = append(chunks, c), size+c.End
			}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				for _, c := range chunks {
					in <- c
				}
			}
			close(in)
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			s := p.Stats()
			b.ReportMetric(float64(s.Encoded)/float64(s.Content), "ratio")
		})
	}
}

// Both goroutines go on each second while they wait; what waits in the spool
// is the spool's to tell.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := start(t, pipeline.Options{}, func(r *rig) { r.spool.hold = hold })
		late := func(at time.Time) bool { return time.Since(at) > time.Second }
		time.Sleep(time.Hour)
		if s := r.Stats(); late(s.Collected) || late(s.Appended) {
			t.Errorf("without work: collected %v, appended %v", s.Collected, s.Appended)
		}
		for i := range int64(3) { // one in the spool, one in the channel, one before it
			r.in <- chunk(1, 2*i, "x")
			time.Sleep(2 * time.Second)
		}
		time.Sleep(time.Hour)
		if s := r.Stats(); late(s.Collected) || !late(s.Appended) {
			t.Errorf("without room: collected %v, appended %v", s.Collected, s.Appended)
		}
		close(hold)
		r.stop(t)
		if s := r.Stats(); !s.Collected.IsZero() || !s.Appended.IsZero() {
			t.Errorf("at the end: collected %v, appended %v", s.Collected, s.Appended)
		}
	})
}
