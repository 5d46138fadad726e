package conf

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// locate returns the line of every key and table of a TOML text that has been
// parsed already (the toml package keeps positions to itself). The keys of the
// map are paths as made by join and index. On a text that is not valid it
// returns nonsense, but it returns.
func locate(text string) map[string]int {
	l := &locator{s: text, line: 1, lines: make(map[string]int), tables: make(map[string]int)}
	prefix := ""
	for {
		l.space(true)
		switch {
		case l.i >= len(l.s):
			return l.lines
		case l.eat("[["):
			line := l.line
			p := l.resolve(l.key())
			n := l.tables[p]
			l.tables[p] = n + 1
			prefix = index(p, n)
			l.mark(prefix, line)
			l.eat("]]")
		case l.eat("["):
			line := l.line
			prefix = l.resolve(l.key())
			l.mark(prefix, line)
			l.eat("]")
		default:
			l.pair(prefix)
		}
	}
}

// join appends a key to a path.
func join(path, key string) string {
	key = toml.Key{key}.String()
	if path == "" {
		return key
	}
	return path + "." + key
}

// index appends the index of an array's element to a path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// maxDepth of keys and arrays is beyond that of any configuration; what lies
// deeper is found on the line around it.
const maxDepth = 16

type locator struct {
	s      string
	i      int // next byte
	line   int
	lines  map[string]int
	tables map[string]int // path of an array of tables → elements so far
}

func (l *locator) mark(path string, line int) {
	if _, ok := l.lines[path]; !ok {
		l.lines[path] = line
	}
}

// resolve makes a path of a table's name: an array of tables on the way means
// its last element.
func (l *locator) resolve(key []string) string {
	path := ""
	for i, k := range key[:min(len(key), maxDepth)] {
		path = join(path, k)
		if n := l.tables[path]; n > 0 && i < len(key)-1 {
			path = index(path, n-1)
		}
	}
	return path
}

func (l *locator) eat(s string) bool {
	if !strings.HasPrefix(l.s[l.i:], s) {
		return false
	}
	l.i += len(s)
	l.line += strings.Count(s, "\n")
	return true
}

// space skips blanks, and with lines also comments and ends of lines.
func (l *locator) space(lines bool) {
	for l.i < len(l.s) {
		switch c := l.s[l.i]; {
		case c == ' ' || c == '\t':
		case lines && (c == '\n' || c == '\r'):
			if c == '\n' {
				l.line++
			}
		case lines && c == '#':
			for l.i < len(l.s) && l.s[l.i] != '\n' {
				l.i++
			}
			continue
		default:
			return
		}
		l.i++
	}
}

// pair reads key = value.
func (l *locator) pair(prefix string) {
	line, path, start := l.line, prefix, l.i
	key := l.key()
	for _, k := range key[:min(len(key), maxDepth)] {
		path = join(path, k)
		l.mark(path, line)
	}
	l.space(false)
	l.eat("=")
	l.value(path)
	if l.i == start {
		l.i++
	}
}

// key reads a dotted key.
func (l *locator) key() (key []string) {
	for {
		l.space(false)
		start := l.i
		switch {
		case l.i < len(l.s) && (l.s[l.i] == '"' || l.s[l.i] == '\''):
			key = append(key, l.str())
		default:
			for l.i < len(l.s) && bare(l.s[l.i]) {
				l.i++
			}
			key = append(key, l.s[start:l.i])
		}
		l.space(false)
		if !l.eat(".") {
			return key
		}
	}
}

func bare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c >= 0x80
}

// str skips a string and returns what it says, as far as keys need it.
func (l *locator) str() string {
	quote := l.s[l.i : l.i+1]
	if l.eat(quote + quote + quote) {
		quote = quote + quote + quote
	} else {
		l.eat(quote)
	}
	start := l.i
	for l.i < len(l.s) {
		switch {
		case quote[0] == '"' && l.s[l.i] == '\\' && l.i+1 < len(l.s):
			if l.s[l.i+1] == '\n' {
				l.line++
			}
			l.i += 2
			continue
		case strings.HasPrefix(l.s[l.i:], quote):
			inner := l.s[start:l.i]
			l.i += len(quote)
			// Up to two more quotes belong to a multi-line string's end.
			for len(quote) == 3 && l.i < len(l.s) && l.s[l.i] == quote[0] {
				l.i++
			}
			if quote == `"` {
				if s, err := strconv.Unquote(`"` + inner + `"`); err == nil {
					return s
				}
			}
			return inner
		case l.s[l.i] == '\n':
			l.line++
		}
		l.i++
	}
	return l.s[start:]
}

// value skips a value and marks what is inside of it.
func (l *locator) value(path string) {
	l.space(false)
	if l.i >= len(l.s) {
		return
	}
	switch {
	case l.s[l.i] == '"' || l.s[l.i] == '\'':
		l.str()
	case l.eat("["):
		for n := 0; ; n++ {
			l.space(true)
			if l.i >= len(l.s) || l.eat("]") {
				return
			}
			start, inner := l.i, path
			if strings.Count(path, "[") < maxDepth {
				inner = index(path, n)
				l.mark(inner, l.line)
			}
			l.value(inner)
			l.space(true)
			l.eat(",")
			if l.i == start {
				l.i++
			}
		}
	case l.eat("{"):
		for {
			l.space(true)
			if l.i >= len(l.s) || l.eat("}") {
				return
			}
			l.pair(path)
			l.space(true)
			l.eat(",")
		}
	default:
		for l.i < len(l.s) && !strings.ContainsRune(",]}#\n", rune(l.s[l.i])) {
			l.i++
		}
	}
}
