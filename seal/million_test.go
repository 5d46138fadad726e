//go:build torture

package seal_test

import (
	"testing"
	"testing/synctest"

	"sealtail/seal"
)

// In a million envelopes of the same content, sealed at the same instant by
// chains of the same epoch, no salt, key or nonce comes twice.
func TestNothingRepeatsInAMillion(t *testing.T) {
	for _, s := range suites {
		t.Run(s.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where time stands still
				kms := new(plainKMS)
				keys, id := runKeys(t, seal.KeyOptions{MaxBatches: 1 << 18}, kms, s), newIdentity(t)
				salts, secrets, nonces := map[[24]byte]bool{}, map[string]bool{}, map[string]bool{}
				const chains, each = 1000, 1000
				var buf []byte
				for range chains {
					c := newChain(t, seal.ChainOptions{Identity: id, Keys: keys, Suite: s, Epoch: 1})
					for range each {
						env, err := c.Seal(t.Context(), buf, 0, 0, 0, seal.CodecNone, []byte("same"))
						if err != nil {
							t.Fatal(err)
						}
						e, err := seal.Parse(env)
						if err != nil {
							t.Fatal(err)
						}
						k := e.Key(e.Recipients[0].Wrapped)
						salts[e.Salt], secrets[k[:len(k)-12]], nonces[k[len(k)-12:]] = true, true, true
						buf = env
					}
				}
				if len(salts) != chains*each || len(secrets) != chains*each || len(nonces) != chains*each {
					t.Errorf("got %d salts, %d keys, %d nonces in %d envelopes", len(salts), len(secrets), len(nonces), chains*each)
				}
				if n := kms.count(); n < 4 {
					t.Errorf("got %d data keys, want several", n)
				}
			})
		})
	}
}
