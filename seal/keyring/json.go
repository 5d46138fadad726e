package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// The decoder of encoding/json copies the text it reads to buffers that nobody
// can wipe. What is here takes valid JSON apart where it lies.

var errUnknown = errors.New("unknown")

// members hands each member of an object to take, by its exact name and no
// name twice: encoding/json takes repeated and differently cased names. The
// values alias the object. For a name that it does not know, take returns
// errUnknown.
func members(object []byte, take func(name string, value []byte) error) error {
	seen := make(map[string]bool)
	name, isName := "", false
	for v := range values(object) {
		if isName = !isName; isName {
			if err := json.Unmarshal(v, &name); err != nil {
				return err
			}
			if seen[name] {
				return fmt.Errorf("field %q is there twice; remove one", name)
			}
			seen[name] = true
			continue
		}
		switch err := take(name, v); {
		case err == errUnknown:
			return fmt.Errorf("unknown field %q; remove it", name)
		case err != nil:
			return fmt.Errorf("field %q: %w", name, err)
		}
	}
	return nil
}

// values yields the elements of an array, or the names and values of an
// object by turns. They alias b, which must be valid JSON.
func values(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if b = bytes.TrimSpace(b); len(b) == 0 {
			return
		}
		for b = b[1 : len(b)-1]; ; {
			b = bytes.TrimLeft(b, " \t\r\n,:")
			n := length(b)
			if n == 0 || !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// length returns how much of b its first value takes.
func length(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case depth == 0 && bytes.IndexByte([]byte(" \t\r\n,:"), c) >= 0:
			return i // behind a number or a word
		default:
			continue
		}
		if depth == 0 && !quoted {
			return i + 1
		}
	}
	return len(b)
}

// material decodes a string of base64.
func material(value []byte) ([]byte, error) {
	if value[0] != '"' {
		return nil, errors.New("is no string")
	}
	text := value[1 : len(value)-1]
	b := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(b, text)
	if err != nil {
		clear(b)
		return nil, err
	}
	return b[:n], nil
}
