package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sealtail/record"
	"sealtail/seal"
)

// A Record is one record or event, opened. Content and Tags are the caller's
// only until it returns from yield.
type Record struct {
	StreamID   [16]byte
	Epoch, Seq uint64 // of the envelope in which it begins

	Stream, Host, Path string // as the tags say; may be empty
	Inode              uint64
	Offset             int64        // of its first byte in the file
	Time               time.Time    // UTC
	Source             string       // source stream: stdout, stderr; may be empty
	Tags               []record.Tag // all others

	Content []byte // of a record
	NoStart bool   // pieces before Content are missing
	NoEnd   bool   // pieces after Content are missing or not sealed yet, or come as a Record of their own

	Event  string       // name; "" of a record
	Fields []record.Tag // of an event
}

// Open reads the envelopes again and hands every record to yield: stream by
// stream in the order in which they were met, each in the order of its chain.
// Of an envelope that is there several times it opens one. It adds what only
// opening shows to the report of the Verify before, which must have been
// called. The error is yield's, ctx's, or none.
func (r *Reader) Open(ctx context.Context, us []seal.Unwrapper, yield func(*Record) error) error {
	o := &opener{r: r, us: us, yield: yield}
	defer o.files.close()
	for _, s := range r.order {
		o.s, o.join = s, joiner{stream: s, yield: yield}
		for _, n := range s.trusted {
			if err := ctx.Err(); err != nil {
				return err
			}
			if len(n.copies) == 0 {
				continue
			}
			if err := o.node(ctx, n); err != nil {
				return err
			}
		}
		if err := o.join.flush(); err != nil {
			return err
		}
	}
	return nil
}

type opener struct {
	r     *Reader
	us    []seal.Unwrapper
	yield func(*Record) error
	files files
	buf   []byte

	s    *stream
	join joiner
}

func (o *opener) find(kind Kind, n *node, at spot, format string, a ...any) {
	add(&o.s.report.Findings, Finding{
		Kind: kind, Stream: o.s.id, Span: n.span(),
		Places: []Place{o.r.place(at)}, Detail: fmt.Sprintf(format, a...),
	})
}

// node opens the first copy of n that opens.
func (o *opener) node(ctx context.Context, n *node) error {
	var why error
	at := n.copies[0]
	if allowed := o.r.o.Suites; allowed != nil && !slices.Contains(allowed, n.suite) {
		o.unopened(n, at, fmt.Sprintf("%s is not among the suites allowed", n.suite), ErrSuite)
		return nil
	}
	for _, c := range n.copies {
		e, err := o.read(n, c)
		if err != nil {
			why, at = err, c
			continue
		}
		dek, by, err := o.r.pool.unwrap(ctx, o.us, &e.Header, c.section)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			why, at = err, c
			continue
		}
		if by != c.section && by.from == fromEnvelope && !outOfReach(c.section.err) {
			o.find(Damaged, n, c, "its key section does not yield the data key; opened with that of another envelope")
		}
		groups, err := content(e, dek.Bytes())
		if err != nil {
			o.find(Damaged, n, c, "genuine, but does not open: %v", err)
			return nil
		}
		return o.groups(n, c, groups)
	}
	detail := "no key at hand unwraps its data key"
	if !notMine(why) {
		detail = why.Error()
	}
	o.unopened(n, at, detail, why)
	return nil
}

func (o *opener) unopened(n *node, at spot, detail string, why error) {
	add(&o.s.report.Findings, Finding{
		Kind: Unopened, Stream: o.s.id, Span: n.span(),
		Places: []Place{o.r.place(at)}, Detail: detail, Err: why,
	})
}

// outOfReach reports whether a key service did not answer, rather than that
// what it was asked to unwrap is wrong.
func outOfReach(err error) bool {
	var k *seal.KMSError
	return errors.As(err, &k)
}

// read reads one copy again and makes sure that it still is n.
func (o *opener) read(n *node, at spot) (*seal.Envelope, error) {
	f, err := o.files.open(at.source, o.r.sources[at.source].Open)
	if err != nil {
		return nil, fmt.Errorf("cannot be read again: %w", err)
	}
	o.buf = slices.Grow(o.buf[:0], int(at.size))[:at.size]
	if _, err := f.ReadAt(o.buf, at.off); err != nil {
		return nil, fmt.Errorf("cannot be read again: %w", err)
	}
	e, err := seal.Parse(o.buf)
	if err != nil || e.Digest() != n.digest {
		return nil, errors.New("changed while it was read")
	}
	return e, nil
}

// content returns what e holds.
func content(e *seal.Envelope, dek []byte) ([]record.Group, error) {
	b, err := e.Open(dek)
	if err != nil {
		return nil, err
	}
	if e.Flags&seal.Heartbeat != 0 {
		return nil, nil // Open saw to it that there is nothing
	}
	if b, err = seal.Decompress(e.Codec, b); err != nil {
		return nil, err
	}
	return record.Decode(b)
}

// groups yields the records of one envelope.
func (o *opener) groups(n *node, at spot, groups []record.Group) error {
	outside, renamed := false, false
	for i := range groups {
		g := &groups[i]
		records, events, err := g.Records()
		if err != nil {
			o.find(Damaged, n, at, "genuine, but does not open: %v", err)
			return nil
		}
		base := describe(g)
		base.StreamID, base.Epoch, base.Seq = o.s.id, n.epoch, n.seq
		if n.topic != nil && n.differs == nil && base.Stream != "" && base.Stream != *n.topic && !renamed {
			renamed = true
			o.find(Mismatch, n, at, "it is of stream %q, the topic of its log is %q", base.Stream, *n.topic)
		}
		for _, e := range events {
			outside = outside || !n.holds(e.Time.UnixNano())
			rec := base
			rec.Time, rec.Event, rec.Fields = e.Time.UTC(), e.Name, e.Fields
			if err := o.yield(&rec); err != nil {
				return err
			}
		}
		for _, r := range records {
			outside = outside || !n.holds(r.Time)
			rec := base
			rec.Time, rec.Offset, rec.Source, rec.Content = time.Unix(0, r.Time).UTC(), r.Offset, r.Source, r.Content
			if err := o.join.add(&rec, r.Part); err != nil {
				return err
			}
		}
	}
	if outside {
		o.find(Mismatch, n, at, "records are of times outside those of the header, %s to %s",
			time.Unix(0, n.first).UTC().Format(time.RFC3339), time.Unix(0, n.last).UTC().Format(time.RFC3339))
	}
	return nil
}

// holds reports whether a record of time t may be in n.
func (n *node) holds(t int64) bool { return t >= n.first && t-n.last <= int64(time.Second) }

// describe returns a record with what a group's tags say of all of its records.
func describe(g *record.Group) (r Record) {
	for _, t := range g.Tags {
		switch t.Key {
		case record.TagStream:
			r.Stream = t.Value
		case record.TagHost:
			r.Host = t.Value
		case record.TagPath:
			r.Path = t.Value
		case record.TagInode:
			r.Inode, _ = strconv.ParseUint(t.Value, 10, 64) // a reader requires no tag
		case record.TagOffset, record.TagEnd:
		default:
			r.Tags = append(r.Tags, t)
		}
	}
	return r
}
