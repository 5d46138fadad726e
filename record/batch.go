package record

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"time"
)

// Tags that say where the records of a group are from, and the fields of a
// record besides its content. Tag names of users do not begin with "__".
const (
	TagStream   = "__stream__"
	TagHost     = "__hostname__"
	TagPath     = "__path__"
	TagInode    = "__inode__"
	TagOffset   = "__offset__" // of the run's first byte; of a record that does not begin behind the one before
	TagEnd      = "__end__"    // one past the run's last byte
	FieldPart   = "__part__"
	FieldSource = "_source_" // as Log Service's own agents name it
	FieldEvent  = "__event__"
	FieldRecord = "content"
)

// A Batch gathers chunks in their encoded form until they are sealed
// together. It can be divided between any two chunks.
type Batch struct {
	origin  []byte // encoded tags of every group: stream, host, the stream's own
	buf     []byte // encoded LogGroupList
	marks   []mark // one a chunk
	records int    // of all marks
}

// A mark is what one chunk brought.
type mark struct {
	end         int // of its group in buf
	records     int
	raw         int64 // bytes of its file, of records
	taken       int64 // bytes that positions advanced by
	first, last int64 // record times; 0 = no record
	moved       []Position
}

// NewBatch returns an empty batch whose groups carry the stream's name, the
// host's name and the stream's own tags.
func NewBatch(stream, host string, tags []Tag) *Batch {
	b := new(Batch)
	b.origin = appendTag(b.origin, TagStream, stream)
	b.origin = appendTag(b.origin, TagHost, host)
	for _, t := range tags {
		b.origin = appendTag(b.origin, t.Key, t.Value)
	}
	return b
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.buf = b.buf[:0]
	clear(b.marks)
	b.marks = b.marks[:0]
	b.records = 0
}

// Size is the length of the encoding so far, in bytes.
func (b *Batch) Size() int { return len(b.buf) }

// Empty reports whether there is nothing to seal and no position that moved.
func (b *Batch) Empty() bool { return len(b.marks) == 0 }

// Chunks is the number of chunks taken.
func (b *Batch) Chunks() int { return len(b.marks) }

// Records is the number of records and events.
func (b *Batch) Records() int { return b.records }

// Raw is the number of bytes of files that the records take.
func (b *Batch) Raw() (n int64) {
	for _, m := range b.marks {
		n += m.raw
	}
	return n
}

// Taken is the number of bytes by which the chunks advance positions.
func (b *Batch) Taken() (n int64) {
	for _, m := range b.marks {
		n += m.taken
	}
	return n
}

// Encoded returns the LogGroupList. It is valid until the next Add or Reset.
func (b *Batch) Encoded() []byte { return b.buf }

// Times returns the times of the oldest and the newest record, zeros if
// there is none.
func (b *Batch) Times() (first, last int64) {
	for _, m := range b.marks {
		if m.records == 0 {
			continue
		}
		if first == 0 || m.first < first {
			first = m.first
		}
		last = max(last, m.last)
	}
	return first, last
}

// Moved returns the positions as they are once the batch is taken, one a
// file, in the order in which files first moved.
func (b *Batch) Moved() []Position {
	var moved []Position
	at := make(map[uint64]int)
	for _, m := range b.marks {
		for _, p := range m.moved {
			i, ok := at[p.ID]
			if !ok {
				at[p.ID] = len(moved)
				moved = append(moved, p)
				continue
			}
			if first := &moved[i]; p.Offset >= first.Offset && first.From <= p.From {
				p.From, p.Was = first.From, first.Was
			}
			moved[i] = p
		}
	}
	return moved
}

// Halve divides a batch of two chunks or more into two that alias its memory.
func (b *Batch) Halve() (x, y *Batch) {
	n := 1
	for n < len(b.marks)-1 && b.marks[n].end <= len(b.buf)/2 {
		n++
	}
	cut := b.marks[n-1].end
	x = &Batch{origin: b.origin, buf: b.buf[:cut:cut], marks: b.marks[:n:n]}
	y = &Batch{origin: b.origin, buf: b.buf[cut:], marks: slices.Clone(b.marks[n:])}
	for _, m := range x.marks {
		x.records += m.records
	}
	y.records = b.records - x.records
	for i := range y.marks {
		y.marks[i].end -= cut
	}
	return x, y
}

// Add encodes a chunk: its events, each as a group of its own, then its
// records. The batch keeps no slice of it except Moved, which it copies.
func (b *Batch) Add(c *Chunk) {
	m := mark{taken: c.Taken, moved: slices.Clone(c.Moved)}
	for _, e := range c.Events {
		m.saw(b.appendEvent(e))
	}
	if len(c.Records) > 0 {
		m.raw = c.Raw
		if m.raw == 0 {
			m.raw = c.End - c.Offset
		}
		m.saw(b.appendRecords(c))
	}
	m.records = len(c.Events) + len(c.Records)
	m.end = len(b.buf)
	b.marks = append(b.marks, m)
	b.records += m.records
}

// AddEvent encodes an event of the agent.
func (b *Batch) AddEvent(e Event) { b.Add(&Chunk{Events: []Event{e}}) }

// saw widens the mark's times.
func (m *mark) saw(first, last int64) {
	if m.first == 0 || first < m.first {
		m.first = first
	}
	m.last = max(m.last, last)
}

func (b *Batch) appendEvent(e Event) (first, last int64) {
	t := e.Time.UnixNano()
	n := 1 + varintLen(uint64(t/1e9)) + pairLen(FieldEvent, len(e.Name)) + 5
	for _, f := range e.Fields {
		n += pairLen(f.Key, len(f.Value))
	}
	buf := append(b.buf, 0x0a)
	buf = binary.AppendUvarint(buf, uint64(1+varintLen(uint64(n))+n+len(b.origin)))
	buf = append(buf, 0x0a)
	buf = binary.AppendUvarint(buf, uint64(n))
	buf = append(buf, 0x08)
	buf = binary.AppendUvarint(buf, uint64(t/1e9))
	buf = appendPair(buf, 0x12, FieldEvent, e.Name)
	for _, f := range e.Fields {
		buf = appendPair(buf, 0x12, f.Key, f.Value)
	}
	buf = appendTimeNs(buf, t)
	b.buf = append(buf, b.origin...)
	return t, t
}

// appendRecords encodes one LogGroup, its length first: sizes are summed
// before, so that no byte is moved after.
//
//	LogGroupList  1: LogGroup*
//	LogGroup      1: Log*   6: LogTag{1: key, 2: value}*
//	Log           1: Time varint   2: Content{1: key, 2: value}*   4: Time_ns fixed32
func (b *Batch) appendRecords(c *Chunk) (first, last int64) {
	tags := make([]byte, 0, 256)
	tags = append(tags, b.origin...)
	tags = appendTag(tags, TagPath, c.Path)
	tags = appendTag(tags, TagInode, strconv.FormatUint(c.Inode, 10))
	tags = appendTag(tags, TagOffset, strconv.FormatInt(c.Offset, 10))
	tags = appendTag(tags, TagEnd, strconv.FormatInt(c.End, 10))
	for _, t := range c.Tags {
		tags = appendTag(tags, t.Key, t.Value)
	}

	var room [128]byte
	extra := room[:0]
	size, next := 0, c.Offset
	timeLen := varintLen(uint64(c.Time / 1e9))
	first, last = math.MaxInt64, 0
	for i := range c.Records {
		r := &c.Records[i]
		n := logLen(timeLen, len(r.Content))
		if !r.plain(next) {
			extra = r.appendExtra(extra[:0], next)
			n += len(extra)
			n += varintLen(uint64(r.at(c)/1e9)) - timeLen
		}
		first, last = min(first, r.at(c)), max(last, r.at(c))
		size += 1 + varintLen(uint64(n)) + n
		next = r.Offset + int64(len(r.Content)) + 1
	}

	b.buf = slices.Grow(b.buf, size+len(tags)+16)
	buf := append(b.buf, 0x0a)
	buf = binary.AppendUvarint(buf, uint64(size+len(tags)))
	var scratch [16]byte
	head := binary.AppendUvarint(append(scratch[:0], 0x08), uint64(c.Time/1e9))
	tail := appendTimeNs(nil, c.Time)
	next = c.Offset
	for i := range c.Records {
		r := &c.Records[i]
		n := len(r.Content)
		pair := 1 + 1 + len(FieldRecord) + 1 + varintLen(uint64(n)) + n
		if r.plain(next) {
			buf = append(buf, 0x0a)
			buf = binary.AppendUvarint(buf, uint64(logLen(timeLen, n)))
			buf = append(buf, head...)
			buf = append(buf, 0x12)
			buf = binary.AppendUvarint(buf, uint64(pair))
			buf = append(buf, "\x0a\x07"+FieldRecord+"\x12"...)
			buf = binary.AppendUvarint(buf, uint64(n))
			buf = append(buf, r.Content...)
			buf = append(buf, tail...)
		} else {
			buf = r.appendLog(buf, r.at(c), next)
		}
		next = r.Offset + int64(n) + 1
	}
	b.buf = append(buf, tags...)
	return first, last
}

// appendLog encodes a record with fields or a time of its own.
func (r *Record) appendLog(buf []byte, t, next int64) []byte {
	var scratch [128]byte
	extra := r.appendExtra(scratch[:0], next)
	n := len(r.Content)
	buf = append(buf, 0x0a)
	buf = binary.AppendUvarint(buf, uint64(logLen(varintLen(uint64(t/1e9)), n)+len(extra)))
	buf = append(buf, 0x08)
	buf = binary.AppendUvarint(buf, uint64(t/1e9))
	buf = appendPair(buf, 0x12, FieldRecord, r.Content)
	buf = append(buf, extra...)
	return appendTimeNs(buf, t)
}

// appendExtra encodes where the record is, if it does not begin at next, its
// source stream, and which part it is.
func (r *Record) appendExtra(b []byte, next int64) []byte {
	if r.Offset != next {
		var digits [20]byte
		b = appendPair(b, 0x12, TagOffset, strconv.AppendInt(digits[:0], r.Offset, 10))
	}
	if r.Source != "" {
		b = appendPair(b, 0x12, FieldSource, r.Source)
	}
	if r.Part != nil {
		b = appendPair(b, 0x12, FieldPart, r.Part.String())
	}
	return b
}

// at is the time of a record of chunk c.
func (r *Record) at(c *Chunk) int64 {
	if r.Time != 0 {
		return r.Time
	}
	return c.Time
}

// plain reports whether the record is a content and nothing else.
func (r *Record) plain(next int64) bool {
	return r.Offset == next && r.Part == nil && r.Time == 0 && r.Source == ""
}

// String is the part as its field has it: 16 hex digits of the id, a dot, the
// index, and $ on the last piece.
func (p Part) String() string {
	id := strconv.FormatUint(p.ID, 16)
	s := "0000000000000000"[len(id):] + id + "." + strconv.FormatUint(uint64(p.Index), 10)
	if p.Last {
		s += "$"
	}
	return s
}

// logLen is the length of a Log with just a content of n bytes.
func logLen(timeLen, n int) int {
	return 1 + timeLen + pairLen(FieldRecord, n) + 5
}

// pairLen is the length of a key and a value of n bytes as a field.
func pairLen(key string, n int) int {
	m := 1 + varintLen(uint64(len(key))) + len(key) + 1 + varintLen(uint64(n)) + n
	return 1 + varintLen(uint64(m)) + m
}

func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendTag(b []byte, key, value string) []byte { return appendPair(b, 0x32, key, value) }

func appendPair[V string | []byte](b []byte, field byte, key string, value V) []byte {
	n := 1 + varintLen(uint64(len(key))) + len(key) + 1 + varintLen(uint64(len(value))) + len(value)
	b = append(b, field)
	b = binary.AppendUvarint(b, uint64(n))
	b = append(b, 0x0a)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
	b = append(b, 0x12)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

func appendTimeNs(b []byte, t int64) []byte {
	b = append(b, 0x25)
	return binary.LittleEndian.AppendUint32(b, uint32(t%int64(time.Second)))
}
