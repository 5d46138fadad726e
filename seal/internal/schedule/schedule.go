// Package schedule wipes what ciphers and hashes make of a key and keep: round
// keys, tables, states. Libraries keep it in structs of their own on the
// heap, and Go's collector frees memory without clearing it.
//
// What such a struct points to is not reached: so it is with the round keys of
// tjfoc's SM4. Nor are registers, and where a signal saved them.
package schedule

import (
	"crypto/cipher"
	"reflect"
)

// Wipe zeroes the structs that vs point to, which are of no use afterwards, and
// the stack that was used for them: see [Scrub].
func Wipe(vs ...any) {
	for _, v := range vs {
		if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
			p.Elem().SetZero()
		}
	}
	Scrub()
}

// Scrub zeroes the stack below its caller, where calls that have returned left
// what they worked on. To be called before these as well: where the stack has to
// grow for them, the old one would be left behind as it is.
//
//go:noinline
func Scrub() {
	var below [8 << 10]byte // more than any cipher or hash takes
	zero(&below)
}

//go:noinline
func zero(b *[8 << 10]byte) { clear(b[:]) }

// An AEAD is GCM over one Block.
type AEAD struct {
	cipher.AEAD
	block cipher.Block
}

// GCM returns the AEAD over block, with nonces of 12 bytes and tags of 16.
func GCM(block cipher.Block) (*AEAD, error) {
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &AEAD{a, block}, nil
}

// Wipe zeroes the key schedules of a and its Block. Neither is to be used
// afterwards.
func (a *AEAD) Wipe() { Wipe(a.AEAD, a.block) }
