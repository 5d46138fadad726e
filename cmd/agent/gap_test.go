package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealtail/record"
	"sealtail/spool"
	"sealtail/tail"
)

// Whichever frames of a spool are damaged, what their envelopes had is read
// again from the files, and nothing else is: also where lines of stdout and
// stderr lie between one another, records are cut, and a later segment's
// snapshot knows nothing of the damage.
func TestDamagedFramesAreReadAgain(t *testing.T) {
	for seed := range uint64(2) {
		for name, most := range map[string]int{"whole": 0, "cut": 10} {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				g := newGapped(t, most)
				r := rand.New(rand.NewPCG(seed, 0))
				want := g.writeCRI(r, 16)
				for i := range g.entries {
					hit := map[int]bool{i: true, r.IntN(len(g.entries)): true}
					d := g.damage(hit)
					d.follow(nil, func(int) bool { return d.read() })
					got := d.opened(hit)
					if most > 0 { // what is read again may be cut in other places
						got = text(got)
					}
					if !slices.Equal(got, want) {
						t.Errorf("entries %v are damaged: got %q, want %q", slices.Collect(maps.Keys(hit)), got, want)
						for i := range d.entries {
							t.Logf("%d: %q", i, d.entries[i].records)
						}
					}
				}
			})
		}
	}
}

// text returns the content of each source stream.
func text(records []string) []string {
	all := map[string]string{}
	for _, r := range records {
		source, content, _ := strings.Cut(r, " ")
		_, content, _ = strings.Cut(content, " ") // its offset
		all[source] += content
	}
	return []string{all["stderr"], all["stdout"]}
}

// A gapped is a log, and a spool of entries that each have one chunk of it.
type gapped struct {
	t       *testing.T
	log     string
	dir     string // of the spool
	seal    func([]byte) []byte
	o       tail.Options
	commit  *committer
	entries []gappedEntry
}

type gappedEntry struct {
	env     []byte
	records []string
}

func newGapped(t *testing.T, most int) *gapped {
	id, seal := sealer(t, 1)
	log := filepath.Join(t.TempDir(), "0.log")
	g := &gapped{t: t, log: log, dir: filepath.Join(t.TempDir(), "spool"), seal: seal,
		o: tail.Options{Include: []string{log}, Key: make([]byte, 32), Format: "cri", FlushAfter: time.Hour, MaxRecord: most, Poll: 10 * time.Millisecond}}
	g.open(&state{identity: id})
	return g
}

func (g *gapped) open(st *state) {
	g.t.Helper()
	sp, err := spool.Open(g.dir, spool.Options{SegmentBytes: 24 << 10}, st)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { sp.Close() })
	if err := sp.Recover(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	g.commit = &committer{spool: sp, state: st}
}

// follow commits what there is of the log, until enough says so of the number of
// records. It writes first.
func (g *gapped) follow(write []func(), enough func(records int) bool) {
	t := g.t
	t.Helper()
	o := g.o
	o.Positions = g.commit.state.files()
	tl, err := tail.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out, done := make(chan *record.Chunk), make(chan error, 1)
	go func() { done <- tl.Run(ctx, ctx, out) }()
	records := 0
	for {
		if len(write) > 0 {
			write[0]()
			write = write[1:]
		}
		for !enough(records) {
			c, ok := <-out
			if !ok {
				t.Fatalf("%d records within a minute; positions %+v", records, g.commit.state.positions.All())
			}
			e := gappedEntry{env: g.seal(make([]byte, 5<<10))}
			for _, r := range c.Records {
				e.records = append(e.records, fmt.Sprintf("%s %06d %s", r.Source, r.Offset, r.Content))
				if r.Part == nil || r.Part.Last {
					records++
				}
			}
			for _, e := range c.Events {
				t.Errorf("%s %v", e.Name, e.Fields)
			}
			if err := g.commit.Append(ctx, e.env, slices.Clone(c.Moved)); err != nil {
				t.Fatal(err)
			}
			c.Release()
			g.entries = append(g.entries, e)
		}
		if len(write) == 0 {
			break
		}
	}
	stop()
	for c := range out {
		c.Release()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// writeCRI writes lines of stdout and stderr, some in pieces, in so many turns
// that each end a record, and returns all records.
func (g *gapped) writeCRI(r *rand.Rand, turns int) (all []string) {
	open := map[string]string{}
	at := map[string]int64{} // where these begin
	size := int64(0)
	var write []func()
	wanted := 0
	line := func(f *os.File, source string, last bool) {
		n, tag := fmt.Sprint(len(all), "-", r.IntN(1000), "."), "P"
		if open[source] == "" {
			at[source] = size
		}
		open[source] += n
		if last {
			tag = "F"
			all = append(all, fmt.Sprintf("%s %06d %s", source, at[source], open[source]))
			delete(open, source)
		}
		k, err := fmt.Fprintf(f, "2026-01-02T03:04:05.000000006Z %s %s %s\n", source, tag, n)
		if err != nil {
			g.t.Fatal(err)
		}
		size += int64(k)
	}
	for turn := range turns {
		write = append(write, func() {
			f, err := os.OpenFile(g.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
			if err != nil {
				g.t.Fatal(err)
			}
			defer f.Close()
			for n := len(all); len(all) == n || r.IntN(2) == 0; {
				line(f, []string{"stdout", "stderr"}[r.IntN(2)], r.IntN(3) == 0)
			}
			if turn == turns-1 {
				for _, source := range slices.Sorted(maps.Keys(open)) {
					line(f, source, true)
				}
			}
			wanted = len(all)
		})
	}
	g.follow(write, func(records int) bool { return records == wanted })
	if err := g.commit.spool.Close(); err != nil {
		g.t.Fatal(err)
	}
	slices.Sort(all)
	if g.o.MaxRecord > 0 {
		all = text(all)
	}
	return all
}

// damage returns what a start finds when some envelopes have rotted.
func (g *gapped) damage(which map[int]bool) *gapped {
	t := g.t
	t.Helper()
	d := *g
	d.entries = slices.Clone(g.entries)
	d.dir = filepath.Join(t.TempDir(), "spool")
	if err := os.CopyFS(d.dir, os.DirFS(g.dir)); err != nil {
		t.Fatal(err)
	}
	segs, err := filepath.Glob(filepath.Join(d.dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if len(segs) < 3 {
		t.Fatalf("%d segments, want several", len(segs))
	}
	hits := 0
	for _, seg := range segs {
		b, err := os.ReadFile(seg)
		if err != nil {
			t.Fatal(err)
		}
		for i := range which {
			if at := bytes.Index(b, g.entries[i].env); at >= 0 {
				b[at+1000] ^= 1
				hits++
			}
		}
		if err := os.WriteFile(seg, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if hits != len(which) {
		t.Fatalf("%d of %v are in the segments", hits, which)
	}
	d.open(&state{identity: g.commit.state.identity})
	return &d
}

// read reports whether all of the log is taken.
func (g *gapped) read() bool {
	info, err := os.Stat(g.log)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, p := range g.commit.state.positions.All() {
		if p.Until != 0 || p.Offset != info.Size() {
			return false
		}
	}
	return true
}

// opened returns the records of all entries but those that are damaged.
func (g *gapped) opened(damaged map[int]bool) (all []string) {
	for i, e := range g.entries {
		if !damaged[i] {
			all = append(all, e.records...)
		}
	}
	slices.Sort(all)
	return all
}
