package seal_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"sealtail/seal"
)

// eachSize runs f for each suite and size of content, with an envelope of it.
func eachSize(b *testing.B, f func(b *testing.B, c *seal.Chain, content, env []byte)) {
	for _, o := range []seal.ChainOptions{
		{Suite: seal.AES256GCM}, {Suite: seal.SM4GCM}, {Suite: seal.SM4GCM, SM4Engine: "tjfoc"},
	} {
		for _, kib := range []int{16, 128, 700} {
			name := fmt.Sprintf("%s/%dKiB", o.Suite, kib)
			if o.SM4Engine != "" {
				name = fmt.Sprintf("%s-%s/%dKiB", o.Suite, o.SM4Engine, kib)
			}
			content := make([]byte, min(kib<<10, seal.MaxContent))
			rand.Read(content)
			b.Run(name, func(b *testing.B) {
				o.Identity, o.Keys = newIdentity(b), runKeys(b, seal.KeyOptions{}, new(plainKMS), o.Suite)
				c := newChain(b, o)
				env, err := c.Seal(b.Context(), nil, 0, 0, 0, seal.CodecNone, content)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(content)))
				b.ReportAllocs()
				f(b, c, content, env)
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	eachSize(b, func(b *testing.B, c *seal.Chain, content, _ []byte) {
		var buf []byte
		for b.Loop() {
			var err error
			if buf, err = c.Seal(b.Context(), buf, 0, 0, 0, seal.CodecNone, content); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Verify hashes the payload and checks the signature, parsing included.
func BenchmarkVerify(b *testing.B) {
	eachSize(b, func(b *testing.B, _ *seal.Chain, _, env []byte) {
		for b.Loop() {
			e, err := seal.Parse(env)
			if err != nil {
				b.Fatal(err)
			}
			if err := e.Verify(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Open is that of an envelope already verified.
func BenchmarkOpen(b *testing.B) {
	eachSize(b, func(b *testing.B, _ *seal.Chain, _, env []byte) {
		e, err := seal.Parse(env)
		if err != nil {
			b.Fatal(err)
		}
		if err := e.Verify(); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := e.Open(e.Recipients[0].Wrapped); err != nil {
				b.Fatal(err)
			}
		}
	})
}
