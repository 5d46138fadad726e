package sls

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
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

// appendGroup appends the LogGroup of items to b.
func appendGroup(b []byte, items []item, now uint32, topic, source string) []byte {
	for i := range items {
		it := &items[i]
		b = appendHead(b, tagLogs, it.size(now))
		b = append(b, tagTime)
		b = binary.AppendUvarint(b, uint64(now))
		it.fields(func(key, value string) {
			b = appendHead(b, tagContent, content(len(key), len(value)))
			b = appendString(b, tagKey, key)
			b = appendString(b, tagValue, value)
		})
		n := base64.StdEncoding.EncodedLen(len(it.sealed))
		b = appendHead(b, tagContent, content(len(keyEnvelope), n))
		b = appendString(b, tagKey, keyEnvelope)
		b = appendHead(b, tagValue, n)
		b = base64.StdEncoding.AppendEncode(b, it.sealed)
	}
	b = appendString(b, tagTopic, topic)
	return appendString(b, tagSource, source)
}

func appendHead(b []byte, tag byte, n int) []byte {
	return binary.AppendUvarint(append(b, tag), uint64(n))
}

func appendString(b []byte, tag byte, s string) []byte {
	return append(appendHead(b, tag, len(s)), s...)
}
