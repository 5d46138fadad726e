// Package schedule wipes what ciphers and hashes make of a key: with [Wipe] what
// they keep, round keys, tables and states, as libraries have it in structs of
// their own on the heap, and Go's collector frees memory without clearing it;
// with [Do] what they have on the stack and in registers.
//
// What such a struct points to is not reached: so it is with the round keys of
// tjfoc's SM4.
package schedule

import (
	"crypto/cipher"
	"reflect"
)

// Wipe zeroes the structs that vs point to, which are of no use afterwards.
func Wipe(vs ...any) {
	for _, v := range vs {
		if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
			p.Elem().SetZero()
		}
	}
}

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
