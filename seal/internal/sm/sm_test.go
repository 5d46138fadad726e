package sm_test

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"testing"

	"sealtail/seal/internal/sm"
)

func newKey(t testing.TB) *sm.PrivateKey {
	t.Helper()
	k, err := sm.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSign(t *testing.T) {
	k := newKey(t)
	again, err := sm.NewPrivateKey(k.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	public, err := sm.NewPublicKey(again.Public().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	// Often enough that r and s come with and without leading zeros.
	for i := range 600 {
		message := []byte{byte(i), byte(i >> 8)}
		sig, err := k.Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		if !public.Verify(message, sig) {
			t.Fatalf("%x over %x is refused", sig, message)
		}
		if i > 8 {
			continue
		}
		for j := range sig {
			sig[j] ^= 1
			if public.Verify(message, sig) {
				t.Errorf("byte %d of the signature flipped: verifies", j)
			}
			sig[j] ^= 1
		}
		if public.Verify(message[:1], sig) || newKey(t).Public().Verify(message, sig) {
			t.Error("verifies for another message or key")
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	k := newKey(t)
	order, _ := new(big.Int).SetString("fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123", 16)
	n := order.Bytes()
	one := make([]byte, 32)
	one[31] = 1
	for name, sig := range map[string][]byte{
		"empty":     nil,
		"short":     make([]byte, 63),
		"long":      make([]byte, 65),
		"zeros":     make([]byte, 64),
		"r is zero": append(make([]byte, 32), one...),
		"s is zero": append(bytes.Clone(one), make([]byte, 32)...),
		"order":     append(bytes.Clone(n), n...),
		"ones":      bytes.Repeat([]byte{0xff}, 64),
	} {
		if k.Public().Verify([]byte("m"), sig) {
			t.Errorf("%s: verifies", name)
		}
	}
}

func TestKeysRefuse(t *testing.T) {
	k := newKey(t)
	point := k.Public().Bytes()
	off := bytes.Clone(point)
	off[64] ^= 1
	compressed := append([]byte{2 + point[64]&1}, point[1:33]...)
	for name, b := range map[string][]byte{
		"empty": nil, "short": point[:64], "long": append(bytes.Clone(point), 0),
		"off the curve": off, "compressed": compressed, "infinity": {0},
		"zeros": append([]byte{4}, make([]byte, 64)...),
		"field": append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...),
	} {
		if _, err := sm.NewPublicKey(b); err == nil {
			t.Errorf("public key, %s: taken", name)
		}
	}
	order, _ := new(big.Int).SetString("fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123", 16)
	less := func(n int64) []byte { return new(big.Int).Sub(order, big.NewInt(n)).Bytes() }
	for name, b := range map[string][]byte{
		"empty": nil, "short": make([]byte, 31), "zero": make([]byte, 32), "order": less(0), "order less 1": less(1),
	} {
		if _, err := sm.NewPrivateKey(b); err == nil {
			t.Errorf("private key, %s: taken", name)
		}
	}
	if _, err := sm.NewPrivateKey(less(2)); err != nil {
		t.Errorf("private key, order less 2: %v", err)
	}
}

// What the second engine encrypts, the first decrypts.
func TestEncrypt(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 20
	}
	k := newKey(t)
	for i := range n {
		if i%10 == 0 {
			k = newKey(t)
		}
		message := make([]byte, 1+i%40)
		rand.Read(message)
		sealed, err := k.Public().Encrypt(message)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Decrypt(sealed); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("got %x, error %v, want %x", got, err, message)
		}
	}
	if _, err := k.Public().Encrypt(nil); err == nil {
		t.Error("nothing is encrypted")
	}
}

func TestDecryptRefuses(t *testing.T) {
	k := newKey(t)
	sealed, err := k.Public().Encrypt([]byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	off := bytes.Clone(sealed)
	off[64] ^= 1 // a point off the curve, which would tell bits of the key
	for name, b := range map[string][]byte{
		"empty": nil, "no text": sealed[:97], "off the curve": off,
		"compressed": append([]byte{2}, sealed[1:]...), "ASN.1": append([]byte{0x30}, sealed[1:]...),
	} {
		if _, err := k.Decrypt(b); err == nil {
			t.Errorf("%s: decrypts", name)
		}
	}
	if _, err := newKey(t).Decrypt(sealed); err == nil {
		t.Error("decrypts under another key")
	}
}

func TestGCMRefusesKeys(t *testing.T) {
	for _, n := range []int{0, 15, 17, 32} {
		if _, err := sm.NewGCM(make([]byte, n)); err == nil {
			t.Errorf("key of %d bytes: taken", n)
		}
		if _, err := sm.NewSecondGCM(make([]byte, n)); err == nil {
			t.Errorf("key of %d bytes: taken by the second engine", n)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	k := newKey(b)
	for b.Loop() {
		if _, err := k.Sign([]byte("message")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	k := newKey(b)
	sig, err := k.Sign([]byte("message"))
	if err != nil {
		b.Fatal(err)
	}
	public := k.Public().Bytes()
	for b.Loop() {
		p, err := sm.NewPublicKey(public)
		if err != nil || !p.Verify([]byte("message"), sig) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkVerifyKnownKey(b *testing.B) {
	k := newKey(b)
	sig, err := k.Sign([]byte("message"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !k.Public().Verify([]byte("message"), sig) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkEncrypt(b *testing.B) {
	k := newKey(b)
	for b.Loop() {
		if _, err := k.Public().Encrypt(make([]byte, 32)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGCM(b *testing.B) {
	buf := make([]byte, 128<<10, 128<<10+16)
	for name, gcm := range map[string]func() error{
		"first":  func() error { a, err := sm.NewGCM(buf[:16]); a.Seal(buf[:0], buf[:12], buf, nil); return err },
		"second": func() error { a, err := sm.NewSecondGCM(buf[:16]); a.Seal(buf[:0], buf[:12], buf, nil); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if err := gcm(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
