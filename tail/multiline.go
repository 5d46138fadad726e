package tail

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A Multiline says which lines belong to one record. Exactly one of the first
// four is set.
type Multiline struct {
	Preset       string // "java", "python", "go" or "node": stack traces join what they follow
	Start        string // RE2 that a record's first line matches
	Continuation string // RE2 that all but a record's first line match
	End          string // RE2 that a record's last line matches

	MaxAge   time.Duration // how long after its last line a record is waited for; default 5 s
	MaxBytes int           // content bytes after which a record ends; default and most Options.MaxRecord
}

// States of a preset: what the lines of the record so far were.
const (
	noState uint8 = iota
	plain
	traceback // inside of a trace
	raised    // python: the exception's own line
	between   // python: the empty line after it
	chained   // python: "During handling …"
	sourced   // node: the file and line that an uncaught error begins with
	quoted    // node: the code
	marked    // node: the ^ below it
)

// A multiline decides where records begin and end. It is asked about each line
// of a source stream.
type multiline struct {
	Multiline
	start, continuation, end *regexp.Regexp
	preset                   func(state uint8, line []byte) (begins bool, next uint8)
}

// newMultiline checks m, whose zero value means none.
func newMultiline(m Multiline, max int) (*multiline, error) {
	if m == (Multiline{}) {
		return nil, nil
	}
	m.MaxAge, m.MaxBytes = or(m.MaxAge, 5*time.Second), or(m.MaxBytes, max)
	x := &multiline{Multiline: m}
	var errs []error
	n := 0
	for _, p := range []struct {
		name, text string
		to         **regexp.Regexp
	}{{"start", m.Start, &x.start}, {"continuation", m.Continuation, &x.continuation}, {"end", m.End, &x.end}} {
		if p.text == "" {
			continue
		}
		n++
		re, err := regexp.Compile(p.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("multiline %s: %w", p.name, err))
		}
		*p.to = re
	}
	if m.Preset != "" {
		n++
		if x.preset = presets[m.Preset]; x.preset == nil {
			errs = append(errs, fmt.Errorf("multiline preset %q: there are go, java, node and python", m.Preset))
		}
	}
	if n != 1 {
		errs = append(errs, errors.New("multiline: set one of preset, start, continuation and end"))
	}
	if m.MaxAge < 0 || m.MaxBytes < 1 || m.MaxBytes > max {
		errs = append(errs, fmt.Errorf("multiline: max age negative, or max bytes not within 1 and %d", max))
	}
	return x, errors.Join(errs...)
}

// begins reports whether line begins a new record behind one in that state.
func (m *multiline) begins(state uint8, line []byte) bool {
	switch {
	case m.preset != nil:
		begins, _ := m.preset(state, line)
		return begins
	case m.start != nil:
		return m.start.Match(line)
	case m.continuation != nil:
		return !m.continuation.Match(line)
	}
	return false
}

// next is the state behind line, which goes on a record in that state if one
// is open.
func (m *multiline) next(open bool, state uint8, line []byte) uint8 {
	if m.preset == nil {
		return plain
	}
	if !open {
		state = noState
	}
	_, state = m.preset(state, line)
	return state
}

// ends reports whether line ends its record whatever follows.
func (m *multiline) ends(line []byte) bool { return m.end != nil && m.end.Match(line) }

var presets = map[string]func(uint8, []byte) (bool, uint8){
	"java": java, "python": python, "go": golang, "node": node,
}

func indented(l []byte) bool { return len(l) > 0 && (l[0] == ' ' || l[0] == '\t') }

func has(l []byte, prefixes ...string) bool {
	for _, p := range prefixes {
		if len(l) >= len(p) && string(l[:len(p)]) == p {
			return true
		}
	}
	return false
}

// java joins indented lines, causes, and the exception's own line, as loggers
// print it below the message.
func java(_ uint8, l []byte) (bool, uint8) {
	return !indented(l) && !has(l, "Caused by: ", "Suppressed: ") && !isThrowable(l), plain
}

// isThrowable reports whether a line begins with a qualified class name that
// ends as those of exceptions do.
func isThrowable(l []byte) bool {
	name := l
	if i := bytes.IndexByte(l, ':'); i >= 0 {
		name = l[:i]
	}
	if !bytes.HasSuffix(name, []byte("Exception")) && !bytes.HasSuffix(name, []byte("Error")) && !bytes.HasSuffix(name, []byte("Throwable")) {
		return false
	}
	dots := 0
	for i, c := range name {
		switch {
		case c == '.' && i > 0:
			dots++
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '$', c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return dots > 0
}

// python joins tracebacks with the exception's line and those that caused it,
// and indented lines.
func python(state uint8, l []byte) (bool, uint8) {
	switch {
	case has(l, "Traceback (most recent call last):"):
		return false, traceback
	case indented(l):
		return false, max(state, plain)
	case state == traceback && len(l) > 0:
		return false, raised
	case state == raised && len(l) == 0:
		return false, between
	case state == between && has(l, "During handling of the above exception", "The above exception was the direct cause"):
		return false, chained
	case state == chained && len(l) == 0:
		return false, chained
	}
	return true, plain
}

// golang joins goroutines to the panic, or to the message that a stack is
// printed for, and indented lines.
func golang(state uint8, l []byte) (bool, uint8) {
	switch {
	case state != traceback && has(l, "panic: ", "fatal error: ", "SIGQUIT: ", "SIGABRT: ", "unexpected fault address "):
		return true, traceback
	case isGoroutine(l):
		return false, traceback
	case indented(l):
		return false, max(state, plain)
	case state == traceback && (len(l) == 0 || isFrame(l) ||
		has(l, "panic: ", "[signal ", "created by ", "exit status ", "runtime stack:", "runtime: ", "fatal error: ", "PC=", "...")):
		return false, traceback
	}
	return true, plain
}

// isGoroutine reports whether a line is "goroutine N [state]:".
func isGoroutine(l []byte) bool {
	rest, ok := bytes.CutPrefix(l, []byte("goroutine "))
	return ok && len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' && bytes.HasSuffix(rest, []byte("]:"))
}

// isFrame reports whether a line is a call, such as main.(*T).f(0x1, …), or a
// register, such as rax 0x0.
func isFrame(l []byte) bool {
	if l[len(l)-1] == ')' {
		if i := bytes.IndexByte(l, '('); i > 0 {
			return bytes.IndexByte(l[:i], ' ') < 0 && bytes.IndexByte(l[:i], '.') > 0
		}
	}
	f := bytes.Fields(l)
	return len(f) == 2 && len(f[0]) <= 6 && has(f[1], "0x")
}

// node joins indented lines and what closes them, and the source line, mark and
// version around an error that nobody caught.
func node(state uint8, l []byte) (bool, uint8) {
	switch {
	case state == sourced:
		return false, quoted
	case state == quoted && len(bytes.Trim(l, " ^")) == 0 && len(l) > 0:
		return false, marked
	case indented(l):
		return false, max(state, plain)
	case state == marked && len(l) == 0:
		return false, marked
	case state == marked && !has(l, "Node.js v"):
		return false, traceback
	case (state == traceback || state == marked) && has(l, "Node.js v"):
		return false, plain
	case state == traceback && len(l) == 0:
		return false, traceback
	case len(l) > 0 && strings.IndexByte("}])", l[0]) >= 0:
		return false, max(state, plain)
	case isSource(l):
		return true, sourced
	}
	return true, plain
}

// isSource reports whether a line is a file's path and a line number.
func isSource(l []byte) bool {
	i := bytes.LastIndexByte(l, ':')
	if i < 0 || i == len(l)-1 || !has(l, "/", "file://", "node:") || bytes.IndexByte(l, ' ') >= 0 {
		return false
	}
	for _, c := range l[i+1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
