package reader_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"sealtail/reader"
	"sealtail/seal"
)

var (
	here      = seal.Context{"project": "prod-logs", "logstore": "audit"}
	elsewhere = seal.Context{"project": "prod-logs", "logstore": "other"}
)

// logOf returns an envelope as its agent ships it.
func logOf(t *testing.T, env []byte) *reader.Log {
	t.Helper()
	e, err := seal.Parse(env)
	if err != nil {
		t.Fatal(err)
	}
	return &reader.Log{
		Sealed: env, Topic: "audit", Where: "shard 0",
		StreamID: e.StreamID, Epoch: e.Epoch, Seq: e.Seq, DEKID: e.DEKID, First: e.First / 1e9, Last: e.Last / 1e9,
	}
}

// stubOf makes the log one of the envelope's stub.
func stubOf(t *testing.T, l *reader.Log) {
	t.Helper()
	e, err := seal.Parse(l.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	l.Sealed, l.Stub, l.Why = e.Stub(), true, "PostBodyTooLarge"
}

// logs gives a Reader the logs of the Logstore here.
func logs(t *testing.T, o reader.Options, ls ...*reader.Log) *reader.Reader {
	t.Helper()
	o.Now = now
	r := reader.New(o)
	var file []byte
	src := reader.Source{
		Name: "prod-logs/audit", Destination: here,
		Open: func() (reader.File, error) { return mem{bytes.NewReader(file)}, nil },
	}
	if err := r.AddLogs(src, func(yield func(*reader.Log) error) error {
		for _, l := range ls {
			l.Offset = int64(len(file))
			file = append(file, l.Sealed...)
			if err := yield(l); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLogs has each log of a sound Logstore changed in one way.
func TestLogs(t *testing.T) {
	h, foreign := newHostFor(t, here), newHostFor(t, elsewhere)
	e, _ := h.run(seal.AES256GCM, nil, 1, 4, true)
	lines := []string{"epoch 1 line 0", "epoch 1 line 1", "epoch 1 line 2", "epoch 1 line 3"}
	const start, end = "anchored 1:0", "stopped 1:3"
	type change = func(t *testing.T, l *reader.Log)
	for _, c := range []struct {
		name   string
		change change // of seq 1
		extra  change // of one more log, a copy of seq 1's
		lines  []string
		finds  []string
		detail string // that a finding has
	}{
		{name: "sound", lines: lines},
		{name: "twice", extra: func(t *testing.T, l *reader.Log) {}, lines: lines, finds: []string{"duplicate 1:1"}},
		{name: "stream", change: func(t *testing.T, l *reader.Log) { l.StreamID[3]++ }, lines: lines, finds: []string{"mismatch 1:1"}, detail: "stream is said to be "},
		{name: "epoch", change: func(t *testing.T, l *reader.Log) { l.Epoch++ }, lines: lines, finds: []string{"mismatch 1:1"}, detail: "epoch is said to be 2 and is 1; shard 0"},
		{name: "seq", change: func(t *testing.T, l *reader.Log) { l.Seq += 6 }, lines: lines, finds: []string{"mismatch 1:1"}, detail: "seq is said to be 7 and is 1"},
		{name: "data key", change: func(t *testing.T, l *reader.Log) { l.DEKID[0]++ }, lines: lines, finds: []string{"mismatch 1:1"}, detail: "data key is said"},
		{name: "oldest", change: func(t *testing.T, l *reader.Log) { l.First-- }, lines: lines, finds: []string{"mismatch 1:1"}, detail: "oldest record is said"},
		{name: "newest", change: func(t *testing.T, l *reader.Log) { l.Last++ }, lines: lines, finds: []string{"mismatch 1:1"}, detail: "newest record is said"},
		{name: "a field of another form", change: func(t *testing.T, l *reader.Log) { l.Err = errors.New("_ep is malformed"); l.Epoch = 0 },
			lines: lines, finds: []string{"mismatch 1:1"}, detail: "_ep is malformed; shard 0"},
		{name: "topic", change: func(t *testing.T, l *reader.Log) { l.Topic = "web" },
			lines: lines, finds: []string{"mismatch 1:1"}, detail: `it is of stream "audit", the topic of its log is "web"`},
		{name: "topic of a copy", extra: func(t *testing.T, l *reader.Log) { l.Topic = "" },
			lines: lines, finds: []string{"duplicate 1:1", "mismatch 1:1"}, detail: `its topic is "" in one log and "audit" in another`},

		{name: "stub", change: stubOf, lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"parked 1:1"}, detail: "PostBodyTooLarge"},
		{name: "stub and envelope", extra: stubOf, lines: lines, finds: []string{"duplicate 1:1"}},
		{name: "stub with other fields", change: func(t *testing.T, l *reader.Log) { stubOf(t, l); l.Seq = 0 },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"mismatch 1:1", "parked 1:1"}},
		{name: "forged stub", change: func(t *testing.T, l *reader.Log) { stubOf(t, l); l.Sealed[len(l.Sealed)-1]++ },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"forged 1:1"}},
		{name: "an envelope called a stub", change: func(t *testing.T, l *reader.Log) { l.Stub = true },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged 1:1"}},

		{name: "forged", change: func(t *testing.T, l *reader.Log) { l.Sealed[len(l.Sealed)-1]++ },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"forged 1:1"}},
		{name: "cut short", change: func(t *testing.T, l *reader.Log) { l.Sealed = l.Sealed[:len(l.Sealed)-1] },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged 1:1"}},
		{name: "all but nothing left", change: func(t *testing.T, l *reader.Log) { l.Sealed = l.Sealed[:1] },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged 1:1"}},
		{name: "zeros behind it", change: func(t *testing.T, l *reader.Log) { l.Sealed = append(l.Sealed, make([]byte, 8192)...) },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged 1:1"}},
		{name: "two in one", change: func(t *testing.T, l *reader.Log) { l.Sealed = append(l.Sealed, e[2]...) },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged 1:1"}},
		{name: "re-wrapped keys", change: func(t *testing.T, l *reader.Log) { l.Sealed = []byte("\x89SK1") },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged 1:1"}},
		{name: "nothing in it", change: func(t *testing.T, l *reader.Log) { l.Sealed = nil },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged 1:1"}, detail: "a log that holds nothing"},
		{name: "another's log", extra: func(t *testing.T, l *reader.Log) {
			*l = reader.Log{Err: errors.New("_v is not there"), Where: "shard 7"}
		}, lines: lines, finds: []string{"damaged"}, detail: "_v is not there; shard 7"},
		{name: "another's log in the place of one", change: func(t *testing.T, l *reader.Log) { *l = reader.Log{Err: errors.New("_v is not there")} },
			lines: []string{lines[0], lines[2], lines[3]}, finds: []string{"damaged", "gap 1:1"}},

		{name: "of another Logstore", extra: func(t *testing.T, l *reader.Log) {
			o, _ := foreign.run(seal.AES256GCM, nil, 1, 1, false)
			*l = *logOf(t, o[0])
		}, lines: append(slices.Clone(lines), "epoch 1 line 0"), finds: []string{"anchored 1:0", "foreign 1:0"}},
		{name: "stub of another Logstore", extra: func(t *testing.T, l *reader.Log) {
			o, _ := foreign.run(seal.AES256GCM, nil, 1, 1, false)
			*l = *logOf(t, o[0])
			stubOf(t, l)
		}, lines: lines, finds: []string{"anchored 1:0", "foreign 1:0", "parked 1:0"}},
		{name: "of no Logstore", extra: func(t *testing.T, l *reader.Log) {
			file := newHost(t)
			o, _ := file.run(seal.AES256GCM, nil, 1, 1, false)
			*l = *logOf(t, o[0])
		}, lines: lines, finds: []string{"anchored 1:0", "foreign 1:0", "unopened 1:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ls []*reader.Log
			for _, env := range e {
				ls = append(ls, logOf(t, slices.Clone(env)))
			}
			if c.extra != nil {
				l := *ls[1]
				l.Sealed = slices.Clone(l.Sealed)
				c.extra(t, &l)
				ls = append(ls, &l)
			}
			if c.change != nil {
				c.change(t, ls[1])
			}
			slices.Reverse(ls) // a Logstore keeps no order
			r := logs(t, reader.Options{}, ls...)
			rep := r.Verify()
			got, _ := open(t, r, h.keyring, foreign.keyring)
			slices.Sort(got)
			slices.Sort(c.lines)
			want(t, "lines", got, c.lines)
			finds := append([]string{start, end}, c.finds...)
			told := words(rep)
			slices.Sort(finds)
			slices.Sort(told)
			want(t, "findings", told, finds)
			found := c.detail == ""
			for f := range rep.All {
				found = found || strings.Contains(f.Detail, c.detail)
			}
			if !found {
				t.Errorf("no finding says %q", c.detail)
			}
		})
	}

	t.Run("accepted", func(t *testing.T) {
		o, _ := foreign.run(seal.AES256GCM, nil, 1, 1, true)
		accept := func(sealed, found seal.Context) bool {
			return sealed["logstore"] == "other" && found["logstore"] == "audit"
		}
		rep := logs(t, reader.Options{Accept: accept}, logOf(t, o[0])).Verify()
		want(t, "findings", words(rep), []string{"anchored 1:0", "stopped 1:0"})
	})
	t.Run("yield's error", func(t *testing.T) {
		r := reader.New(reader.Options{})
		err := r.AddLogs(reader.Source{Name: "x"}, func(func(*reader.Log) error) error { return io.ErrUnexpectedEOF })
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzLog has bytes stand in the place of an envelope: whatever they are, an
// item is as long as they are.
func FuzzLog(f *testing.F) {
	h := newHostFor(f, here)
	e, _ := h.run(seal.AES256GCM, nil, 1, 1, false)
	f.Add(e[0], false)
	f.Add([]byte("\x89SP1"), true)
	f.Fuzz(func(t *testing.T, b []byte, stub bool) {
		l := &reader.Log{Sealed: b, Stub: stub}
		it, _ := l.Item()
		if it.Size != int64(len(b)) || it.Fault == reader.Sound && it.Envelope == nil && it.Stub == nil {
			t.Errorf("got %+v", it)
		}
	})
}
