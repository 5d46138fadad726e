package seal_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

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

// A slowKMS takes its time to answer.
type slowKMS struct {
	plainKMS
	takes time.Duration
}

func (k *slowKMS) Generate(ctx context.Context, c []byte) (seal.DataKey, error) {
	d, err := k.plainKMS.Generate(ctx, c)
	if k.count() > 1 { // the first is for the start
		select {
		case <-time.After(k.takes):
		case <-ctx.Done():
			return seal.DataKey{}, ctx.Err()
		}
	}
	return d, err
}

// What a refresh costs those who seal meanwhile: nothing. Of each pair of seals,
// in turns the first and the second, one is under a data key that is being
// replaced all the time by a key service which takes 3 s for each answer. What
// else the machine does meets both alike: without a difference half of those
// are the slower of their pair, and the percentiles are the same.
func BenchmarkSealInRefresh(b *testing.B) {
	for _, s := range suites {
		b.Run(s.String(), func(b *testing.B) {
			var chains [2]*seal.Chain
			var bufs [2][]byte
			var took [2][]time.Duration
			var underWay *seal.Keys
			for i, o := range []seal.KeyOptions{{Refresh: 24 * time.Hour}, {Refresh: time.Millisecond, Rotate: time.Millisecond}} {
				underWay = runKeys(b, o, &slowKMS{takes: 3 * time.Second}, s)
				chains[i] = newChain(b, seal.ChainOptions{Identity: newIdentity(b), Keys: underWay, Suite: s})
			}
			content := make([]byte, 16<<10)
			slower, turn := 0, 0
			for b.Loop() {
				for _, i := range []int{turn, 1 - turn} {
					began := time.Now()
					env, err := chains[i].Seal(b.Context(), bufs[i], 0, 0, 0, seal.CodecNone, content)
					if err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(began))
					bufs[i] = env
				}
				if n := len(took[0]) - 1; took[1][n] > took[0][n] {
					slower++
				}
				turn = 1 - turn
			}
			b.ReportMetric(100*float64(slower)/float64(len(took[0])), "slower-%")
			for i, name := range []string{"without", "under-way"} {
				slices.Sort(took[i])
				for _, percent := range []int{50, 99} {
					b.ReportMetric(float64(took[i][len(took[i])*percent/100].Microseconds()), fmt.Sprintf("p%d-%s-µs", percent, name))
				}
			}
			b.ReportMetric(float64(underWay.State().Rotated), "keys")
		})
	}
}
