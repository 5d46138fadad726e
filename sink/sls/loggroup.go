package sls

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/bits"
	"strconv"
)

// An item is one envelope or stub with what is shipped beside it.
type item struct {
	Carrier
	version string
	why     string
	sealed  []byte
}

// The encoding is https://github.com/aliyun/aliyun-log-go-sdk/blob/master/log.proto:
//
//	LogGroup:   1 Log …, 3 topic, 4 source
//	Log:        1 time, 2 LogContent …
//	LogContent: 1 key, 2 value
const (
	tagLogs    = 1<<3 | 2
	tagTopic   = 3<<3 | 2
	tagSource  = 4<<3 | 2
	tagTime    = 1 << 3
	tagContent = 2<<3 | 2
	tagKey     = 1<<3 | 2
	tagValue   = 2<<3 | 2
)

const keyEnvelope = "_env"

// fields calls f for each content of the Log but the sealed bytes.
func (it *item) fields(f func(key, value string)) {
	f("_v", it.version)
	f("_sid", hex.EncodeToString(it.StreamID[:]))
	f("_ep", strconv.FormatUint(it.Epoch, 10))
	f("_seq", strconv.FormatUint(it.Seq, 10))
	f("_dek", hex.EncodeToString(it.DEKID[:]))
	f("_t0", strconv.FormatInt(it.First, 10))
	f("_t1", strconv.FormatInt(it.Last, 10))
	if it.version == versionStub {
		f("_why", it.why)
	}
}

// size returns the length of the Log, without its tag and length.
func (it *item) size(now uint32) int {
	n := 1 + uvarintLen(uint64(now))
	it.fields(func(key, value string) { n += field(content(len(key), len(value))) })
	return n + field(content(len(keyEnvelope), base64.StdEncoding.EncodedLen(len(it.sealed))))
}

// content is the length of a LogContent, without its tag and length.
func content(key, value int) int { return field(key) + field(value) }

// field is the length of a field of n bytes, whose number is below 16.
func field(n int) int { return 1 + uvarintLen(uint64(n)) + n }

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// A logGroup is what goes in one request.
type logGroup struct {
	items         []item
	now           uint32 // ship time, unix s
	topic, source string
}

// size returns the length of the encoding.
func (g *logGroup) size() int {
	n := field(len(g.topic)) + field(len(g.source))
	for i := range g.items {
		n += field(g.items[i].size(g.now))
	}
	return n
}

// write writes the encoding to w, which takes all.
func (g *logGroup) write(w io.Writer) {
	var b []byte
	for i := range g.items {
		it := &g.items[i]
		b = appendHead(b[:0], tagLogs, it.size(g.now))
		b = append(b, tagTime)
		b = binary.AppendUvarint(b, uint64(g.now))
		it.fields(func(key, value string) {
			b = appendHead(b, tagContent, content(len(key), len(value)))
			b = appendString(b, tagKey, key)
			b = appendString(b, tagValue, value)
		})
		n := base64.StdEncoding.EncodedLen(len(it.sealed))
		b = appendHead(b, tagContent, content(len(keyEnvelope), n))
		b = appendString(b, tagKey, keyEnvelope)
		b = appendHead(b, tagValue, n)
		w.Write(b)
		for rest := it.sealed; len(rest) > 0; {
			n := min(len(rest), 12<<10) // divides by 3: what is joined needs no padding within
			b = base64.StdEncoding.AppendEncode(b[:0], rest[:n])
			w.Write(b)
			rest = rest[n:]
		}
	}
	b = appendString(b[:0], tagTopic, g.topic)
	w.Write(appendString(b, tagSource, g.source))
}

func appendHead(b []byte, tag byte, n int) []byte {
	return binary.AppendUvarint(append(b, tag), uint64(n))
}

func appendString(b []byte, tag byte, s string) []byte {
	return append(appendHead(b, tag, len(s)), s...)
}
