package tail

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"sealtail/record"
)

// A joiner makes records of the bytes of a file where that takes more than
// cutting lines: what is written is converted, wrapped by a container runtime,
// or spread over lines.
//
//	bytes ──▶ line ──convert──▶ ──unwrap──▶ piece of a source stream's line ──join──▶ record
//
// It keeps nothing between two passes. A pass begins where the oldest open
// record does, at the position's offset, and passes over what each source
// stream's skip says is taken; so going on after a restart is no case of its
// own. How the bytes come, in how many passes, makes no difference to the
// records: an open record ends by what follows it, by the bytes that it reaches
// over, or by time.
type joiner struct {
	cutter
	span   int        // bytes of the file that an open record reaches over
	unwrap unwrapper  // nil: lines
	multi  *multiline // nil: each line is a record
	filter *filter    // nil: all are kept
}

// An unwrapper reads a container runtime's line. What it needs memory for it
// appends to room.
type unwrapper interface {
	unwrap(line, room []byte) (p piece, ok bool)
}

// A piece is what one line of the file has of a line of its source stream.
type piece struct {
	source string
	time   int64 // 0 = none of its own
	text   []byte
	copied bool // text is in memory that the next piece takes
	last   bool // it ends its line
	bare   bool // it is no line of the format, and a record as it is
}

// A reading is where a pass stands in one source stream.
type reading struct {
	record.Source
	rec   stretch // the open record: whole lines
	line  stretch // the open line behind it
	state uint8   // of multi, at the end of rec
	ended int64   // one past what was ended last
}

// A stretch is content that is open.
type stretch struct {
	open       bool
	begin, end int64 // the file's lines that it is from
	raw        int64 // bytes of these
	time       int64
	content    []byte
	whole      bool // of a line: its end is there
	bare       bool // likewise: it is no line of the format
}

// An opening is an open record at the end of a file, or a line of the file that
// is not finished, and since when it is known.
type opening struct {
	name       string
	begin, end int64
	mid        bool
	since      time.Duration
	due        bool // it was waited for long enough
}

// shape sets up what makes records, as the options say.
func (t *Tailer) shape() error {
	o := &t.o
	var errs [4]error
	var unwrap unwrapper
	var multi *multiline
	t.most = int64(o.MaxRecord) + 1
	unwrap, errs[0] = newUnwrapper(o.Format)
	t.convs, t.byMark, errs[1] = converters(o.Encoding)
	multi, errs[2] = newMultiline(o.Multiline, o.MaxRecord)
	t.filter, errs[3] = newFilter(o.Keep, o.Drop)
	if unwrap != nil || multi != nil || t.convs != nil {
		t.join = &joiner{cutter: t.cut, span: max(o.MaxRecord, chunkBytes), unwrap: unwrap, multi: multi, filter: t.filter}
		t.most = int64(t.join.span) + 2
	}
	if unwrap != nil && t.convs != nil {
		return errors.New("encoding: the lines of a container runtime are utf-8")
	}
	return errors.Join(errs[:]...)
}

// A pass is one pass over bytes of a file.
type pass struct {
	*joiner
	conv    *converter // nil: bytes as they are
	b       *buffer
	body    []byte
	at      int64
	limit   int              // content bytes to stop at
	final   bool             // nothing comes behind body
	eof     bool             // body ends where the file does
	once    bool             // nobody will ask again
	hole    *record.Position // that is read again; nil: a file
	cutOff  bool             // some record is cut at its end
	waited  []opening
	sources [3]reading
	known   int // of sources

	recs  []record.Record
	pos   int      // in body: what lies before is taken
	raw   bool     // pos is inside of a line that is none of the format
	done  *reading // whose line is to be joined
	held  bool     // line and piece are those at pos
	line  line
	piece piece
	text  int   // content bytes of recs
	last  int64 // one past the bytes of recs
	raws  int64 // bytes of recs
	full  bool
	drops dropped
	bare  int64 // lines that are none of the format
}

// A line is one of the file, or a piece of one that is too long.
type line struct {
	text []byte
	size int  // with its end
	last bool // its end is there
	more bool // the rest, which is not finished
}

// A dropped counts what filters drop.
type dropped struct{ records, bytes int64 }

// run takes what there is, until a chunk is full.
func (p *pass) run(sources []record.Source) {
	p.pos = p.conv.mark(p.body, p.at)
	for _, s := range sources {
		r := p.source(s.Name)
		r.Source = s
		p.raw = p.raw || s.Name == "" && s.PartID != 0 && s.Skip <= p.at
	}
	for p.step() {
	}
	if p.eof {
		for !p.full && p.expire() {
		}
	}
}

// expire ends the oldest of what nothing is waited for any more, and reports
// whether there was any.
func (p *pass) expire() bool {
	var s *reading
	for i := range p.sources[:p.known] {
		r := &p.sources[i]
		ended := p.final && (r.line.open || r.rec.open || r.PartID != 0 && !p.goesOn(r.Name)) ||
			r.rec.open && (p.once || p.due(r.Name, &r.rec, false)) || r.line.open && p.due(r.Name, &r.line, true)
		if ended && (s == nil || r.first() < s.first()) {
			s = r
		}
	}
	switch {
	case p.done != nil:
		return p.join()
	case s == nil:
		return false
	case p.final && (s.line.open || s.PartID != 0) && !p.goesOn(s.Name):
		if !s.line.open { // just the end of a record that was cut
			s.line = stretch{open: true, begin: p.at + int64(p.pos), content: []byte{}}
		}
		s.line.whole = true
		p.complete(s)
		return p.join()
	case s.rec.open:
		return p.emit(s, &s.rec, true)
	}
	return p.emit(s, &s.line, false)
}

// first is where what is open begins.
func (s *reading) first() int64 {
	if s.rec.open {
		return s.rec.begin
	}
	return s.line.begin
}

func (s *reading) isOpen() bool { return s.rec.open || s.line.open }

// source returns the reading of a source stream.
func (p *pass) source(name string) *reading {
	for i := range p.sources[:p.known] {
		if p.sources[i].Name == name {
			return &p.sources[i]
		}
	}
	s := &p.sources[p.known]
	*s = reading{Source: record.Source{Name: name}}
	p.known++
	return s
}

// step takes one line or ends one record, and reports whether it did.
func (p *pass) step() bool {
	if p.done != nil {
		return p.join()
	}
	p.fetch()
	end := p.at + int64(p.pos+p.line.size)
	if p.line.size == 0 {
		end = p.at + int64(len(p.body))
	}
	if s := p.oldest(); s != nil && end-s.first() > int64(p.span) {
		if s.rec.open {
			return p.emit(s, &s.rec, true)
		}
		return p.emit(s, &s.line, false)
	}
	if p.line.size == 0 {
		return false
	}
	s := p.source(p.piece.source)
	switch l := &s.line; {
	case p.at+int64(p.pos) < s.Skip, p.hole != nil && p.at+int64(p.pos) >= p.until(s.Name):
		p.take()
	case l.open && len(l.content)+len(p.piece.text) > p.max && s.rec.open:
		return p.emit(s, &s.rec, true)
	case l.open && len(l.content)+len(p.piece.text) > p.max:
		return p.emit(s, l, false)
	default:
		p.add(s)
	}
	return true
}

// until is one past where records of the source stream begin that the hole has.
func (p *pass) until(name string) int64 {
	for _, s := range p.hole.Ends {
		if s.Name == name && s.Skip > 0 {
			return s.Skip
		}
	}
	return p.hole.Size
}

// goesOn reports whether the hole ends inside of a record of the source stream.
func (p *pass) goesOn(name string) bool {
	return p.cutOff && slices.ContainsFunc(p.hole.Ends, func(s record.Source) bool { return s.Name == name && s.PartID != 0 })
}

// oldest returns the reading of what is open and begins first, nil if nothing is.
func (p *pass) oldest() (s *reading) {
	for i := range p.sources[:p.known] {
		if r := &p.sources[i]; r.isOpen() && (s == nil || r.first() < s.first()) {
			s = r
		}
	}
	return s
}

// fetch reads the line at pos.
func (p *pass) fetch() {
	if p.held {
		return
	}
	if p.line = p.next(); p.line.size > 0 {
		p.piece = p.read(p.line)
	}
	p.held = true
}

// next finds the line at pos. Its size is 0 if there is none yet.
func (p *pass) next() (l line) {
	rest := p.body[p.pos:]
	most, lf := p.span, 1
	if p.unwrap == nil {
		most = p.max
	}
	if p.conv != nil {
		lf = p.conv.unit
	}
	i := p.conv.lineFeed(rest[:min(len(rest), most+lf)])
	switch {
	case i >= 0:
		return line{text: rest[:i:i], size: i + lf, last: true}
	case len(rest) >= most+lf:
		i = most
		if p.conv == nil && p.unwrap == nil {
			i = p.whole(rest, most)
		}
		return line{text: rest[:i:i], size: i}
	case p.eof && p.final:
		return line{text: rest, size: len(rest), last: !p.goesOn("")}
	case p.eof && p.unwrap == nil && len(rest) > 0 && p.isDue("", p.at+int64(p.pos), true):
		i = len(rest)
		if p.conv == nil {
			i = p.whole(rest, len(rest))
		}
		return line{text: rest[:i:i], size: i, more: true}
	}
	return line{}
}

// read makes a piece of a line. Of one that is to be converted it may leave the
// end, and shortens it.
func (p *pass) read(l line) (x piece) {
	if p.unwrap != nil {
		if p.raw || !l.last {
			return piece{text: l.text, last: l.last, bare: true}
		}
		x, ok := p.unwrap.unwrap(l.text, p.b.room[:0])
		if x.copied {
			p.b.room = x.text[:0:cap(x.text)]
		}
		if !ok {
			return piece{text: l.text, last: true, bare: true}
		}
		return x
	}
	x = piece{text: l.text, last: l.last}
	if p.conv == nil {
		return x
	}
	n := 0
	x.text, n, x.copied = p.conv.convert(p.b.room[:0], l.text, p.max, l.last)
	if x.copied {
		p.b.room = x.text[:0:cap(x.text)]
	}
	if n < len(l.text) {
		x.last = false
		if p.trimCR && bytes.HasSuffix(x.text, cr) && n > p.conv.unit {
			x.text, n = x.text[:len(x.text)-1], n-p.conv.unit
		}
		p.line.size, p.line.last = n, false
	} else if !l.last {
		p.line.size = n
	}
	return x
}

var cr = []byte{'\r'}

// take goes on behind the line.
func (p *pass) take() {
	p.raw = !p.line.last && p.unwrap != nil
	p.pos += p.line.size
	p.held = false
}

// add takes the piece into the line of its source stream.
func (p *pass) add(s *reading) {
	x, l := &p.piece, &s.line
	from := p.at + int64(p.pos)
	switch {
	case l.open:
		l.content = p.b.copy(l.content, nil, x.text)
	case x.copied:
		*l = stretch{open: true, begin: from, time: x.time, content: p.b.copy(nil, nil, x.text)}
	default:
		*l = stretch{open: true, begin: from, time: x.time, content: x.text}
	}
	l.end = from + int64(p.line.size)
	l.raw += int64(p.line.size)
	l.whole, l.bare = x.last, x.bare
	p.take()
	if x.last || x.bare || p.unwrap == nil { // else the rest of it comes
		p.complete(s)
	}
}

// complete says that nothing of the line is waited for any more.
func (p *pass) complete(s *reading) {
	if l := &s.line; p.trimCR && l.whole {
		l.content = bytes.TrimSuffix(l.content, cr)
	}
	p.done = s
}

// join takes a line into the open record, or ends that before it.
func (p *pass) join() bool {
	s := p.done
	l := &s.line
	alone := l.bare || !l.whole || s.PartID != 0 || p.multi == nil
	switch {
	case s.rec.open && (alone || len(s.rec.content)+1+len(l.content) > p.multi.MaxBytes || p.multi.begins(s.state, l.content)):
		return p.emit(s, &s.rec, true)
	case alone:
		bare := l.bare && l.whole
		if !p.emit(s, l, l.whole) {
			return false
		}
		if bare {
			p.bare++
		}
		return true
	}
	s.state = p.multi.next(s.rec.open, s.state, l.content)
	ends := p.multi.ends(l.content)
	switch r := &s.rec; {
	case !r.open:
		*r = *l
	case p.conv == nil && p.unwrap == nil && !p.trimCR: // they lie one behind the other
		to := l.begin - p.at + int64(len(l.content))
		r.content = p.body[r.begin-p.at : to : to]
		r.end, r.raw = l.end, r.raw+l.raw
	default:
		r.content = p.b.copy(r.content, lf, l.content)
		r.end, r.raw = l.end, r.raw+l.raw
	}
	*l, p.done = stretch{}, nil
	return !ends || p.emit(s, &s.rec, true)
}

var lf = []byte{'\n'}

// emit ends the open record, or sends the line as a record: a piece of one if it
// is not whole.
func (p *pass) emit(s *reading, x *stretch, whole bool) bool {
	if len(p.recs) > 0 && (len(p.recs) >= record.MaxChunkRecords || p.text+len(x.content) > p.limit) {
		p.full = true
		return false
	}
	r := record.Record{Content: x.content, Offset: x.begin, Time: x.time, Source: s.Name}
	if x == &s.line && (s.PartID != 0 || !whole) {
		c := cut{s.PartID, s.PartNext}
		r.Part, p.b.parts = c.piece(whole, p.id), true
		s.PartID, s.PartNext = c.id, c.next
	}
	if r.Part == nil && p.filter.drops(r.Content) {
		p.drops.records++
		p.drops.bytes += x.raw
	} else {
		p.recs = append(p.recs, r)
		p.text += len(r.Content)
		p.last = max(p.last, x.end)
		p.raws += x.raw
	}
	if x == &s.line {
		p.done = nil
	}
	s.ended = x.end
	*x = stretch{}
	return true
}

// due reports whether x was waited for long enough.
func (p *pass) due(name string, x *stretch, mid bool) bool { return p.isDue(name, x.begin, mid) }

func (p *pass) isDue(name string, begin int64, mid bool) bool {
	return slices.ContainsFunc(p.waited, func(o opening) bool {
		return o.due && o.begin == begin && o.mid == mid && o.name == name
	})
}

// moved reports whether there is anything new since the pass began at sources.
func (p *pass) moved() bool { return len(p.recs) > 0 || p.drops.records > 0 || p.offset() > p.at }

// offset is where the next pass begins: at the oldest open record.
func (p *pass) offset() int64 {
	off := p.at + int64(p.pos)
	if s := p.oldest(); s != nil {
		off = min(off, s.first())
	}
	return off
}

// left is where the source streams stand, for a position at offset.
func (p *pass) left(offset int64) (all []record.Source) {
	taken := p.at + int64(p.pos)
	for i := range p.sources[:p.known] {
		s := p.sources[i].Source
		if s.Skip = max(s.Skip, taken); p.sources[i].isOpen() {
			s.Skip = p.sources[i].first()
		}
		if s.Skip <= offset {
			s.Skip = 0
		}
		if s.Skip > 0 || s.PartID != 0 {
			all = append(all, s)
		}
	}
	return all
}

// got is what the pass came to.
func (p *pass) got() got {
	off := p.offset()
	return got{recs: p.recs, used: int(off - p.at), seen: p.pos, end: p.last, raw: p.raws,
		sources: p.left(off), full: p.full, moved: p.moved()}
}

// opens returns what is open at the end of the file: to be due when it was
// waited for.
func (p *pass) opens() (all []opening) {
	if p.full || !p.eof {
		return nil
	}
	for i := range p.sources[:p.known] {
		s := &p.sources[i]
		if s.rec.open {
			all = append(all, opening{name: s.Name, begin: s.rec.begin, end: s.rec.end})
		}
		if s.line.open {
			all = append(all, opening{name: s.Name, begin: s.line.begin, end: s.line.end, mid: true})
		}
	}
	if n := len(p.body); p.pos < n && p.unwrap == nil {
		all = append(all, opening{begin: p.at + int64(p.pos), end: p.at + int64(n), mid: true})
	}
	return all
}
