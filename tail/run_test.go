package tail_test

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"sealtail/record"
	"sealtail/tail"
)

// A running is a running tailer and its channel.
type running struct {
	*bench
	running *tail.Tailer
	out     chan *record.Chunk
	stop    func() error
}

func (b *bench) run(buffered int) *running { b.t.Helper(); return b.runWith(buffered, nil) }

func (b *bench) runWith(buffered int, watcher func() (*fsnotify.Watcher, error)) *running {
	b.t.Helper()
	b.o.Positions = b.pos.All()
	clear(b.told)
	t, err := tail.New(b.o)
	b.do(err)
	if watcher != nil {
		t.SetWatcher(watcher)
	}
	if b.noPoll {
		t.NoPoll()
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	r := &running{bench: b, out: make(chan *record.Chunk, buffered)}
	done := make(chan error, 1)
	go func() { done <- t.Run(ctx, ctx, r.out) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		for range r.out {
		}
		return <-done
	})
	b.t.Cleanup(func() { r.stop() })
	b.tail = nil
	r.running = t
	return r
}

// until takes chunks until there are n lines more.
func (r *running) until(n int) {
	r.t.Helper()
	late := time.After(5 * time.Minute) // something is broken
	for len(r.lines) < n {
		select {
		case c, ok := <-r.out:
			if !ok {
				r.t.Fatalf("closed after %d lines, want %d", len(r.lines), n)
			}
			r.take(c)
		case <-late:
			r.t.Fatalf("%d lines in time, want %d: %+v", len(r.lines), n, r.running.Stats())
		}
	}
}

func TestRun(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	r := b.run(0)
	r.until(1)
	b.write("a.log", "two\n")
	b.write("b.log", "three\n")
	r.until(3)
	b.do(r.stop())
	b.wantSet("one", "three", "two")
	r = b.run(1)
	b.write("b.log", "four\n")
	r.until(1)
	b.do(r.stop())
	b.want("four")
}

// With Once the lines there are come, then out is closed.
func TestOnce(t *testing.T) {
	b := newBench(t)
	b.o.Once = true
	b.write("a.log", numbered("a", 0, 20000)+"unfinished")
	b.write("b.log", "")
	b.copy("a.log", "copy.log")
	r := b.run(0)
	for c := range r.out {
		b.take(c)
	}
	b.do(r.stop())
	want := append(lines(numbered("a", 0, 20000)), lines(numbered("a", 0, 20000))...)
	b.wantSet(want...)
}

// With Once each file is closed at its end, so that more of them than may be
// open are read.
func TestOnceMoreFilesThanDescriptors(t *testing.T) {
	b := newBench(t)
	b.o.Once, b.o.MaxOpen = true, 4
	want := b.each(50, "line")
	b.write("long.log", numbered("long", 0, 20000))
	b.write("empty.log", "")
	b.write("unfinished.log", "unfinished")
	b.do(os.Link(b.path("long.log"), b.path("hard.log")))
	r := b.run(0)
	for c := range r.out {
		b.take(c)
	}
	b.do(r.stop())
	b.wantSet(append(want, lines(numbered("long", 0, 20000))...)...)
}

// With Once and positions, reading goes on at them and ends where the file
// ended.
func TestOnceGoesOn(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.want("one")
	b.stop()
	b.o.Once = true
	b.write("a.log", numbered("a", 0, 20000))
	r := b.run(0)
	for c := range r.out {
		b.take(c)
		b.write("a.log", "later\n")
	}
	b.do(r.stop())
	b.want(lines(numbered("a", 0, 20000))...)
}

// While nobody takes chunks, files that come and go are opened and held.
func TestH43_BlockedStillDiscovers(t *testing.T) {
	b := newBench(t)
	b.start()
	var want []string
	for i := range 10 {
		name := fmt.Sprintf("%d.log", i)
		b.write(name, fmt.Sprintf("%d\n", i))
		b.tail.Round(second)
		b.remove(name)
		want = append(want, fmt.Sprint(i))
	}
	b.step(second)
	b.wantSet(want...)
	b.wantLosses()
}

// The watcher is added to and removed from while it has events, in a directory
// that is noisy, comes and goes: the loop goes on, and polling finds all.
func TestH41_WatcherUnderFire(t *testing.T) {
	b := newBench(t, "**/*.log")
	b.o.Poll = 10 * time.Millisecond
	r := b.run(0)
	var wg sync.WaitGroup
	const writers, rounds = 4, 50
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				dir := b.path(fmt.Sprintf("d%d", w))
				if err := os.MkdirAll(dir+"/sub", 0o755); err != nil {
					t.Error(err)
				}
				name := fmt.Sprintf("%s/sub/%d.log", dir, i)
				for range 20 {
					f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
					if err != nil {
						t.Error(err)
						return
					}
					fmt.Fprintf(f, "%d\n", i)
					f.Close()
				}
				os.Rename(dir+"/sub", fmt.Sprintf("%s/sub%d", dir, i))
			}
		})
	}
	r.until(writers * rounds * 20)
	wg.Wait()
	b.do(r.stop())
}

// New files, and what is written after a silence, are read without a poll: also
// in a directory that is not watched any more because it is written to all the
// time, and where files are moved out of the pattern as soon as they are read.
func TestHintShortensWait(t *testing.T) {
	for _, noisy := range []bool{false, true} {
		b := newBench(t)
		b.write("a.log", "x\n")
		b.write("quiet.log", "x\n")
		b.noPoll = true
		r := b.run(0)
		r.until(2)
		n := 2
		if noisy {
			for range 120 {
				b.write("a.log", "x\n")
				n++
				r.until(n)
			}
		}
		for i := range 20 {
			name := fmt.Sprintf("%d.log", i)
			b.write(name, "x\n")
			n++
			r.until(n)
			b.rename(name, name+".old")
			if i%10 == 0 {
				b.write("quiet.log", "x\n")
				n++
				r.until(n)
			}
		}
		b.do(r.stop())
		if s := r.running.Stats(); s.Scans != 1 {
			t.Errorf("scans: got %d, want 1", s.Scans)
		}
	}
}

// A file that grows at full speed does not starve others: one chunk a turn.
func TestFairness(t *testing.T) {
	b := newBench(t)
	b.write("big.log", strings.Repeat("a line of the big file\n", 500_000))
	for i := range 1000 {
		b.write(fmt.Sprintf("small%d.log", i), "small\n")
	}
	b.start()
	b.tail.Round(0)
	seen := 0
	for range 1010 {
		c := b.tail.Next()
		if c == nil {
			t.Fatal("nothing more")
		}
		if n := c.End - c.Offset; n > 256<<10 || len(c.Records) > record.MaxChunkRecords {
			t.Errorf("chunk of %d bytes, %d records", n, len(c.Records))
		}
		if string(c.Records[0].Content) == "small" {
			seen++
		}
		c.Release()
	}
	if seen != 1000 {
		t.Errorf("small files after 1010 chunks: got %d, want 1000", seen)
	}
}

// Stats add up.
func TestStats(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\ntwo\nthr")
	b.write("b.log", "")
	b.step(0)
	b.step(second)
	s := b.tail.Stats()
	s.Turned, s.ScanTime = time.Time{}, 0
	want := tail.Stats{Files: 2, Open: 2, Opened: 2, Seen: 11, Bytes: 8, Records: 2, Lag: 3, Scans: 2}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
}
