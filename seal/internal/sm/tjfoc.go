package sm

import (
	"crypto/rand"
	"errors"
	"math/big"

	"github.com/tjfoc/gmsm/sm2"
	"github.com/tjfoc/gmsm/sm3"
	"github.com/tjfoc/gmsm/sm4"

	"sealtail/seal/internal/schedule"
)

// NewSecondGCM is [NewGCM] by the second implementation, about five times
// slower. It is NOT safe for concurrent use: make one for each message.
func NewSecondGCM(key []byte) (*schedule.AEAD, error) {
	b, err := sm4.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return schedule.GCM(b)
}

// SecondEncrypt is [Encrypt] by the second implementation.
func SecondEncrypt(key, block []byte) ([]byte, error) {
	b, err := sm4.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return encrypt(b, block)
}

// SecondSum is [Sum] by the second implementation.
func SecondSum(b []byte) [HashSize]byte { return [HashSize]byte(sm3.Sm3Sum(b)) }

// Encrypt seals message, which is not empty, as 04 ‖ x1 ‖ y1 ‖ C3 ‖ C2 for
// the holder of the private key. The second implementation does it.
func (k *PublicKey) Encrypt(message []byte) ([]byte, error) {
	if len(message) == 0 {
		return nil, errors.New("nothing to encrypt")
	}
	// NewPublicKey checked that the point lies on the curve.
	p := &sm2.PublicKey{
		Curve: sm2.P256Sm2(),
		X:     new(big.Int).SetBytes(k.point[1:33]),
		Y:     new(big.Int).SetBytes(k.point[33:]),
	}
	return sm2.Encrypt(p, message, rand.Reader, sm2.C1C3C2)
}
