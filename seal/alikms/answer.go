package alikms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"sealtail/seal"
	"sealtail/seal/internal/schedule"
)

// decode reads a JSON answer. Why it cannot is not said: the text might be
// quoted.
func decode(b []byte, answer any) (ok bool) {
	schedule.Do(func() { ok = json.Unmarshal(b, answer) == nil })
	return ok
}

// A plaintext is a data key in an answer, in base64. Unlike a string or a
// []byte it is decoded from locked memory into locked memory.
type plaintext struct{ seal.Secret }

var errPlaintext = errors.New("no base64")

// UnmarshalJSON decodes a JSON string.
func (p *plaintext) UnmarshalJSON(b []byte) error {
	p.Wipe()
	if len(b) < 2 || b[0] != '"' {
		return errPlaintext
	}
	b = b[1 : len(b)-1]
	if bytes.IndexByte(b, '\\') >= 0 {
		plain := seal.NewSecret(len(b))
		defer plain.Wipe()
		n, ok := unescape(plain.Bytes(), b)
		if !ok {
			return errPlaintext
		}
		b = plain.Bytes()[:n]
	}
	room := seal.NewSecret(base64.StdEncoding.DecodedLen(len(b)))
	defer room.Wipe()
	n, err := base64.StdEncoding.Decode(room.Bytes(), b)
	if err != nil {
		return errPlaintext
	}
	p.Secret = seal.NewSecret(n)
	copy(p.Bytes(), room.Bytes())
	return nil
}

// unescape writes b to out without JSON's escapes, of which base64 may have \/
// and \u00XX, and returns the length. out is as long as b.
func unescape(out, b []byte) (length int, ok bool) {
	for len(b) > 0 {
		c, n := b[0], 1
		if c == '\\' {
			switch {
			case len(b) >= 2 && b[1] == '/':
				c, n = '/', 2
			case len(b) >= 6 && b[1] == 'u':
				v, err := strconv.ParseUint(string(b[2:6]), 16, 7)
				if err != nil {
					return 0, false
				}
				c, n = byte(v), 6
			default:
				return 0, false
			}
		}
		out[length] = c
		length, b = length+1, b[n:]
	}
	return length, true
}

// encryptionContext returns an envelope's context as the KMS takes it: a JSON
// object of strings.
func encryptionContext(action string, context []byte) (string, error) {
	pairs, err := seal.ParseContext(context)
	if err != nil {
		return "", misfit(action, "Context", err.Error())
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(pairs); err != nil {
		return "", misfit(action, "Context", err.Error())
	}
	s := strings.TrimSuffix(b.String(), "\n")
	if len(s) > maxContext {
		return "", misfit(action, "Context", "the context is longer than the KMS takes")
	}
	return s, nil
}
