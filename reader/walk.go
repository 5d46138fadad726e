package reader

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"sealtail/seal"
)

// A walk goes along one chain.
type walk struct {
	r      *Reader
	s      *stream
	report *StreamReport
	others []Span // what is there and not to be trusted: strays, forged; sorted, each once
	groups []*group
	at     map[[32]byte]*group // by digest
	tips   map[*group]bool     // ends of branches, so far
}

// A group is what there is of one epoch and seq: one node, unless somebody
// equivocates.
type group struct {
	epoch, seq uint64
	nodes      []*node
	next       *group // that was found to follow it first
}

func (w *walk) find(f Finding) {
	f.Stream = w.s.id
	add(&w.report.Findings, f)
}

// places are those of one copy of each node.
func (w *walk) places(nodes ...*node) []Place {
	var ps []Place
	for _, n := range nodes {
		ps = append(ps, w.r.place(n.spots()[0]))
	}
	return ps
}

// chain goes from the first group to the last.
func (w *walk) chain() {
	w.at = make(map[[32]byte]*group)
	w.tips = make(map[*group]bool)
	for _, n := range w.s.trusted {
		if k := len(w.groups); k == 0 || w.groups[k-1].epoch != n.epoch || w.groups[k-1].seq != n.seq {
			w.groups = append(w.groups, &group{epoch: n.epoch, seq: n.seq})
		}
		g := w.groups[len(w.groups)-1]
		g.nodes = append(g.nodes, n)
		w.at[n.digest] = g
	}
	for i, g := range w.groups {
		switch {
		case i == 0:
			w.start(g)
		case w.groups[i-1].epoch == g.epoch:
			w.within(w.groups[i-1], g)
		default:
			w.across(w.groups[i-1], g)
		}
		w.one(g)
		w.tips[g] = true
	}
	if len(w.groups) > 0 {
		w.rollback()
		w.tail(w.groups[len(w.groups)-1])
	}
}

// one reports what is to be said of one group alone.
func (w *walk) one(g *group) {
	if len(g.nodes) > 1 {
		w.find(Finding{
			Kind: Equivocation, Span: g.nodes[0].span(), Count: len(g.nodes), Places: w.places(g.nodes...),
			Detail: fmt.Sprintf("%d different envelopes of one place in the chain", len(g.nodes)),
		})
	}
	for _, n := range g.nodes {
		if len(n.copies) == 0 {
			f := Finding{Kind: Parked, Span: n.span(), Places: w.places(n), Detail: "only a stub is here: the store could not accept the envelope, its agent keeps it"}
			if n.why != "" {
				f.Detail += "; " + n.why
			}
			w.find(f)
		}
		if d := n.differs; d != nil {
			w.find(Finding{Kind: Mismatch, Span: n.span(), Places: []Place{w.r.place(d.at)}, Detail: d.text})
		}
		if spots := n.spots(); len(spots) > 1 {
			f := Finding{Kind: Duplicate, Span: n.span(), Count: len(spots) - 1, Detail: "sent again"}
			for _, s := range spots[1:] {
				f.Places = append(f.Places, w.r.place(s))
			}
			w.find(f)
		}
		if n.foreign {
			w.find(Finding{Kind: Foreign, Span: n.span(), Places: w.places(n), Detail: "sealed for another destination than where it was found"})
		}
	}
	w.extend(g)
}

// extend adds a group to the ranges.
func (w *walk) extend(g *group) {
	first, last := time.Unix(0, g.nodes[0].first).UTC(), time.Unix(0, g.nodes[0].last).UTC()
	if n := len(w.report.Ranges); n > 0 {
		if r := &w.report.Ranges[n-1]; r.Epoch == g.epoch && r.To+1 == g.seq {
			r.To = g.seq
			r.First, r.Last = earlier(r.First, first), later(r.Last, last)
			return
		}
	}
	w.report.Ranges = append(w.report.Ranges, Range{Span{Epoch: g.epoch, From: g.seq, To: g.seq}, first, last})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// start reports how the chain begins.
func (w *walk) start(g *group) {
	m, known := w.r.o.State.get(w.s.id)
	f := Finding{Kind: UnanchoredStart, Span: g.nodes[0].span(), Detail: "what came before has expired or is out of range"}
	for _, n := range g.nodes {
		switch {
		case n.flags&seal.Genesis != 0:
			f.Kind, f.Detail = Anchored, "begins with GENESIS"
		case known && n.digest == m.head.Digest:
			f.Kind, f.Detail = Anchored, "begins with the remembered head"
		case known && n.prev == m.head.Digest:
			f.Kind, f.Detail = Anchored, "goes on from the remembered head"
		}
	}
	w.find(f)
	if f.Kind == Anchored || !known || !after(g, m.head) {
		return
	}
	// All that is here is newer than the head, and does not link to it.
	switch head := m.head; {
	case head.Epoch != g.epoch && g.seq > 0:
		w.gap(nil, g, Span{Epoch: g.epoch, To: g.seq - 1})
	case head.Epoch != g.epoch:
		w.gap(nil, g, Span{Epoch: head.Epoch, From: head.Seq + 1, To: head.Seq + 1, Open: true})
	case head.Seq+1 < g.seq:
		w.gap(nil, g, Span{Epoch: g.epoch, From: head.Seq + 1, To: g.seq - 1})
	}
}

func after(g *group, head seal.Head) bool {
	return g.epoch > head.Epoch || g.epoch == head.Epoch && g.seq > head.Seq
}

// within links two neighbours of one epoch.
func (w *walk) within(p, g *group) {
	delete(w.tips, p)
	if g.seq > p.seq+1 {
		w.gap(p, g, Span{Epoch: g.epoch, From: p.seq + 1, To: g.seq - 1})
		return
	}
	broken := func(n *node, why string) {
		w.find(Finding{Kind: BrokenLink, Span: n.span(), Places: w.places(p.nodes[0], n), Detail: why})
	}
	for _, n := range g.nodes {
		switch {
		case w.at[n.prev] != p:
			broken(n, "does not follow the envelope before it")
		case n.suite != p.nodes[0].suite:
			broken(n, "the suite changes inside an epoch")
		case p.nodes[0].flags&seal.Final != 0:
			broken(n, "follows the FINAL envelope of its epoch")
		}
	}
	p.next = g
}

// across links the first group of an epoch with the epochs before; p is the
// last of the epoch before.
func (w *walk) across(p, g *group) {
	if was, is := p.nodes[0].suite, g.nodes[0].suite; was != is {
		w.find(Finding{Kind: SuiteChange, Span: g.nodes[0].span(), Detail: fmt.Sprintf("from %s to %s", was, is)})
	}
	if g.seq > 0 {
		delete(w.tips, p)
		w.gap(p, g, Span{Epoch: g.epoch, To: g.seq - 1})
		return
	}
	for _, n := range g.nodes {
		q := w.at[n.prev]
		switch {
		case n.flags&seal.Genesis != 0:
			w.find(Finding{
				Kind: Fork, Span: n.span(), Places: w.places(w.groups[0].nodes[0], n),
				Detail: "the stream begins again: its state was rolled back or cloned",
			})
		case q == nil:
			delete(w.tips, p)
			w.gap(p, g, Span{Epoch: p.epoch, From: p.seq + 1, To: p.seq + 1, Open: true})
		case w.tips[q]:
			delete(w.tips, q)
			q.next = g
		case q.next != g:
			w.fork(q, n)
		}
	}
}

// fork reports that n follows q, which something else follows already.
func (w *walk) fork(q *group, n *node) {
	f := Finding{Kind: Fork, Span: n.span(), Places: w.places(n)}
	f.Detail = fmt.Sprintf("follows (%d, %d), behind which the chain goes on elsewhere: state was rolled back or cloned", q.epoch, q.seq)
	if q.next != nil {
		f.Places = w.places(q.next.nodes[0], n)
		f.Detail = fmt.Sprintf("follows (%d, %d), as (%d, %d) does: state was rolled back or cloned", q.epoch, q.seq, q.next.epoch, q.next.seq)
	}
	w.find(f)
}

// gap reports what is missing between p (nil: the remembered head) and g,
// unless something else that is reported stands in its place.
func (w *walk) gap(p, g *group, span Span) {
	if w.covered(span) || p != nil && w.explained(p, g, span) {
		return
	}
	f := Finding{Kind: Gap, Span: &span}
	switch {
	case span.Open && p != nil && p.nodes[0].flags&seal.Final != 0:
		f.Detail = fmt.Sprintf("all of the epochs before %d is missing", g.epoch)
	case span.Open:
		f.Detail = fmt.Sprintf("what leads to epoch %d is missing", g.epoch)
	case span.From == span.To:
		f.Detail = "1 envelope is missing"
	default:
		f.Detail = fmt.Sprintf("%d envelopes are missing", span.To-span.From+1)
	}
	w.find(f)
}

// covered reports whether all of the span is there, forged or of signers that
// are not trusted, and so reported.
func (w *walk) covered(span Span) bool {
	from, _ := slices.BinarySearchFunc(w.others, span.From, span.compare)
	if span.Open {
		return from < len(w.others) && w.others[from].Epoch == span.Epoch
	}
	to, _ := slices.BinarySearchFunc(w.others, span.To+1, span.compare)
	return uint64(to-from) == span.To-span.From+1
}

// compare orders the seq of a span's epoch among others.
func (s Span) compare(other Span, seq uint64) int {
	return cmp.Or(cmp.Compare(other.Epoch, s.Epoch), cmp.Compare(other.From, seq))
}

// explained looks for a fault that lies between p and g in the input. It then
// is reported with the span, and the gap is not.
func (w *walk) explained(p, g *group, span Span) bool {
	from, to := p.nodes[0].spots()[0].pos, g.nodes[0].spots()[0].pos
	i, _ := slices.BinarySearchFunc(w.r.faults, from, func(f *fault, pos int64) int { return cmp.Compare(f.pos, pos) })
	for ; i < len(w.r.faults) && w.r.faults[i].pos < to; i++ {
		f := w.r.faults[i]
		if f.kind != Torn && !f.log && f.hole == nil && (f.claims == nil || w.r.streams[f.claims.stream] == nil || f.claims.stream == w.s.id) {
			f.hole = &claim{w.s.id, span}
			return true
		}
	}
	return false
}

// rollback reports a remembered head that the chain has lost.
func (w *walk) rollback() {
	m, known := w.r.o.State.get(w.s.id)
	if !known || w.at[m.head.Digest] != nil {
		return
	}
	head := Span{Epoch: m.head.Epoch, From: m.head.Seq, To: m.head.Seq}
	for _, n := range w.s.trusted {
		if n.prev == m.head.Digest {
			return // it is missing itself, and reported so
		}
	}
	if first := w.groups[0]; after(first, m.head) && (first.epoch != head.Epoch || first.seq != head.From+1) {
		return // out of range, and reported as a gap
	}
	for _, f := range w.report.Findings {
		if s := f.Span; f.Kind == Gap && !s.Open && s.Epoch == head.Epoch && s.From <= head.From && s.To >= head.From {
			return // missing with its neighbours: nothing speaks against it
		}
	}
	w.find(Finding{Kind: Rollback, Span: &head, Detail: fmt.Sprintf("the head that was remembered, of %s, is no longer there", time.Unix(0, m.head.Last).UTC().Format(time.RFC3339))})
}

// tail reports how the chain ends.
func (w *walk) tail(g *group) {
	last, final := int64(0), false
	for _, n := range g.nodes {
		last = max(last, n.last)
		final = final || n.flags&seal.Final != 0
	}
	since := time.Unix(0, last)
	f := Finding{Span: g.nodes[0].span(), Since: since}
	// A record may be older than the epoch it was sealed in.
	if began := time.Unix(0, int64(g.epoch)); int64(g.epoch) > 0 {
		since = later(since, began)
	}
	switch {
	case final:
		f.Kind, f.Detail = Stopped, "the newest envelope is FINAL"
	case w.r.o.Now.Sub(since) > 3*w.r.o.Heartbeat:
		f.Kind, f.Detail = OpenTail, "no FINAL, and nothing for three heartbeats"
	default:
		return
	}
	w.find(f)
}
