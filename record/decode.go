package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Group is one decoded LogGroup: records of one run of one file, or events.
type Group struct {
	Tags []Tag
	Logs []Log
}

// A Log is one record or event as it is encoded.
type Log struct {
	Time   int64 // unix ns
	Fields []Field
}

// A Field is one key and value of a log. Value aliases what was decoded.
type Field struct {
	Key   string
	Value []byte
}

// ErrPayload reports bytes that are no LogGroupList.
var ErrPayload = errors.New("malformed LogGroupList")

// Decode reads a LogGroupList. Fields that sealtail does not write (topic,
// source, category) are passed over. Values alias b.
func Decode(b []byte) ([]Group, error) {
	var groups []Group
	err := eachField(b, func(key uint64, v []byte, _ uint64) error {
		if key != 0x0a {
			return nil
		}
		g, err := decodeGroup(v)
		groups = append(groups, g)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return groups, nil
}

func decodeGroup(b []byte) (g Group, err error) {
	err = eachField(b, func(key uint64, v []byte, _ uint64) error {
		switch key {
		case 0x0a:
			l, err := decodeLog(v)
			g.Logs = append(g.Logs, l)
			return err
		case 0x32:
			f, err := decodeField(v)
			g.Tags = append(g.Tags, Tag{f.Key, string(f.Value)})
			return err
		}
		return nil
	})
	return g, err
}

func decodeLog(b []byte) (l Log, err error) {
	var s, ns uint64
	err = eachField(b, func(key uint64, v []byte, n uint64) error {
		switch key {
		case 0x08:
			s = n
		case 0x12:
			f, err := decodeField(v)
			l.Fields = append(l.Fields, f)
			return err
		case 0x25:
			ns = n
		}
		return nil
	})
	if err == nil && (s >= math.MaxInt64/uint64(time.Second) || ns >= 1e9) {
		err = errors.New("time out of range")
	}
	l.Time = int64(s*1e9 + ns)
	return l, err
}

func decodeField(b []byte) (f Field, err error) {
	f.Value = []byte{}
	err = eachField(b, func(key uint64, v []byte, _ uint64) error {
		switch key {
		case 0x0a:
			f.Key = string(v)
		case 0x12:
			f.Value = v
		}
		return nil
	})
	return f, err
}

// eachField calls f with the key (field number and wire type) and the value of
// each protobuf field: bytes of a length-delimited one, else a number.
func eachField(b []byte, f func(key uint64, v []byte, n uint64) error) error {
	d := decoder{b: b}
	for len(d.b) > 0 {
		key := d.uvarint()
		var v []byte
		var n uint64
		switch key & 7 {
		case 0:
			n = d.uvarint()
		case 1:
			d.take(8)
		case 2:
			v = d.bytes()
		case 5:
			if w := d.take(4); w != nil {
				n = uint64(binary.LittleEndian.Uint32(w))
			}
		default:
			d.fail("unknown wire type")
		}
		if d.err == nil && (key < 8 || key >= 1<<32) {
			d.fail("field number out of range")
		}
		if d.err != nil {
			return d.err
		}
		if err := f(key, v, n); err != nil {
			return err
		}
	}
	return nil
}

// Tag returns the value of a tag, "" if there is none.
func (g *Group) Tag(key string) string {
	for _, t := range g.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

// Get returns the value of a field and whether there is one.
func (l *Log) Get(key string) ([]byte, bool) {
	for _, f := range l.Fields {
		if f.Key == key {
			return f.Value, true
		}
	}
	return nil, false
}

// Records returns the group's records with the offset of each in its file,
// and the agent's own events.
func (g *Group) Records() (records []Record, events []Event, err error) {
	next, _ := strconv.ParseInt(g.Tag(TagOffset), 10, 64) // a reader requires no tag
	for i := range g.Logs {
		l := &g.Logs[i]
		content, ok := l.Get(FieldRecord)
		if !ok {
			events = append(events, l.event())
			continue
		}
		r := Record{Content: content, Offset: next, Time: l.Time}
		if v, ok := l.Get(TagOffset); ok {
			if r.Offset, err = strconv.ParseInt(string(v), 10, 64); err != nil {
				return nil, nil, fmt.Errorf("%w: %s is no number", ErrPayload, TagOffset)
			}
		}
		if v, ok := l.Get(FieldSource); ok {
			r.Source = string(v)
		}
		if v, ok := l.Get(FieldPart); ok {
			p, err := ParsePart(string(v))
			if err != nil {
				return nil, nil, err
			}
			r.Part = &p
		}
		next = r.Offset + int64(len(content)) + 1
		records = append(records, r)
	}
	return records, events, nil
}

func (l *Log) event() Event {
	e := Event{Time: time.Unix(0, l.Time)}
	for _, f := range l.Fields {
		if f.Key == FieldEvent {
			e.Name = string(f.Value)
			continue
		}
		e.Fields = append(e.Fields, Tag{f.Key, string(f.Value)})
	}
	return e
}

// ParsePart is the inverse of [Part.String].
func ParsePart(s string) (p Part, err error) {
	id, index, ok := strings.Cut(s, ".")
	index, p.Last = strings.CutSuffix(index, "$")
	n, err := strconv.ParseUint(index, 10, 32)
	if err == nil {
		p.ID, err = strconv.ParseUint(id, 16, 64)
	}
	p.Index = uint32(n)
	if !ok || err != nil || p.String() != s {
		return Part{}, fmt.Errorf("%w: %s %q", ErrPayload, FieldPart, s)
	}
	return p, nil
}
