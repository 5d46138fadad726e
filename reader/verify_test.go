package reader_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sealtail/reader"
	"sealtail/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFindings builds chains that go wrong in each way that there is a word
// for. Epochs are 1, 2, 3; the start is always a finding of its own.
func TestFindings(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			other := seal.AES256GCM + seal.SM4GCM - suite
			h, thief := newHost(t), newHost(t)
			e1, head1 := h.run(suite, nil, 1, 6, false)
			e2, head2 := h.run(suite, head1, 2, 4, true)
			e3, _ := h.run(suite, head2, 3, 3, false)
			clone, _ := h.run(suite, head1, 3, 2, false)
			again, _ := h.run(suite, head1, 2, 4, false) // other salts, so other digests
			_, head5 := h.run(suite, nil, 1, 6, false)   // of another stream
			head5.StreamID = head1.StreamID
			begun, _ := h.run(suite, head5, 2, 2, false)
			changed, _ := h.run(other, head1, 2, 2, false)
			stolen, _ := thief.run(suite, head1, 2, 2, false)
			forged := slices.Clone(e1[2])
			forged[len(forged)-1] ^= 1
			flip := slices.Clone(e1[2])
			flip[0] ^= 1
			signers := []seal.HostKey{
				{Host: "one", Suite: suite, Public: h.id.Public(suite)},
				{Host: "one", Suite: other, Public: h.id.Public(other)},
			}
			both := append(slices.Clone(signers), seal.HostKey{Host: "two", Suite: suite, Public: thief.id.Public(suite)})
			late := now.Add(time.Hour)

			for _, c := range []struct {
				name    string
				files   [][]byte
				now     time.Time
				signers []seal.HostKey
				want    []string
				exit    int
				live    int
			}{
				{name: "nothing", files: [][]byte{{}}},
				{name: "whole", files: [][]byte{join(e1, e2, e3)}, want: []string{"anchored 1:0"}},
				{name: "one", files: [][]byte{e1[0]}, want: []string{"anchored 1:0"}},
				{name: "known signer", files: [][]byte{join(e1)}, signers: signers, want: []string{"anchored 1:0"}},
				{name: "two files in the wrong order", files: [][]byte{join(e2), join(e1)}, want: []string{"anchored 1:0", "stopped 2:3"}, live: 3},
				{name: "any order", files: [][]byte{join(e1[3], e1[0], e1[5], e1[2], e1[1], e1[4])}, want: []string{"anchored 1:0"}},
				{name: "beginning expired", files: [][]byte{join(e1[3:], e2)}, want: []string{"unanchored-start 1:3", "stopped 2:3"}, live: 3},
				{name: "duplicates", files: [][]byte{join(e1, e1[2], e1[3]), join(e1[3])}, want: []string{"anchored 1:0", "duplicate 1:2-3"}},
				{name: "suite changes", files: [][]byte{join(e1, changed)}, want: []string{"anchored 1:0", "suite-change 2:0"}},
				{name: "suite changes, signers known", files: [][]byte{join(e1, changed)}, signers: signers, want: []string{"anchored 1:0", "suite-change 2:0"}},
				{name: "torn end", files: [][]byte{join(e1, e2[0][:300])}, want: []string{"anchored 1:0", "torn"}},
				{name: "torn end of a stub", files: [][]byte{join(e1, stub(t, e2[0])[:100])}, want: []string{"anchored 1:0", "torn"}},
				{name: "silent", files: [][]byte{join(e1)}, now: late, want: []string{"anchored 1:0", "open-tail 1:5"}, live: 3},
				{name: "stopped", files: [][]byte{join(e1, e2)}, now: late, want: []string{"anchored 1:0", "stopped 2:3"}, live: 3},

				{name: "gap of one", files: [][]byte{join(e1[:2], e1[3:])}, want: []string{"anchored 1:0", "gap 1:2"}, exit: 4, live: 4},
				{name: "gap of three", files: [][]byte{join(e1[:1], e1[4:])}, want: []string{"anchored 1:0", "gap 1:1-3"}, exit: 4, live: 4},
				{name: "two gaps", files: [][]byte{join(e1[0], e1[2], e1[4])}, want: []string{"anchored 1:0", "gap 1:1", "gap 1:3"}, exit: 4, live: 4},
				{name: "end of an epoch lost", files: [][]byte{join(e1[:4], e2)}, want: []string{"anchored 1:0", "gap 1:4..", "stopped 2:3"}, exit: 4, live: 4},
				{name: "beginning of an epoch lost", files: [][]byte{join(e1, e2[1:])}, want: []string{"anchored 1:0", "gap 2:0", "stopped 2:3"}, exit: 4, live: 4},
				{name: "an epoch lost", files: [][]byte{join(e1, e3)}, want: []string{"anchored 1:0", "gap 1:6.."}, exit: 4, live: 4},
				{name: "parked", files: [][]byte{join(e1[:2], stub(t, e1[2]), stub(t, e1[3]), e1[4:])}, want: []string{"anchored 1:0", "parked 1:2-3"}, exit: 4, live: 4},
				{name: "parked, and found elsewhere", files: [][]byte{join(e1[:2], stub(t, e1[2]), e1[3:]), e1[2]}, want: []string{"anchored 1:0", "duplicate 1:2"}},

				{name: "fork", files: [][]byte{join(e1, e2, clone)}, want: []string{"anchored 1:0", "fork 3:0"}, exit: 5, live: 5},
				{name: "fork whose other half goes on", files: [][]byte{join(e1, e2[:3], clone)}, want: []string{"anchored 1:0", "fork 3:0"}, exit: 5, live: 5},
				{name: "fork, first of the other half lost", files: [][]byte{join(e1, e2[1:], clone)}, want: []string{"anchored 1:0", "gap 2:0", "fork 3:0"}, exit: 5, live: 5},
				{name: "equivocation", files: [][]byte{join(e1, e2[:2], again[:1])}, want: []string{"anchored 1:0", "equivocation 2:0"}, exit: 5, live: 5},
				{name: "equivocation throughout", files: [][]byte{join(e1, e2[:2], again[:2])}, want: []string{"anchored 1:0", "equivocation 2:0", "equivocation 2:1"}, exit: 5, live: 5},
				{name: "broken link", files: [][]byte{join(e1, e2[0], again[1:])}, want: []string{"anchored 1:0", "broken-link 2:1"}, exit: 5, live: 5},
				{name: "predecessor of another stream", files: [][]byte{join(e1, begun)}, want: []string{"anchored 1:0", "gap 1:6.."}, exit: 4, live: 4},
				{name: "forged", files: [][]byte{join(e1[:2], forged, e1[3:])}, want: []string{"anchored 1:0", "forged 1:2"}, exit: 5, live: 5},
				{name: "forged, the real one elsewhere", files: [][]byte{join(e1[:2], forged, e1[3:]), e1[2]}, want: []string{"anchored 1:0", "forged 1:2"}, exit: 5, live: 5},
				{name: "forged and a gap", files: [][]byte{join(e1[:2], forged, e1[4:])}, want: []string{"anchored 1:0", "forged 1:2-3"}, exit: 5, live: 5},
				{name: "forged alone", files: [][]byte{forged}, want: []string{"forged 1:2"}, exit: 5, live: 5},
				{name: "damaged", files: [][]byte{join(e1[:2], flip, e1[3:])}, want: []string{"anchored 1:0", "damaged 1:2"}, exit: 5, live: 5},
				{name: "damaged where nothing is missing", files: [][]byte{join(e1[:2], []byte("junk"), e1[2:])}, want: []string{"anchored 1:0", "damaged"}, exit: 5, live: 5},
				{name: "junk at the end", files: [][]byte{join(e1, []byte("junk"))}, want: []string{"anchored 1:0", "damaged"}, exit: 5, live: 5},
				{name: "unknown signer", files: [][]byte{join(e1, stolen)}, signers: signers, want: []string{"anchored 1:0", "unknown-signer 2:0-1"}, exit: 5, live: 5},
				{name: "nobody known", files: [][]byte{join(e1)}, signers: both[2:], want: []string{"unknown-signer 1:0-5"}, exit: 5, live: 5},
				{name: "signer changes", files: [][]byte{join(e1, stolen)}, want: []string{"anchored 1:0", "signer-change 2:0-1"}, exit: 5, live: 5},
				{name: "signer changes to a known one", files: [][]byte{join(e1, stolen)}, signers: both, want: []string{"anchored 1:0", "signer-change 2:0-1"}, exit: 5, live: 5},
				{name: "unknown signer in the chain's place", files: [][]byte{join(e1, stolen[:1], e2[1:])}, signers: signers, want: []string{"anchored 1:0", "unknown-signer 2:0", "stopped 2:3"}, exit: 5, live: 5},
			} {
				t.Run(c.name, func(t *testing.T) {
					rep := read(t, reader.Options{Now: c.now, Signers: c.signers}, c.files...).Verify()
					got := words(rep)
					slices.Sort(got)
					slices.Sort(c.want)
					want(t, "findings", got, c.want)
					if code, live := rep.ExitCode(false), rep.ExitCode(true); code != c.exit || live != c.live {
						t.Errorf("got exit %d, live %d; want %d, %d", code, live, c.exit, c.live)
					}
				})
			}
		})
	}
}

// TestMisled has a host sign what no Chain would: headers that are changed and
// signed anew.
func TestMisled(t *testing.T) {
	h := newHost(t)
	e1, head := h.run(seal.AES256GCM, nil, 1, 3, true)
	e2, _ := h.run(seal.AES256GCM, head, 2, 2, false)
	genesis, _ := h.run(seal.AES256GCM, nil, 3, 1, false)
	stream := e1[0][16:32]
	for _, c := range []struct {
		name string
		file []byte
		want []string
	}{
		{
			"the stream begins again",
			join(e1, e2, h.resign(genesis[0], func(header []byte) { copy(header[16:], stream) })),
			[]string{"anchored 1:0", "fork 3:0"},
		},
		{
			"goes on behind FINAL",
			join(e1, h.resign(e2[0], func(header []byte) { header[39], header[47] = 1, 3 })),
			[]string{"anchored 1:0", "broken-link 1:3"},
		},
		{
			"FINAL, and an epoch is lost",
			join(e1, h.resign(e2[0], func(header []byte) { header[39], header[104] = 3, header[104]+1 })),
			[]string{"anchored 1:0", "gap 1:3.."},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, "findings", words(read(t, reader.Options{}, c.file).Verify()), c.want)
		})
	}
}

func TestRanges(t *testing.T) {
	h := newHost(t)
	e1, head := h.run(seal.AES256GCM, nil, 1, 6, false)
	e2, _ := h.run(seal.AES256GCM, head, 2, 2, false)
	rep := read(t, reader.Options{}, join(e1[:3], e1[4:], e2)).Verify()
	s := rep.Streams[0]
	if len(rep.Streams) != 1 || s.Envelopes != 7 || len(s.Signers) != 1 || s.ID != head.StreamID {
		t.Errorf("got %+v", s)
	}
	var got []string
	for _, r := range s.Ranges {
		got = append(got, fmt.Sprintf("%s %s %s", r.Span, r.First.Format("15:04"), r.Last.Format("15:04")))
	}
	want(t, "ranges", got, []string{"1, 0..2 20:00 20:02", "1, 4..5 20:04 20:05", "2, 0..1 20:00 20:01"})
}

// TestPlaces wants findings to say where to look.
func TestPlaces(t *testing.T) {
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 4, false)
	rep := read(t, reader.Options{}, join(e[0], []byte("junk"), e[1:]), join(e)).Verify()
	var damaged reader.Finding
	for f := range rep.All {
		if f.Kind == reader.Damaged {
			damaged = f
		}
	}
	at := reader.Place{Source: "0.se1", Offset: int64(len(e[0])), Size: 4}
	if len(damaged.Places) != 1 || damaged.Places[0] != at || !strings.Contains(damaged.String(), fmt.Sprintf("[0.se1:%d]", len(e[0]))) {
		t.Errorf("got %v, want at %v", damaged, at)
	}
}

func TestBase64(t *testing.T) {
	for _, text := range []string{"iVNFMQEBAQEA2QAA", "\niVNFMQEBAQEA2QAA"} {
		rep := read(t, reader.Options{}, []byte(text)).Verify()
		if ws := words(rep); !slices.Equal(ws, []string{"damaged"}) || !strings.Contains(rep.Findings[0].Detail, "base64-encoded") {
			t.Errorf("%q: got %v", text, rep.Findings)
		}
	}
}

func TestForeign(t *testing.T) {
	sls := seal.Context{"project": "p", "logstore": "l"}
	for _, c := range []struct {
		name          string
		sealed, found seal.Context
		accept        bool
		want          []string
	}{
		{"found where it belongs", sls, seal.Context{"project": "p", "logstore": "l"}, false, []string{"anchored 1:0"}},
		{"found somewhere", sls, nil, false, []string{"anchored 1:0"}},
		{"of another Logstore", sls, seal.Context{"project": "p", "logstore": "m"}, false, []string{"anchored 1:0", "foreign 1:0-2"}},
		{"of a Logstore, found in files", sls, seal.Context{}, false, []string{"anchored 1:0", "foreign 1:0-2"}},
		{"of files, found in a Logstore", nil, sls, false, []string{"anchored 1:0", "foreign 1:0-2"}},
		{"accepted", nil, sls, true, []string{"anchored 1:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, _ := newHostFor(t, c.sealed).run(seal.AES256GCM, nil, 1, 3, false)
			r := reader.New(reader.Options{Now: now, Accept: func(_, _ seal.Context) bool { return c.accept }})
			if err := r.Add(reader.Source{Name: "x", Destination: c.found}, strings.NewReader(string(join(e)))); err != nil {
				t.Fatal(err)
			}
			want(t, "findings", words(r.Verify()), c.want)
		})
	}
}

// TestManyStreams mixes streams in one input: what happens to one is reported
// of it.
func TestManyStreams(t *testing.T) {
	h := newHost(t)
	a, _ := h.run(seal.AES256GCM, nil, 1, 4, false)
	b, _ := h.run(seal.SM4GCM, nil, 1, 4, false)
	rep := read(t, reader.Options{}, join(a[0], b[0], a[1], b[1], b[3], a[2], a[3])).Verify()
	if len(rep.Streams) != 2 {
		t.Fatalf("got %d streams, want 2", len(rep.Streams))
	}
	want(t, "findings", words(rep), []string{"anchored 1:0", "anchored 1:0", "gap 1:2"})
	if fs := rep.Streams[1].Findings; len(fs) != 2 || fs[1].Kind != reader.Gap || fs[1].Stream != rep.Streams[1].ID {
		t.Errorf("got %v, want the gap to be the second stream's", fs)
	}
}
