// Package reader verifies sealed envelopes and opens them, once each.
//
//	items of files ──Add──▶ index ──Verify──▶ findings     no key needed
//	                          │
//	                          └──Open──▶ records, in the order of their chain
//
// [Reader.Add] reads an input from end to end, or [Reader.AddLogs] log by log,
// verifies every signature and keeps of each envelope some 300 bytes: its place in the chain, its place in
// the input, its digest. Inputs may come in any order, overlap and repeat one
// another. [Reader.Verify] then walks the chain of each stream. [Reader.Open]
// reads the envelopes again, one at a time in chain order, and yields their
// records; so inputs may be much larger than memory.
//
// An envelope is known by its digest. Of several copies the first that opens
// is used. Envelopes whose signature does not fit, or whose signer is not
// trusted, are reported and never opened. Recipients are pooled: an envelope
// whose key section was stripped opens with that of any other envelope under
// the same data key, or with a file of re-wrapped keys.
//
// The findings, their names and exit codes are those of docs/FORMAT.md, with
// [Mismatch], [Incomplete] and [Unopened] for what only opening shows. Times
// are unix nanoseconds, sizes bytes.
//
// Errors are of reading inputs, of a [State] that does not parse
// ([ErrState]), or the caller's own; whatever is wrong with sealed bytes is a
// finding, in which an error such as [ErrSuite] may tell more.
package reader

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"sealtail/seal"
)

// Options say what a [Reader] trusts. The zero value trusts, of each stream,
// the first signer met.
type Options struct {
	Signers   []seal.HostKey // nil: trust on first use
	Suites    []seal.Suite   // that may be opened; nil: all
	State     *State         // what an earlier run remembered; may be nil
	Now       time.Time      // the verifier's clock; default: the system's
	Heartbeat time.Duration  // of the agents; default 5 min

	// Accept reports whether an envelope sealed for the one destination may
	// be found in the other. Default: never. See [Source].
	Accept func(sealed, found seal.Context) bool
}

// A Source is an input: envelopes one after the other, or a file of re-wrapped
// keys.
type Source struct {
	Name string
	// Open opens the input again for [Reader.Open], which closes it. It is
	// not called for [Reader.Verify].
	Open func() (File, error)
	// Destination is where the input is from, in terms of an envelope's
	// context; nil where that is not known, as of a file.
	Destination seal.Context
}

// A File is an input opened again.
type File interface {
	io.ReaderAt
	io.Closer
}

// A Reader gathers inputs. It is not safe for concurrent use.
type Reader struct {
	o       Options
	mem     []byte // of the scanner, for the next one
	sources []Source
	pos     int64 // items so far
	bytes   int64
	streams map[[16]byte]*stream
	order   []*stream
	faults  []*fault // in the order of reading
	pool    pool
	foreign map[string]bool // by destinations; see isForeign
	topics  map[string]*string
}

// A stream is the index of one chain.
type stream struct {
	id      [16]byte
	nodes   map[[32]byte]*node // by digest
	trusted []*node            // by epoch and seq; set by Verify
	report  *StreamReport
}

// A node is one envelope of a chain, by its digest.
type node struct {
	digest, prev, signer [32]byte
	epoch, seq           uint64
	first, last          int64
	dek                  [16]byte
	suite                seal.Suite
	flags                seal.Flags
	foreign              bool
	copies               []spot // whole envelopes
	stubs                []spot

	// Of logs that carry it:
	topic   *string     // of the first that says nothing wrong; nil: it came by none
	differs *difference // the first; nil: none
	why     string      // of a stub: why it is one
}

// A spot is where one copy lies.
type spot struct {
	source  int
	pos     int64 // rank among all items
	off     int64
	size    int64
	section *section // nil of stubs
}

// A fault is a run of bytes that is no sound item.
type fault struct {
	spot
	kind   Kind
	why    string
	claims *claim // of a forged envelope; else nil
	hole   *claim // what it stands in the place of, as far as Verify found out
	log    bool   // it is a log: what lies before and behind it says nothing
}

// A claim is a place in a chain.
type claim struct {
	stream [16]byte
	Span
}

// New returns a Reader without inputs.
func New(o Options) *Reader {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 5 * time.Minute
	}
	return &Reader{
		o:       o,
		streams: make(map[[16]byte]*stream),
		pool:    pool{keys: make(map[[16]byte]*dataKey)},
		foreign: make(map[string]bool),
		topics:  make(map[string]*string),
	}
}

// Add reads in, the content of src, to its end.
func (r *Reader) Add(src Source, in io.Reader) error {
	n := len(r.sources)
	r.sources = append(r.sources, src)
	s := &scanner{in: in, mem: r.mem}
	err := s.scan(func(it Item) error {
		r.pos++
		r.bytes += it.Size
		r.index(it, spot{source: n, pos: r.pos, off: it.Offset, size: it.Size})
		return nil
	})
	r.mem = s.mem
	if err != nil {
		return fmt.Errorf("read %s: %w", src.Name, err)
	}
	return nil
}

// index keeps an item; it returns its node if it has one.
func (r *Reader) index(it Item, at spot) (n *node) {
	switch {
	case it.Fault != Sound:
		r.fault(it, at)
	case it.Envelope != nil:
		e := it.Envelope
		at.section = r.pool.add(e.DEKID, e.Recipients, fromEnvelope)
		n = r.node(&e.Header, e.Digest())
		n.copies = append(n.copies, at)
		n.foreign = n.foreign || r.isForeign(&e.Header, at)
	case it.Stub != nil:
		n = r.node(&it.Stub.Header, it.Stub.Digest())
		n.stubs = append(n.stubs, at)
		n.foreign = n.foreign || r.isForeign(&it.Stub.Header, at)
	default:
		for _, k := range it.Keys {
			r.pool.add(k.DEKID, k.Recipients, fromKeyFile)
		}
	}
	return n
}

func (r *Reader) fault(it Item, at spot) *fault {
	f := &fault{spot: at, kind: Kind(it.Fault), why: it.Why}
	var h *seal.Header
	if it.Envelope != nil {
		h = &it.Envelope.Header
	} else if it.Stub != nil {
		h = &it.Stub.Header
	}
	if h != nil && it.Fault == IsForged {
		f.claims = &claim{h.StreamID, Span{Epoch: h.Epoch, From: h.Seq, To: h.Seq}}
	}
	r.faults = append(r.faults, f)
	return f
}

// node returns the node with the digest, made from h where it is new.
func (r *Reader) node(h *seal.Header, digest [32]byte) *node {
	s := r.streams[h.StreamID]
	if s == nil {
		s = &stream{id: h.StreamID, nodes: make(map[[32]byte]*node)}
		r.streams[h.StreamID] = s
		r.order = append(r.order, s)
	}
	n := s.nodes[digest]
	if n == nil {
		n = &node{
			digest: digest, prev: h.Prev, signer: h.Signer,
			epoch: h.Epoch, seq: h.Seq, first: h.First, last: h.Last,
			dek: h.DEKID, suite: h.Suite, flags: h.Flags,
		}
		s.nodes[digest] = n
	}
	return n
}

// isForeign reports whether an envelope was sealed for another destination
// than where it was found.
func (r *Reader) isForeign(h *seal.Header, at spot) bool {
	found := r.sources[at.source].Destination
	if found == nil {
		return false
	}
	id := fmt.Sprintf("%d %s", at.source, h.Context)
	foreign, known := r.foreign[id]
	if !known {
		sealed, err := seal.ParseContext(h.Context)
		foreign = err != nil
		for _, key := range []string{"project", "logstore"} {
			foreign = foreign || sealed[key] != found[key]
		}
		foreign = foreign && (r.o.Accept == nil || !r.o.Accept(sealed, found))
		r.foreign[id] = foreign
	}
	return foreign
}

func (r *Reader) place(s spot) Place {
	return Place{Source: r.sources[s.source].Name, Offset: s.off, Size: s.size}
}

// spots are all of a node's, in the order of reading.
func (n *node) spots() []spot {
	all := slices.Concat(n.copies, n.stubs)
	slices.SortFunc(all, func(a, b spot) int { return int(a.pos - b.pos) })
	return all
}

func (n *node) span() *Span { return &Span{Epoch: n.epoch, From: n.seq, To: n.seq} }

// order sorts by place in the chain, then by place in the input.
func (n *node) order(m *node) int {
	switch {
	case n.epoch != m.epoch:
		return sign(n.epoch < m.epoch)
	case n.seq != m.seq:
		return sign(n.seq < m.seq)
	}
	return bytes.Compare(n.digest[:], m.digest[:])
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}
