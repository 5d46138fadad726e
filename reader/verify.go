package reader

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// Verify walks the chain of every stream and reports what it finds. It needs
// no key. It may be called again after more inputs were added.
func (r *Reader) Verify() *Report {
	rep := &Report{Sources: len(r.sources), Bytes: r.bytes}
	for _, f := range r.faults {
		f.hole = nil
	}
	for _, s := range r.order {
		w := &walk{r: r, s: s, report: &StreamReport{ID: s.id}}
		w.trust()
		w.chain()
		s.report = w.report
		rep.Streams = append(rep.Streams, w.report)
	}
	r.reportGone(rep)
	r.reportFaults(rep)
	return rep
}

// reportGone reports streams that are remembered and not there at all.
func (r *Reader) reportGone(rep *Report) {
	if r.o.State == nil {
		return
	}
	var gone []remembered
	for id, m := range r.o.State.streams {
		if r.streams[id] == nil {
			gone = append(gone, m)
		}
	}
	slices.SortFunc(gone, func(a, b remembered) int { return bytes.Compare(a.head.StreamID[:], b.head.StreamID[:]) })
	for _, m := range gone {
		add(&rep.Findings, Finding{
			Kind: Rollback, Stream: m.head.StreamID,
			Span:   &Span{Epoch: m.head.Epoch, From: m.head.Seq, To: m.head.Seq},
			Detail: fmt.Sprintf("nothing is left of stream %x; take it out of the state if it has expired", m.head.StreamID),
		})
	}
}

// reportFaults reports the runs of bytes that are no sound items, each with
// the stream in whose chain it left a hole, if that is known.
func (r *Reader) reportFaults(rep *Report) {
	for _, f := range r.faults {
		out := Finding{Kind: f.kind, Places: []Place{r.place(f.spot)}, Detail: f.why}
		if f.kind != Forged {
			out.Detail = fmt.Sprintf("%d bytes: %s", f.size, f.why)
		}
		to, at := &rep.Findings, cmp.Or(f.hole, f.claims)
		if at != nil {
			out.Stream, out.Span = at.stream, &at.Span
			if s := r.streams[at.stream]; s != nil {
				to = &s.report.Findings
			} else {
				out.Detail += fmt.Sprintf("; it claims to be of stream %x", at.stream)
			}
		}
		add(to, out)
	}
}
