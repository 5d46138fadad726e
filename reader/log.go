package reader

import (
	"errors"
	"fmt"
	"strings"

	"sealtail/seal"
)

// A Log is one log of a Logstore: an envelope or a stub, and in clear beside it
// what it is shown of it. Nothing in clear is signed.
type Log struct {
	Sealed []byte // nil: nothing that could be read
	Stub   bool   // Sealed is said to be a stub, which has no magic here

	StreamID    [16]byte
	Epoch, Seq  uint64
	DEKID       [16]byte
	First, Last int64  // unix s
	Topic       string // the stream's name
	Why         string // of a stub: why the envelope is not here

	// Err says what is wrong with the fields, or why Sealed is nil.
	Err error
	// Offset is where [Source.Open] has Sealed.
	Offset int64
	// Where tells a person where the log was found.
	Where string
}

// Item parses and verifies what the log carries. What differs between it and
// the fields beside it is told in words; "" = nothing.
func (l *Log) Item() (it Item, differs string) {
	it = Item{Offset: l.Offset, Size: int64(len(l.Sealed))}
	var h *seal.Header
	var err error
	switch {
	case l.Sealed == nil:
		if err = l.Err; err == nil {
			err = errors.New("a log that holds nothing")
		}
	case l.Stub:
		if it.Stub, err = seal.ParseStub(l.Sealed); err == nil {
			h, err = &it.Stub.Header, it.Stub.Verify()
		}
	default:
		if it.Envelope, err = seal.Parse(l.Sealed); err == nil {
			h, err = &it.Envelope.Header, it.Envelope.Verify()
		}
	}
	switch {
	case errors.Is(err, seal.ErrForged):
		it.Fault, it.Why = IsForged, "signature does not fit"
		return it, ""
	case err != nil:
		// A log is written whole: none is torn.
		it.Fault, it.Why, it.Envelope, it.Stub = IsDamaged, err.Error(), nil, nil
		return it, ""
	case l.Err != nil:
		return it, l.Err.Error()
	}
	return it, l.differs(h)
}

// differs compares the fields with the header.
func (l *Log) differs(h *seal.Header) string {
	var ds []string
	compare := func(what string, same bool, said, sealed any) {
		if !same {
			ds = append(ds, fmt.Sprintf("%s is said to be %v and is %v", what, said, sealed))
		}
	}
	hex := func(id [16]byte) string { return fmt.Sprintf("%x", id) }
	compare("stream", l.StreamID == h.StreamID, hex(l.StreamID), hex(h.StreamID))
	compare("epoch", l.Epoch == h.Epoch, l.Epoch, h.Epoch)
	compare("seq", l.Seq == h.Seq, l.Seq, h.Seq)
	compare("data key", l.DEKID == h.DEKID, hex(l.DEKID), hex(h.DEKID))
	compare("oldest record", l.First == h.First/1e9, l.First, h.First/1e9)
	compare("newest record", l.Last == h.Last/1e9, l.Last, h.Last/1e9)
	return strings.Join(ds, ", ")
}

// AddLogs adds an input that comes log by log, each in a call of yield. What
// is sealed in it may lie in any order. The error is each's.
func (r *Reader) AddLogs(src Source, each func(yield func(*Log) error) error) error {
	n := len(r.sources)
	r.sources = append(r.sources, src)
	err := each(func(l *Log) error {
		it, differs := l.Item()
		r.pos++
		r.bytes += it.Size
		at := spot{source: n, pos: r.pos, off: it.Offset, size: it.Size}
		if it.Fault != Sound {
			r.logFault(l, it, at)
			return nil
		}
		r.beside(r.index(it, at), l, differs, at)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", src.Name, err)
	}
	return nil
}

// logFault keeps a log that holds no sound item. Which place in a chain it
// claims is told by the envelope, else beside it.
func (r *Reader) logFault(l *Log, it Item, at spot) {
	f := r.fault(it, at)
	f.log = true
	if l.Where != "" {
		f.why += "; " + l.Where
	}
	if f.claims == nil && l.Err == nil {
		f.claims = &claim{l.StreamID, Span{Epoch: l.Epoch, From: l.Seq, To: l.Seq}}
	}
}

// beside keeps what of a log is not its envelope's.
func (r *Reader) beside(n *node, l *Log, differs string, at spot) {
	topic := r.topics[l.Topic]
	if topic == nil {
		own := strings.Clone(l.Topic)
		topic = &own
		r.topics[own] = topic
	}
	switch {
	case differs != "":
		differs = "the fields beside it are not its own: " + differs
	case n.topic == nil:
		n.topic = topic
	case n.topic != topic:
		differs = fmt.Sprintf("its topic is %q in one log and %q in another", *n.topic, l.Topic)
	}
	if differs != "" && n.differs == nil {
		if l.Where != "" {
			differs += "; " + l.Where
		}
		n.differs = &difference{differs, at}
	}
	if l.Stub && n.why == "" {
		n.why = l.Why
	}
}

// A difference is one between an envelope and the log that carries it.
type difference struct {
	text string
	at   spot
}
