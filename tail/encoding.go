package tail

import (
	"bytes"
	"fmt"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Encodings as a position has them.
const (
	encodingBytes   uint8 = 0 // as they are
	encodingGB18030 uint8 = 1
	encodingGBK     uint8 = 2
	encodingUTF16LE uint8 = 3
	encodingUTF16BE uint8 = 4
)

// A converter makes UTF-8 of one encoding. The nil converter leaves bytes as
// they are.
type converter struct {
	unit        int // bytes of the smallest character
	lf          []byte
	bom         []byte // byte order mark
	replacement []byte // what means U+FFFD
	decoder     transform.Transformer
}

// converters returns those of an option, by the encoding that a position has;
// nil for utf-8. With bom set the file's first bytes say which it is.
func converters(name string) (by map[uint8]*converter, bom bool, err error) {
	le := &converter{2, []byte{'\n', 0}, []byte{0xff, 0xfe}, []byte{0xfd, 0xff},
		unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder()}
	be := &converter{2, []byte{0, '\n'}, []byte{0xfe, 0xff}, []byte{0xff, 0xfd},
		unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder()}
	switch name {
	case "", "utf-8":
		return nil, false, nil
	case "gb18030":
		return map[uint8]*converter{encodingGB18030: {1, []byte{'\n'}, []byte{0x84, 0x31, 0x95, 0x33}, []byte{0x84, 0x31, 0xa4, 0x37},
			simplifiedchinese.GB18030.NewDecoder()}}, false, nil
	case "gbk":
		return map[uint8]*converter{encodingGBK: {1, []byte{'\n'}, nil, nil, simplifiedchinese.GBK.NewDecoder()}}, false, nil
	case "utf-16le":
		return map[uint8]*converter{encodingUTF16LE: le}, false, nil
	case "utf-16be":
		return map[uint8]*converter{encodingUTF16BE: be}, false, nil
	case "utf-16":
		return map[uint8]*converter{encodingUTF16LE: le, encodingUTF16BE: be}, true, nil
	}
	return nil, false, fmt.Errorf("encoding %q: there are utf-8, gb18030, gbk, utf-16le, utf-16be and utf-16", name)
}

// converter returns what reads f. Which of two byte orders it has is found out
// once and kept in its position; without a mark it is the little one.
func (t *Tailer) converter(f *file) *converter {
	p := &f.pos
	if c := t.convs[p.Encoding]; c != nil || t.convs == nil {
		return c
	}
	if !t.byMark {
		for p.Encoding = range t.convs {
			return t.convs[p.Encoding]
		}
	}
	var b [2]byte
	n, err := t.fetch(f, b[:], 0)
	e := encodingUTF16LE
	if bytes.Equal(b[:n], t.convs[encodingUTF16BE].bom) {
		e = encodingUTF16BE
	}
	if err == nil && n == len(b) {
		p.Encoding = e
	}
	return t.convs[e]
}

// mark is the length of the byte order mark that b, at offset at, begins with.
func (c *converter) mark(b []byte, at int64) int {
	if c == nil || at > 0 || len(c.bom) == 0 || !bytes.HasPrefix(b, c.bom) {
		return 0
	}
	return len(c.bom)
}

// lineFeed returns where the first one in b is, -1 if there is none.
func (c *converter) lineFeed(b []byte) int {
	if c == nil || c.unit == 1 {
		return bytes.IndexByte(b, '\n')
	}
	for i := 0; ; i++ {
		k := bytes.Index(b[i:], c.lf)
		if k < 0 {
			return -1
		}
		if i += k; i%c.unit == 0 {
			return i
		}
	}
}

// lines is the length of the whole lines that b begins with.
func (c *converter) lines(b []byte) int {
	if c == nil || c.unit == 1 {
		return bytes.LastIndexByte(b, '\n') + 1
	}
	for n := len(b); ; {
		i := bytes.LastIndex(b[:n], c.lf)
		switch {
		case i < 0:
			return 0
		case i%c.unit == 0:
			return i + c.unit
		}
		n = i + len(c.lf) - 1
	}
}

// convert appends to dst the UTF-8 of the beginning of b, at most max bytes of
// it, and returns it with the length that it took of b. Where last is not set
// more of the line comes behind b, and a character that b does not finish is
// left. What is no text of the encoding is returned as it is, and not copied,
// as is what is the same in both.
func (c *converter) convert(dst, b []byte, max int, last bool) (text []byte, n int, copied bool) {
	if c.unit == 1 && ascii(b) {
		return b[:min(len(b), max)], min(len(b), max), false
	}
	if most := min(max, 3*len(b)); cap(dst)-len(dst) < most {
		dst = make([]byte, 0, most+most/4)
	}
	room := dst[len(dst):cap(dst)]
	room = room[:min(len(room), max)]
	c.decoder.Reset()
	m, n, _ := c.decoder.Transform(room, b, last)
	if bad := bytes.Count(room[:m], []byte("\uFFFD")); bad > 0 && bad != c.replaced(b[:n]) {
		return b[:n:n], n, false
	}
	return room[:m], n, true
}

// replaced counts the characters U+FFFD in b.
func (c *converter) replaced(b []byte) (n int) {
	if len(c.replacement) == 0 {
		return 0
	}
	for {
		i := bytes.Index(b, c.replacement)
		if i < 0 {
			return n
		}
		if i%c.unit == 0 {
			n++
			b = b[i+len(c.replacement):]
			continue
		}
		b = b[i+1:]
		if len(b) > 0 {
			b = b[1:] // the other half of the unit
		}
	}
}

func ascii(b []byte) bool {
	for len(b) >= 8 {
		if (uint64(b[0])|uint64(b[1])|uint64(b[2])|uint64(b[3])|uint64(b[4])|uint64(b[5])|uint64(b[6])|uint64(b[7]))&0x80 != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
