package seal

import "context"

// A dataKey is a data key in use. It stays whole until its last release.
type dataKey struct {
	id         [16]byte
	recipients []Recipient
	section    []byte // recipients as the envelope's key section
}

// dek returns the 32 bytes, valid until release. Not to be kept or changed.
func (k *dataKey) dek() []byte { return nil }

// release ends the use that take began.
func (k *dataKey) release() {}

// Keys is the life of one data key.
type Keys struct{}

// take returns the data key to seal n bytes of plaintext under, once there is
// one. The caller must release it. A key at hand is preferred to ctx's end, so
// with an ended ctx take succeeds only if it need not wait.
func (ks *Keys) take(ctx context.Context, n int) (k *dataKey, waited Wait, err error) {
	<-ctx.Done()
	return nil, waited, ctx.Err()
}
