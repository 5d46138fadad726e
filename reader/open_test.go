package reader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"sealtail/reader"
	"sealtail/record"
	"sealtail/seal"
)

func TestOpen(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			h := newHost(t)
			e1, head := h.run(suite, nil, 1, 4, true)
			e2, _ := h.run(suite, head, 2, 2, false)
			lines := []string{"epoch 1 line 0", "epoch 1 line 1", "epoch 1 line 2", "epoch 1 line 3", "epoch 2 line 0", "epoch 2 line 1"}
			clone, _ := h.run(suite, head, 3, 1, false)
			forged := slices.Clone(e1[1])
			forged[len(forged)-1] ^= 1
			for _, c := range []struct {
				name  string
				files [][]byte
				want  []string
			}{
				{"in order", [][]byte{join(e1, e2)}, lines},
				{"in no order", [][]byte{join(e2[1], e1[2], e1[0]), join(e2[0], e1[3], e1[1])}, lines},
				{"with duplicates", [][]byte{join(e1, e1[1:]), join(e1[2:], e2), join(e2)}, lines},
				{"with a stub of what is elsewhere", [][]byte{join(e1[0], stub(t, e1[1]), e1[2:], e2), e1[1]}, lines},
				{"parked", [][]byte{join(e1[0], stub(t, e1[1]), e1[2:4])}, []string{lines[0], lines[2], lines[3]}},
				{"forged is not opened", [][]byte{join(e1[0], forged, e1[2:4])}, []string{lines[0], lines[2], lines[3]}},
				{"both sides of a fork", [][]byte{join(e1[3], e2, clone)}, []string{lines[3], lines[4], lines[5], "epoch 3 line 0"}},
			} {
				t.Run(c.name, func(t *testing.T) {
					r := read(t, reader.Options{}, c.files...)
					rep := r.Verify()
					before := words(rep)
					got, _ := open(t, r, h.keyring)
					want(t, "lines", got, c.want)
					want(t, "findings after opening", words(rep), before)
				})
			}
		})
	}
}

func TestRecord(t *testing.T) {
	h := newHost(t)
	c := h.chain(seal.SM4GCM, nil, 7)
	b := record.NewBatch("audit", "host-1", []record.Tag{{Key: "cluster", Value: "hz-1"}})
	at := base.Add(123456789)
	b.AddEvent(record.Event{Name: "start", Time: at, Fields: []record.Tag{{Key: "version", Value: "1"}}})
	b.Add(&record.Chunk{
		Path: "/a", Inode: 42, Offset: 1000, End: 2000, Time: at.UnixNano(), Tags: []record.Tag{{Key: "__pod_name__", Value: "p"}},
		Records: []record.Record{
			{Content: []byte("first"), Offset: 1000},
			{Content: []byte{}, Offset: 1006},
			{Content: []byte("after a hole"), Offset: 1100, Time: at.Add(time.Millisecond).UnixNano()},
			{Content: []byte("\xff"), Offset: 1113},
		},
	})
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := c.Seal(t.Context(), nil, 0, at.UnixNano(), at.UnixNano(), seal.CodecZstd, enc.EncodeAll(b.Encoded(), nil))
	if err != nil {
		t.Fatal(err)
	}
	r := read(t, reader.Options{}, env)
	r.Verify()
	_, recs := open(t, r, h.keyring)
	if len(recs) != 5 {
		t.Fatalf("got %d records, want 5", len(recs))
	}
	tags := []record.Tag{{Key: "cluster", Value: "hz-1"}}
	if e := recs[0]; e.Event != "start" || !slices.Equal(e.Fields, []record.Tag{{Key: "version", Value: "1"}}) || !e.Time.Equal(at) || !slices.Equal(e.Tags, tags) {
		t.Errorf("got event %+v", e)
	}
	for i, offset := range []int64{1000, 1006, 1100, 1113} {
		rec := recs[i+1]
		if rec.Offset != offset || rec.Stream != "audit" || rec.Host != "host-1" || rec.Path != "/a" || rec.Inode != 42 ||
			rec.Epoch != 7 || rec.Seq != 0 || rec.StreamID != c.StreamID() || rec.Event != "" || len(rec.Tags) != 2 {
			t.Errorf("record %d: got %+v, want offset %d", i, rec, offset)
		}
	}
	if !recs[1].Time.Equal(at) || !recs[3].Time.Equal(at.Add(time.Millisecond)) || string(recs[4].Content) != "\xff" {
		t.Errorf("got %v, %v, %q", recs[1].Time, recs[3].Time, recs[4].Content)
	}
}

// piece returns a batch of one piece of a record.
func piece(at time.Time, id uint64, index uint32, last bool, content string) []byte {
	b := record.NewBatch("s", "h", nil)
	b.Add(&record.Chunk{Time: at.UnixNano(), Offset: int64(100 * index), End: 1, Records: []record.Record{
		{Content: []byte(content), Offset: int64(100 * index), Part: &record.Part{ID: id, Index: index, Last: last}},
	}})
	return slices.Clone(b.Encoded())
}

func TestParts(t *testing.T) {
	type p struct {
		id    uint64
		index uint32
		last  bool
		text  string
	}
	for _, c := range []struct {
		name  string
		parts []p
		drop  int // of the envelopes, one a part; -1 = none
		want  []string
		finds []string
	}{
		{"one", []p{{1, 0, true, "whole"}}, -1, []string{"whole"}, nil},
		{"two", []p{{1, 0, false, "to"}, {1, 1, true, "gether"}}, -1, []string{"together"}, nil},
		{"two records at once", []p{{1, 0, false, "a"}, {2, 0, false, "b"}, {1, 1, true, "A"}, {2, 1, true, "B"}}, -1, []string{"aA", "bB"}, nil},
		{"end not known", []p{{1, 0, false, "a"}, {1, 1, false, "b"}, {2, 0, true, "c"}}, -1, []string{"c", "ab…"}, nil},
		{"middle missing", []p{{1, 0, false, "a"}, {1, 1, false, "b"}, {1, 2, false, "c"}, {1, 3, true, "d"}}, 1, []string{"a…", "…cd"}, []string{"gap 1:1", "incomplete 1:2"}},
		{"end missing", []p{{1, 0, false, "a"}, {1, 1, true, "b"}, {2, 0, true, "c"}}, 1, []string{"c", "a…"}, []string{"gap 1:1"}},
		{"start out of range", []p{{1, 0, false, "a"}, {1, 1, false, "b"}, {1, 2, true, "c"}}, 0, []string{"…bc"}, nil},
		{"start never sealed", []p{{1, 1, false, "b"}, {1, 2, true, "c"}}, -1, []string{"…bc"}, []string{"incomplete 1:0"}},
		{"id used again", []p{{1, 0, true, "a"}, {1, 0, true, "b"}}, -1, []string{"a", "b"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			chain := h.chain(seal.AES256GCM, nil, 1)
			var envs [][]byte
			for i, p := range c.parts {
				env := h.seal(chain, 0, base, base, piece(base, p.id, p.index, p.last, p.text))
				if i != c.drop {
					envs = append(envs, env)
				}
			}
			r := read(t, reader.Options{}, join(envs))
			rep := r.Verify()
			got, _ := open(t, r, h.keyring)
			want(t, "records", got, c.want)
			want(t, "findings", words(rep)[1:], c.finds)
		})
	}
}

// TestLongRecord cuts a record so long that it is given out in parts.
func TestLongRecord(t *testing.T) {
	h := newHost(t)
	chain := h.chain(seal.AES256GCM, nil, 1)
	text := strings.Repeat("x", 600_000)
	var envs [][]byte
	const n = 240 // 144 MB
	var enc, _ = zstd.NewWriter(nil)
	for i := range n {
		env, err := chain.Seal(t.Context(), nil, 0, base.UnixNano(), base.UnixNano(), seal.CodecZstd, enc.EncodeAll(piece(base, 1, uint32(i), i == n-1, text), nil))
		if err != nil {
			t.Fatal(err)
		}
		envs = append(envs, env)
	}
	r := read(t, reader.Options{}, join(envs))
	rep := r.Verify()
	total, parts := 0, 0
	err := r.Open(t.Context(), []seal.Unwrapper{h.keyring}, func(rec *reader.Record) error {
		if rec.NoStart != (parts > 0) || rec.NoEnd != (total+len(rec.Content) < n*len(text)) || rec.Offset != 0 && rec.Offset != int64(total) {
			t.Errorf("part %d at %d: %t, %t", parts, rec.Offset, rec.NoStart, rec.NoEnd)
		}
		total += len(rec.Content)
		parts++
		return nil
	})
	if err != nil || total != n*len(text) || parts != 3 {
		t.Errorf("got %d bytes in %d parts, %v; want %d in 3", total, parts, err, n*len(text))
	}
	want(t, "findings", words(rep), []string{"anchored 1:0"})
}

// TestKeySections strips key sections: the data key is pooled.
func TestKeySections(t *testing.T) {
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 3, false)
	parsed, err := seal.Parse(e[0])
	if err != nil {
		t.Fatal(err)
	}
	rewrapped, err := seal.MarshalKeyFile([]seal.RewrappedKey{{DEKID: parsed.DEKID, Recipients: parsed.Recipients}})
	if err != nil {
		t.Fatal(err)
	}
	// strip changes the last byte of the wrapped key, which ends the section.
	strip := func(env []byte) []byte {
		p, err := seal.Parse(env)
		if err != nil {
			t.Fatal(err)
		}
		env = slices.Clone(env)
		env[len(env)-97-len(p.Payload)-1] ^= 1
		return env
	}
	lines := []string{"epoch 1 line 0", "epoch 1 line 1", "epoch 1 line 2"}
	for _, c := range []struct {
		name  string
		files [][]byte
		us    []seal.Unwrapper
		lines []string
		finds []string
		exit  int
	}{
		{"all there", [][]byte{join(e)}, []seal.Unwrapper{h.keyring}, lines, nil, 0},
		{"no key", [][]byte{join(e)}, nil, nil, []string{"unopened 1:0-2"}, 1},
		{"another's key", [][]byte{join(e)}, []seal.Unwrapper{newHost(t).keyring}, nil, []string{"unopened 1:0-2"}, 1},
		{"one stripped", [][]byte{join(e[0], strip(e[1]), e[2])}, []seal.Unwrapper{h.keyring}, lines, []string{"damaged 1:1"}, 5},
		{"the first stripped", [][]byte{join(strip(e[0]), e[1:])}, []seal.Unwrapper{h.keyring}, lines, []string{"damaged 1:0"}, 5},
		{"one stripped, a copy is whole", [][]byte{join(e[0], strip(e[1]), e[2]), e[1]}, []seal.Unwrapper{h.keyring}, lines, []string{"duplicate 1:1", "damaged 1:1"}, 5},
		{"all stripped", [][]byte{join(strip(e[0]), strip(e[1]), strip(e[2]))}, []seal.Unwrapper{h.keyring}, nil, []string{"unopened 1:0-2"}, 1},
		{"all stripped, keys re-wrapped", [][]byte{join(strip(e[0]), strip(e[1]), strip(e[2])), rewrapped}, []seal.Unwrapper{h.keyring}, lines, nil, 0},
		{"keys re-wrapped come first", [][]byte{rewrapped, join(strip(e[0]), strip(e[1]), strip(e[2]))}, []seal.Unwrapper{newHost(t).keyring, h.keyring}, lines, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := read(t, reader.Options{}, c.files...)
			rep := r.Verify()
			got, _ := open(t, r, c.us...)
			want(t, "lines", got, c.lines)
			want(t, "findings", words(rep)[1:], c.finds)
			if code := rep.ExitCode(false); code != c.exit {
				t.Errorf("got exit %d, want %d", code, c.exit)
			}
		})
	}
}

// counting counts the unwraps asked of it.
type counting struct {
	seal.Unwrapper
	calls int
	err   error
}

func (c *counting) Unwrap(ctx context.Context, r seal.Recipient, context []byte) (seal.Secret, error) {
	c.calls++
	if c.err != nil {
		return seal.Secret{}, c.err
	}
	return c.Unwrapper.Unwrap(ctx, r, context)
}

// TestUnwrapsOnce bounds what a key service is asked.
func TestUnwrapsOnce(t *testing.T) {
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 100, false)
	for _, c := range []struct {
		name  string
		junk  bool
		err   error
		calls int
		lines int
	}{
		{"all well", false, nil, 1, 100},
		{"refused", false, errors.New("no"), 1, 0},
		{"a hundred key sections", true, nil, 16, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var envs [][]byte
			for i, env := range e {
				env = slices.Clone(env)
				if c.junk {
					p, _ := seal.Parse(env)
					env[len(env)-97-len(p.Payload)-1] ^= byte(i + 1)
				}
				envs = append(envs, env)
			}
			r := read(t, reader.Options{}, join(envs))
			r.Verify()
			u := &counting{Unwrapper: h.keyring, err: c.err}
			if got, _ := open(t, r, u); len(got) != c.lines || u.calls != c.calls {
				t.Errorf("got %d lines by %d unwraps, want %d by %d", len(got), u.calls, c.lines, c.calls)
			}
		})
	}
}

func TestTamperedInside(t *testing.T) {
	h := newHost(t)
	late := base.Add(time.Hour)
	for _, c := range []struct {
		name        string
		first, last time.Time
		content     []byte
		lines       []string
		finds       []string
	}{
		{"times fit", base, base, batch(base, 0, "a"), []string{"a"}, nil},
		{"rounded down", base.Add(999 * time.Millisecond), base, batch(base.Add(999*time.Millisecond), 0, "a"), []string{"a"}, nil},
		{"record too old", base, base, batch(base.Add(-1), 0, "a"), []string{"a"}, []string{"mismatch 1:0"}},
		{"record too new", base, base, batch(base.Add(time.Second+1), 0, "a"), []string{"a"}, []string{"mismatch 1:0"}},
		{"times of another hour", late, late, batch(base, 0, "a", "b"), []string{"a", "b"}, []string{"mismatch 1:0"}},
		{"no LogGroupList", base, base, []byte("\xff\xff\xff"), nil, []string{"damaged 1:0"}},
		{"bad part", base, base, bytes.Replace(piece(base, 1, 0, true, "a"), []byte("0001."), []byte("000x."), 1), nil, []string{"damaged 1:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain := h.chain(seal.AES256GCM, nil, 1)
			r := read(t, reader.Options{}, h.seal(chain, 0, c.first, c.last, c.content))
			rep := r.Verify()
			got, _ := open(t, r, h.keyring)
			want(t, "lines", got, c.lines)
			want(t, "findings", words(rep)[1:], c.finds)
		})
	}
	t.Run("header changed by its host", func(t *testing.T) {
		e, _ := h.run(seal.AES256GCM, nil, 1, 1, false)
		r := read(t, reader.Options{}, h.resign(e[0], func(header []byte) { header[47] = 0; header[24]++ }))
		rep := r.Verify()
		got, _ := open(t, r, h.keyring)
		want(t, "lines", got, nil)
		want(t, "findings", words(rep), []string{"anchored 1:0", "damaged 1:0"})
	})
}

// TestChangedWhileRead has an input change between verifying and opening.
func TestChangedWhileRead(t *testing.T) {
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 2, false)
	o, _ := h.run(seal.AES256GCM, nil, 1, 2, false) // genuine, of another stream
	for name, later := range map[string][]byte{"cut": join(e)[:len(e[0])+5], "replaced": join(e[0], o[1]), "gone": nil} {
		t.Run(name, func(t *testing.T) {
			r := reader.New(reader.Options{Now: now})
			src := reader.Source{Name: "x", Open: func() (reader.File, error) {
				if later == nil {
					return nil, errors.New("gone")
				}
				return mem{bytes.NewReader(later)}, nil
			}}
			if err := r.Add(src, bytes.NewReader(join(e))); err != nil {
				t.Fatal(err)
			}
			rep := r.Verify()
			got, _ := open(t, r, h.keyring)
			first := []string{"epoch 1 line 0"}
			finds := []string{"anchored 1:0", "unopened 1:1"}
			if later == nil {
				first, finds = nil, []string{"anchored 1:0", "unopened 1:0-1"}
			}
			want(t, "lines", got, first)
			want(t, "findings", words(rep), finds)
		})
	}
}

func TestSuitesAllowed(t *testing.T) {
	h := newHost(t)
	e1, head := h.run(seal.AES256GCM, nil, 1, 2, false)
	e2, _ := h.run(seal.SM4GCM, head, 2, 1, false)
	r := read(t, reader.Options{Suites: []seal.Suite{seal.SM4GCM}}, join(e1, e2))
	rep := r.Verify()
	got, _ := open(t, r, h.keyring)
	want(t, "lines", got, []string{"epoch 2 line 0"})
	want(t, "findings", words(rep), []string{"anchored 1:0", "suite-change 2:0", "unopened 1:0-1"})
}

func TestOpenEnds(t *testing.T) {
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 3, false)
	r := read(t, reader.Options{}, join(e))
	r.Verify()
	boom, n := errors.New("boom"), 0
	if err := r.Open(t.Context(), []seal.Unwrapper{h.keyring}, func(*reader.Record) error { n++; return boom }); err != boom || n != 1 {
		t.Errorf("got %v after %d records, want yield's after 1", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Open(ctx, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestManyFiles opens more files than are kept open, back and forth.
func TestManyFiles(t *testing.T) {
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 40, false)
	files := make([][]byte, 20)
	for i, env := range e {
		files[i%20] = append(files[i%20], env...)
	}
	opened, closed, most := 0, 0, 0
	r := reader.New(reader.Options{Now: now})
	for i, f := range files {
		src := reader.Source{Name: fmt.Sprint(i), Open: func() (reader.File, error) {
			opened++
			most = max(most, opened-closed)
			return closing{mem{bytes.NewReader(f)}, &closed}, nil
		}}
		if err := r.Add(src, bytes.NewReader(f)); err != nil {
			t.Fatal(err)
		}
	}
	r.Verify()
	if got, _ := open(t, r, h.keyring); len(got) != 40 || opened != closed || most > 9 {
		t.Errorf("got %d lines, %d files opened, %d closed, %d at a time", len(got), opened, closed, most)
	}
}

type closing struct {
	mem
	n *int
}

func (c closing) Close() error { *c.n++; return nil }
