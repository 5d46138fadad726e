package alikms

import (
	"net/http"
	"syscall"
	"time"

	"sealtail/internal/hidden"
)

// Sign is accessKey.sign.
func Sign(req *http.Request, body []byte, id, secret, token string, now time.Time, nonce string) {
	accessKey{id, hidden.New(secret), hidden.New(token)}.sign(req, body, now, nonce)
}

// AccessKey returns an accessKey, in a struct that holds one.
func AccessKey(id, secret, token string) any {
	return struct{ k accessKey }{accessKey{id, hidden.New(secret), hidden.New(token)}}
}

// Canonical is canonical.
func Canonical(parameters map[string]string) string { return canonical(parameters) }

// SameKey is sameKey.
func SameKey(a, b string) bool { return sameKey(a, b) }

// LoopbackOnly is loopbackOnly.
func LoopbackOnly(network, address string, c syscall.RawConn) error {
	return loopbackOnly(network, address, c)
}

// Clean is clean.
func Clean(message, secret, token string) string {
	return clean(message, accessKey{"", hidden.New(secret), hidden.New(token)})
}

// DecodePlaintext decodes a JSON string of an answer.
func DecodePlaintext(b []byte) ([]byte, bool) {
	var p plaintext
	ok := decode(b, &p)
	return p.Bytes(), ok
}
