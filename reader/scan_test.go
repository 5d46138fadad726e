package reader_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"sealtail/reader"
	"sealtail/seal"
)

// scan returns the items of b in short: fault, offset, size.
func scan(t testing.TB, in io.Reader) (items []string) {
	t.Helper()
	err := reader.Scan(in, func(it reader.Item) error {
		what := string(it.Fault)
		switch {
		case it.Fault != reader.Sound:
		case it.Envelope != nil:
			what = "envelope"
		case it.Stub != nil:
			what = "stub"
		case it.Keys != nil:
			what = "keys"
		}
		items = append(items, fmt.Sprintf("%s %d+%d", what, it.Offset, it.Size))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func TestScan(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			h := newHost(t)
			c := h.chain(suite, nil, 1)
			envelope := func(n int) []byte {
				return h.seal(c, 0, base, base, batch(base, 0, string(slices.Repeat([]byte("x"), n))))
			}
			e, long := envelope(10), envelope(400_000)
			for e[len(e)-1] == 0x89 { // else, without its last byte, it is whole before another
				e = envelope(10)
			}
			st := stub(t, e)
			forged := slices.Clone(e)
			forged[len(forged)-1] ^= 1
			lied := slices.Clone(e) // says that its payload is longer
			lied[15]++
			n, ln, sn := len(e), len(long), len(st)
			zeros := func(from, to int) []byte { // of long, as a lost page
				b := slices.Clone(long)
				clear(b[from:to])
				return b
			}
			const page = 4096

			for _, c := range []struct {
				name string
				file []byte
				want []string
			}{
				{"nothing", nil, nil},
				{"one byte", []byte{0}, []string{"damaged 0+1"}},
				{"first byte of an envelope", e[:1], []string{"torn 0+1"}},
				{"first bytes of a stub", st[:3], []string{"torn 0+3"}},
				{"envelopes and stubs", join(e, st, long, st), items("envelope", n, "stub", sn, "envelope", ln, "stub", sn)},
				{"all but the last byte", join(e, e[:n-1]), items("envelope", n, "torn", n-1)},
				{"all but the last byte of a stub", join(e, st[:sn-1]), items("envelope", n, "torn", sn-1)},
				{"forged", join(e, forged, e), items("envelope", n, "forged", n, "envelope", n)},
				{"forged twice", join(e, forged, forged), items("envelope", n, "forged", n, "forged", n)},
				{"forged, then torn", join(forged, e[:50]), items("forged", n, "torn", 50)},
				{"forged, then junk", join(forged, []byte("junk")), items("damaged", n+4)},
				{"wrong length in the middle", join(e, lied, e), items("envelope", n, "damaged", n, "envelope", n)},
				{"wrong length at the end", join(e, lied), items("envelope", n, "damaged", n)},
				{"torn in the middle", join(e, e[:n-1], e), items("envelope", n, "damaged", n-1, "envelope", n)},
				{"envelope inside of junk", join([]byte("\x89SE1\x01\x01"), e, []byte("\x89S")), items("damaged", 6, "envelope", n, "torn", 2)},
				{"much junk", join(slices.Repeat([]byte("junk"), 3<<20), e), items("damaged", 12<<20, "envelope", n)},
				{"junk that looks like envelopes", join(slices.Repeat([]byte("\x89SE1"), 1<<20), e), items("damaged", 4<<20, "envelope", n)},
				{"a page lost at the end", join(e, zeros(page-n, 2*page-n)), items("envelope", n, "torn", ln)},
				{"the last page lost", join(e, zeros((n+ln)/page*page-n, ln)), items("envelope", n, "torn", ln)},
				{"zeros, not of a page", join(e, zeros(page-n+1, 2*page-n)), items("envelope", n, "forged", ln)},
				{"nothing but zeros at the end", join(e, make([]byte, 100)), items("envelope", n, "torn", 100)},
				{"a page lost in the middle", join(zeros(page, 2*page), e), items("forged", ln, "envelope", n)},
				{"stub with a long length", join(e, append([]byte("\x89SP1\x00\x00\xff\xff"), st[8:]...)), items("envelope", n, "damaged", sn)},
				{"stub with a slightly long length", join(st[:7], st[7]+1, st[8:], e), items("damaged", sn, "envelope", n)},
				{"stub with a slightly long length at the end", join(e, st[:7], st[7]+1, st[8:]), items("envelope", n, "damaged", sn)},
				{"stub with a short length", join(st[:7], st[7]-1, st[8:], e), items("damaged", sn, "envelope", n)},
			} {
				t.Run(c.name, func(t *testing.T) {
					want(t, "items", scan(t, bytes.NewReader(c.file)), c.want)
					if len(c.file) < 1<<20 {
						want(t, "items, read byte by byte", scan(t, iotest.OneByteReader(bytes.NewReader(c.file))), c.want)
					}
				})
			}
		})
	}
}

// items lists what follows one another from 0 on: what, size, what, size, …
func items(of ...any) (want []string) {
	at := 0
	for i := 0; i < len(of); i += 2 {
		want = append(want, fmt.Sprintf("%s %d+%d", of[i], at, of[i+1]))
		at += of[i+1].(int)
	}
	return want
}

func TestScanErrors(t *testing.T) {
	boom := errors.New("boom")
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 2, false)
	in := io.MultiReader(bytes.NewReader(join(e)), iotest.ErrReader(boom))
	if err := reader.Scan(in, func(reader.Item) error { return nil }); !errors.Is(err, boom) {
		t.Errorf("got %v, want the input's", err)
	}
	n := 0
	if err := reader.Scan(bytes.NewReader(join(e)), func(reader.Item) error { n++; return boom }); err != boom || n != 1 {
		t.Errorf("got %v after %d items, want yield's after 1", err, n)
	}
}

func TestScanKeyFiles(t *testing.T) {
	file, err := seal.MarshalKeyFile([]seal.RewrappedKey{{Recipients: []seal.Recipient{{Type: 5, KeyID: []byte("k"), Wrapped: []byte("w")}}}})
	if err != nil {
		t.Fatal(err)
	}
	n := len(file)
	want(t, "whole", scan(t, bytes.NewReader(file)), []string{fmt.Sprintf("keys 0+%d", n)})
	want(t, "cut", scan(t, bytes.NewReader(file[:n-1])), []string{fmt.Sprintf("damaged 0+%d", n-1)})
	want(t, "longer", scan(t, bytes.NewReader(append(file, 0, 1, 2))), []string{fmt.Sprintf("damaged 0+%d", n+3)})
	want(t, "too long", scan(t, io.MultiReader(bytes.NewReader(file), strings.NewReader(strings.Repeat("x", 65<<20)))), []string{fmt.Sprintf("damaged 0+%d", n+65<<20)})
}

// FuzzScan wants the items to be all of the bytes, in order, and an envelope
// that is put behind anything to be found.
func FuzzScan(f *testing.F) {
	h := newHost(f)
	for _, suite := range suites {
		e, _ := h.run(suite, nil, 1, 2, true)
		f.Add(join(e))
		f.Add(join(e[0], stub(f, e[1])))
		f.Add(join(e[0], e[1][:200], e[0]))
		f.Add(join(e[0][10:], e[1]))
	}
	f.Add([]byte("\x89SK1\x00\x16"))
	f.Add([]byte("iVNF"))
	known, _ := h.run(seal.AES256GCM, nil, 1, 1, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		keys := bytes.HasPrefix(b, []byte("\x89SK1"))
		b = append(b, known[0]...)
		at, found := int64(0), false
		err := reader.Scan(bytes.NewReader(b), func(it reader.Item) error {
			if it.Offset != at || it.Size <= 0 {
				t.Errorf("item at %d+%d, want it at %d", it.Offset, it.Size, at)
			}
			at += it.Size
			found = found || it.Fault == reader.Sound && at == int64(len(b))
			return nil
		})
		if err != nil || at != int64(len(b)) {
			t.Errorf("got %v after %d of %d bytes", err, at, len(b))
		}
		if !found && !keys {
			t.Error("the envelope at the end was not found")
		}
	})
}
