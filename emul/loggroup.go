package emul

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Limits of a LogGroup. Where the documents say 1 MB, the lesser is meant.
const (
	maxValue  = 1_000_000 // bytes of a value
	maxKey    = 128       // bytes of a key
	maxTopic  = 128       // bytes of a topic and of a source
	maxAge    = 7 * 24 * time.Hour
	maxFuture = 15 * time.Minute
)

// A logGroup is the protobuf message of that name; its strings share memory
// with what was parsed.
//
//	LogGroup{1: Log{1: time, 2: Content{1: key, 2: value}…, 4: fixed32 ns}…,
//	         3: topic, 4: source, 6: Tag{1: key, 2: value}…}
type logGroup struct {
	logs          []logEntry
	topic, source []byte
	tags          []pair
}

type logEntry struct {
	time     uint32
	contents []pair
}

type pair struct{ key, value []byte }

var errProto = errors.New("not a message of this kind")

// fields calls f with each field of a message: its number, wire type, value of
// varint and fixed kinds, bytes of the length-delimited kind.
func fields(b []byte, f func(num, wire int, v uint64, data []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return errProto
		}
		b = b[n:]
		var v uint64
		var data []byte
		switch tag & 7 {
		case 0:
			if v, n = binary.Uvarint(b); n <= 0 {
				return errProto
			}
		case 1:
			if n = 8; len(b) < n {
				return errProto
			}
			v = binary.LittleEndian.Uint64(b)
		case 2:
			size, m := binary.Uvarint(b)
			if m <= 0 || size > uint64(len(b)-m) {
				return errProto
			}
			n = m + int(size)
			data = b[m:n]
		case 5:
			if n = 4; len(b) < n {
				return errProto
			}
			v = uint64(binary.LittleEndian.Uint32(b))
		default:
			return errProto
		}
		if err := f(int(tag>>3), int(tag&7), v, data); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// parseLogGroup decodes a LogGroup. A field that is required must be there,
// one that is known must be of its type; unknown ones are passed over.
func parseLogGroup(b []byte) (*logGroup, error) {
	g := &logGroup{}
	err := fields(b, func(num, wire int, _ uint64, data []byte) error {
		if num > 6 {
			return nil
		}
		if wire != 2 {
			return errProto
		}
		var err error
		switch num {
		case 1:
			var l logEntry
			l, err = parseLog(data)
			g.logs = append(g.logs, l)
		case 3:
			g.topic = data
		case 4:
			g.source = data
		case 6:
			var t pair
			t, err = parsePair(data)
			g.tags = append(g.tags, t)
		}
		return err
	})
	return g, err
}

func parseLog(b []byte) (l logEntry, err error) {
	timed := false
	err = fields(b, func(num, wire int, v uint64, data []byte) error {
		switch {
		case num == 1 && wire == 0:
			l.time, timed = uint32(v), true
		case num == 2 && wire == 2:
			p, err := parsePair(data)
			l.contents = append(l.contents, p)
			return err
		case num == 1 || num == 2 || num == 4 && wire != 5:
			return errProto
		}
		return nil
	})
	if err == nil && !timed {
		err = errProto
	}
	return l, err
}

func parsePair(b []byte) (p pair, err error) {
	err = fields(b, func(num, wire int, _ uint64, data []byte) error {
		if num <= 2 && wire != 2 {
			return errProto
		}
		switch num {
		case 1:
			p.key = data
		case 2:
			p.value = data
		}
		return nil
	})
	if err == nil && (p.key == nil || p.value == nil) {
		err = errProto
	}
	return p, err
}

// check returns the error of a LogGroup that breaks a limit.
func (g *logGroup) check(now time.Time) error {
	for _, name := range [][]byte{g.topic, g.source} {
		if len(name) > maxTopic {
			return slsError("ParameterInvalid", "topic or source is longer than %d bytes.", maxTopic)
		}
		if !utf8.Valid(name) {
			return slsError("InvalidEncoding", "")
		}
	}
	earliest, latest := now.Add(-maxAge).Unix(), now.Add(maxFuture).Unix()
	for _, l := range g.logs {
		if t := int64(l.time); t < earliest || t > latest {
			return slsError("PostBodyInvalid", "The post data time is out of range: %d", t)
		}
		if err := checkPairs(l.contents); err != nil {
			return err
		}
	}
	return checkPairs(g.tags)
}

func checkPairs(pairs []pair) error {
	for _, p := range pairs {
		switch {
		case len(p.key) == 0 || len(p.key) > maxKey:
			return slsError("InvalidKey", "A key has %d bytes, not 1 to %d.", len(p.key), maxKey)
		case len(p.value) > maxValue:
			return slsError("PostBodyInvalid", "The value of %q has %d bytes, above %d.", fmt.Sprintf("%.32s", p.key), len(p.value), maxValue)
		case !utf8.Valid(p.key) || !utf8.Valid(p.value):
			return slsError("InvalidEncoding", "")
		}
	}
	return nil
}

// appendGroup appends a LogGroup as a member of a LogGroupList.
func appendGroup(list, group []byte) []byte {
	list = append(list, 1<<3|2)
	list = binary.AppendUvarint(list, uint64(len(group)))
	return append(list, group...)
}
