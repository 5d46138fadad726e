package seal

import (
	"encoding/binary"
	"maps"
	"slices"
	"unicode/utf8"
)

// A Context says in clear where envelopes belong: for SLS "project" and
// "logstore". Key services get it too, as what a data key is bound to. It is
// the same for all envelopes under one data key.
//
// Its one encoding is
//
//	u16 count, then per pair, sorted by key: u16 length ‖ key ‖ u16 length ‖ value
//
// in UTF-8, and holds "fmt" = "SE1".
type Context map[string]string

const (
	contextFormatKey = "fmt"
	contextFormat    = "SE1"
	maxContext       = maxHeader - fixedHeader
)

// EncodeContext returns the encoding of c, to which it adds "fmt" = "SE1".
func EncodeContext(c Context) ([]byte, error) {
	c = maps.Clone(c)
	if c == nil {
		c = Context{}
	}
	if f, ok := c[contextFormatKey]; ok && f != contextFormat {
		return nil, malformed("context of format %q", f)
	}
	c[contextFormatKey] = contextFormat
	b := binary.BigEndian.AppendUint16(nil, uint16(len(c)))
	for _, k := range slices.Sorted(maps.Keys(c)) {
		for _, s := range []string{k, c[k]} {
			if !utf8.ValidString(s) {
				return nil, malformed("context is not UTF-8")
			}
			if len(s) > maxContext {
				return nil, malformed("context too long")
			}
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
		}
	}
	if len(b) > maxContext {
		return nil, malformed("context too long")
	}
	return b, nil
}

// ParseContext is the inverse of [EncodeContext].
func ParseContext(b []byte) (Context, error) {
	if len(b) < 2 || len(b) > maxContext {
		return nil, malformed("context of %d bytes", len(b))
	}
	n, b := int(binary.BigEndian.Uint16(b)), b[2:]
	if n > len(b)/4 {
		return nil, malformed("context shorter than its pairs")
	}
	c := make(Context, n)
	last := ""
	for i := range n {
		k, rest, ok := cutBytes16(b)
		if !ok {
			return nil, malformed("context shorter than its pairs")
		}
		v, rest, ok := cutBytes16(rest)
		if !ok {
			return nil, malformed("context shorter than its pairs")
		}
		if !utf8.Valid(k) || !utf8.Valid(v) {
			return nil, malformed("context is not UTF-8")
		}
		if i > 0 && string(k) <= last {
			return nil, malformed("context not sorted")
		}
		last, b = string(k), rest
		c[last] = string(v)
	}
	if len(b) != 0 {
		return nil, malformed("context longer than its pairs")
	}
	if c[contextFormatKey] != contextFormat {
		return nil, malformed("context of format %q", c[contextFormatKey])
	}
	return c, nil
}
