package tail

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// newUnwrapper returns what reads lines of a format; nil for plain lines.
func newUnwrapper(format string) (unwrapper, error) {
	switch format {
	case "", "lines":
		return nil, nil
	case "cri":
		return cri{}, nil
	case "docker":
		return docker{}, nil
	}
	return nil, fmt.Errorf("format %q: there are lines, cri and docker", format)
}

var (
	stdout = []byte("stdout")
	stderr = []byte("stderr")
)

// sourceOf returns the name of a source stream, "" if it is none.
func sourceOf(b []byte) string {
	switch {
	case bytes.Equal(b, stdout):
		return "stdout"
	case bytes.Equal(b, stderr):
		return "stderr"
	}
	return ""
}

// A cri reads lines of a Kubernetes container runtime:
//
//	RFC3339Nano ' ' stdout|stderr ' ' P|F [':' tag]* [' ' text]
//
// P is a piece that others of its source stream follow, F the last or only one.
type cri struct{}

func (cri) unwrap(b, _ []byte) (p piece, ok bool) {
	if p.time, b, ok = cutTime(b); !ok || len(b) == 0 || b[0] != ' ' {
		return p, false
	}
	i := bytes.IndexByte(b[1:], ' ')
	if i < 0 {
		return p, false
	}
	if p.source = sourceOf(b[1 : 1+i]); p.source == "" {
		return p, false
	}
	tags, text, spaced := bytes.Cut(b[i+2:], space)
	if len(tags) == 0 || len(tags) > 1 && tags[1] != ':' {
		return p, false
	}
	if p.text = text; !spaced {
		p.text = tags[len(tags):]
	}
	p.last = tags[0] == 'F'
	return p, p.last || tags[0] == 'P'
}

var space = []byte{' '}

// A docker reads lines of Docker's json-file driver:
//
//	{"log":"text\n","stream":"stdout","time":"RFC3339Nano"}
//
// A log without a line feed at its end is a piece that others follow.
type docker struct{}

func (docker) unwrap(b, room []byte) (p piece, ok bool) {
	if p, ok = dockerLine(b, room); ok {
		return p, true
	}
	// Not as Docker itself writes it: keys in another order, attributes.
	var l struct {
		Log    string `json:"log"`
		Stream string `json:"stream"`
		Time   string `json:"time"`
	}
	if json.Unmarshal(b, &l) != nil {
		return p, false
	}
	t, rest, ok := cutTime([]byte(l.Time))
	text, last := bytes.CutSuffix(append(room, l.Log...), lf)
	p = piece{source: sourceOf([]byte(l.Stream)), time: t, text: text, copied: true, last: last}
	return p, ok && len(rest) == 0 && p.source != ""
}

var (
	dockerLog    = []byte(`{"log":"`)
	dockerStream = []byte(`,"stream":"`)
	dockerTime   = []byte(`,"time":"`)
	dockerEnd    = []byte(`"}`)
)

// dockerLine reads a line in the form that Docker writes.
func dockerLine(b, room []byte) (p piece, ok bool) {
	b, ok = bytes.CutPrefix(b, dockerLog)
	if !ok {
		return p, false
	}
	// Of most texts the one escape is the line feed at the end.
	i := bytes.IndexByte(b, '"')
	if i >= 2 && bytes.IndexByte(b[:i], '\\') == i-2 && b[i-1] == 'n' && control(b[:i-2]) {
		p.text, p.last, b = b[:i-2:i-2], true, b[i+1:]
	} else {
		if p.text, b, ok = unquote(b, room); !ok {
			return p, false
		}
		p.text, p.last = bytes.CutSuffix(p.text, lf)
		p.copied = true
	}
	if b, ok = bytes.CutPrefix(b, dockerStream); !ok || len(b) < len(stdout) {
		return p, false
	}
	p.source, b = sourceOf(b[:len(stdout)]), b[len(stdout):]
	if p.source == "" || len(b) == 0 || b[0] != '"' {
		return p, false
	}
	if b, ok = bytes.CutPrefix(b[1:], dockerTime); !ok {
		return p, false
	}
	p.time, b, ok = cutTime(b)
	return p, ok && bytes.Equal(b, dockerEnd)
}

// unquote appends to room what a JSON string says, from behind its opening
// quote, and returns what lies behind its closing one.
func unquote(b, room []byte) (text, rest []byte, ok bool) {
	text = room
	for len(b) > 0 {
		i := 0
		for i < len(b) && b[i] != '"' && b[i] != '\\' {
			i++
		}
		if i == len(b) || !control(b[:i]) {
			return nil, nil, false
		}
		text = append(text, b[:i]...)
		if b[i] == '"' {
			return text, b[i+1:], true
		}
		if b = b[i+1:]; len(b) == 0 {
			break
		}
		switch c := b[0]; c {
		case 'n':
			text = append(text, '\n')
		case 't':
			text = append(text, '\t')
		case 'r':
			text = append(text, '\r')
		case 'b':
			text = append(text, '\b')
		case 'f':
			text = append(text, '\f')
		case '"', '\\', '/':
			text = append(text, c)
		case 'u':
			r, n := escaped(b[1:])
			if n == 0 {
				return nil, nil, false
			}
			text = utf8.AppendRune(text, r)
			b = b[n:]
		default:
			return nil, nil, false
		}
		b = b[1:]
	}
	return nil, nil, false
}

// control reports whether b is free of what JSON wants escaped.
func control(b []byte) bool {
	for _, c := range b {
		if c < ' ' {
			return false
		}
	}
	return true
}

// escaped reads the digits behind \u, and a second such escape where the two
// are one character; n is what it read, 0 = no such digits.
func escaped(b []byte) (r rune, n int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		if len(b) >= 10 && b[4] == '\\' && b[5] == 'u' {
			if low, ok := hex4(b[6:]); ok {
				if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
					return both, 10
				}
			}
		}
		return utf8.RuneError, 4
	}
	return r, 4
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// cutTime reads an RFC 3339 time at the beginning of b: unix ns, of the years
// 1970 to 2261.
func cutTime(b []byte) (ns int64, rest []byte, ok bool) {
	const form = "2006-01-02T15:04:05"
	if len(b) <= len(form) {
		return 0, nil, false
	}
	num := func(from, to int) (n int) {
		for _, c := range b[from:to] {
			if c < '0' || c > '9' {
				ok = false
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	ok = b[4] == '-' && b[7] == '-' && b[10] == 'T' && b[13] == ':' && b[16] == ':'
	y, m, d := num(0, 4), num(5, 7), num(8, 10)
	h, min, s := num(11, 13), num(14, 16), num(17, 19)
	ok = ok && y >= 1970 && y <= 2261 && m >= 1 && m <= 12 && d >= 1 && d <= daysIn(y, m) && h < 24 && min < 60 && s < 60
	if !ok {
		return 0, nil, false
	}
	ns = (days(y, m, d)*86400 + int64(h*3600+min*60+s)) * int64(time.Second)
	b = b[len(form):]
	if b[0] == '.' {
		unit, i := int64(time.Second), 1
		for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
			unit /= 10
			ns += unit * int64(b[i]-'0')
		}
		if b = b[i:]; i == 1 {
			return 0, nil, false
		}
	}
	switch {
	case len(b) > 0 && b[0] == 'Z':
		b = b[1:]
	case len(b) >= 6 && (b[0] == '+' || b[0] == '-') && b[3] == ':':
		off := int64(num(1, 3)*3600+num(4, 6)*60) * int64(time.Second)
		if b[0] == '+' {
			off = -off
		}
		ns += off
		b = b[6:]
	default:
		return 0, nil, false
	}
	return ns, b, ok && ns > 0
}

// days since 1970-01-01, by a year that begins in March.
func days(y, m, d int) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	return int64(365*y + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + d - 719469)
}

func daysIn(y, m int) int {
	switch m {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
