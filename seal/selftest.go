package seal

import (
	"bytes"
	"crypto/cipher"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"

	"sealtail/seal/internal/sm"
)

//go:embed selftest/aes-256-gcm.se1
var selfTestAES []byte

//go:embed selftest/sm4-gcm.se1
var selfTestSM4 []byte

// SelfTest checks every primitive against published vectors, the whole of
// opening against one envelope of each suite, and the two SM engines against
// each other. Nothing is to be sealed after it failed. The error names what
// did.
func SelfTest() error {
	for _, t := range selfTests {
		if err := t.run(); err != nil {
			return fmt.Errorf("self-test of %s: %w", t.name, err)
		}
	}
	return nil
}

var errDiffers = errors.New("result differs")

type selfTest struct {
	name string
	run  func() error
}

var selfTests = []selfTest{
	{"AES-256-GCM", func() error { return knownAEAD(AES256GCM.aead, aesVector) }},
	{"SM4", func() error { return knownBlock(sm.Encrypt) }},
	{"SM4 (second engine)", func() error { return knownBlock(sm.SecondEncrypt) }},
	{"SM4-GCM", func() error { return knownAEAD(SM4GCM.aead, sm4Vector) }},
	{"SM4-GCM (second engine)", func() error { return knownAEAD(sm.NewSecondGCM, sm4Vector) }},
	{"SM3", func() error { return knownHash(sm.Sum) }},
	{"SM3 (second engine)", func() error { return knownHash(sm.SecondSum) }},
	{"HKDF-SHA-256", func() error {
		return knownExpand(AES256GCM,
			"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
	}},
	{"HKDF-SM3", func() error {
		return knownExpand(SM4GCM,
			"e0d6f7b0bd056327b7659f1f39ad850561fbcf4fb10fb58e88eafa55cf7cd01e",
			"c69fe91b7aaee2dd5718d72dcaee0cce93f1b8e41f792da51261b6a517e68b36ed2c595572b01dfa359b")
	}},
	{"SM2 signature", knownSM2},
	{"SM2 encryption (both engines)", agreeSM2},
	{"SM4-GCM and SM3 (both engines)", agreeSM4},
	{"SE1 aes-256-gcm", func() error { return knownEnvelope(selfTestAES) }},
	{"SE1 sm4-gcm", func() error { return knownEnvelope(selfTestSM4) }},
}

// An aeadVector is in hex.
type aeadVector struct{ key, nonce, aad, plain, sealed string }

var (
	// McGrew and Viega, The Galois/Counter Mode of Operation, test case 16.
	aesVector = aeadVector{
		key:   "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		nonce: "cafebabefacedbaddecaf888",
		aad:   "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		plain: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
			"76fc6ece0f4e1768cddf8853bb2d551b",
	}
	// RFC 8998, A.1.
	sm4Vector = aeadVector{
		key:   "0123456789abcdeffedcba9876543210",
		nonce: "00001234567800000000abcd",
		aad:   "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		plain: "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccddddddddddddddddeeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa",
		sealed: "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d" +
			"83de3541e4c2b58177e065a9bf7b62ec",
	}
)

func knownAEAD[A cipher.AEAD](newAEAD func(key []byte) (A, error), v aeadVector) error {
	a, err := newAEAD(unhex(v.key))
	if err != nil {
		return err
	}
	sealed := a.Seal(nil, unhex(v.nonce), unhex(v.plain), unhex(v.aad))
	if !bytes.Equal(sealed, unhex(v.sealed)) {
		return errDiffers
	}
	plain, err := a.Open(nil, unhex(v.nonce), sealed, unhex(v.aad))
	if err != nil {
		return err
	}
	if !bytes.Equal(plain, unhex(v.plain)) {
		return errDiffers
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := a.Open(nil, unhex(v.nonce), sealed, unhex(v.aad)); err == nil {
		return errors.New("a wrong tag is taken")
	}
	return nil
}

// knownBlock is GB/T 32907, A.1.
func knownBlock(encrypt func(key, block []byte) ([]byte, error)) error {
	in := unhex("0123456789abcdeffedcba9876543210")
	out, err := encrypt(in, in)
	if err != nil {
		return err
	}
	return same(out, unhex("681edf34d206965e86b3e94f536e4246"))
}

// knownHash is GB/T 32905, A.1.
func knownHash(sum func([]byte) [32]byte) error {
	got := sum([]byte("abc"))
	return same(got[:], unhex("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"))
}

// knownExpand is RFC 5869, A.1; for SM3 with what OpenSSL makes of it.
func knownExpand(s Suite, secret, okm string) error {
	return same(s.expand(unhex(secret), string(unhex("f0f1f2f3f4f5f6f7f8f9")), 42), unhex(okm))
}

// knownSM2 is GB/T 32918.5, A.2.
func knownSM2() error {
	public := unhex("04" +
		"09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020" +
		"ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13")
	signature := unhex("f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3" +
		"b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa")
	if !SM4GCM.verify(public, []byte("message digest"), signature) {
		return errors.New("a right signature is refused")
	}
	signature[63] ^= 1
	if SM4GCM.verify(public, []byte("message digest"), signature) {
		return errors.New("a wrong signature is taken")
	}
	k, err := sm.GenerateKey()
	if err != nil {
		return err
	}
	signature, err = k.Sign(public)
	if err != nil {
		return err
	}
	if !k.Public().Verify(public, signature) {
		return errors.New("a signature just made is refused")
	}
	return nil
}

// agreeSM2 lets the first engine decrypt what the second encrypted.
func agreeSM2() error {
	k, err := sm.GenerateKey()
	if err != nil {
		return err
	}
	sealed, err := k.Public().Encrypt(selfTestDEK())
	if err != nil {
		return err
	}
	plain, err := k.Decrypt(sealed)
	if err != nil {
		return err
	}
	return same(plain, selfTestDEK())
}

// agreeSM4 compares the engines at lengths around those at which their code
// takes another path.
func agreeSM4() error {
	key, nonce := selfTestDEK()[:sm.KeySize], make([]byte, nonceSize)
	text := bytes.Repeat(selfTestDEK(), 20)
	for _, n := range []int{0, 1, 15, 16, 17, 55, 56, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 513, 640} {
		first, err := sm.NewGCM(key)
		if err != nil {
			return err
		}
		second, err := sm.NewSecondGCM(key)
		if err != nil {
			return err
		}
		nonce[0] = byte(n)
		sealed := first.Seal(nil, nonce, text[:n], text[n:])
		if err := same(sealed, second.Seal(nil, nonce, text[:n], text[n:])); err != nil {
			return err
		}
		plain, err := second.Open(nil, nonce, sealed, text[n:])
		if err != nil {
			return err
		}
		if err := same(plain, text[:n]); err != nil {
			return err
		}
		if sm.Sum(text[:n]) != sm.SecondSum(text[:n]) {
			return errDiffers
		}
	}
	return nil
}

// knownEnvelope opens an envelope of the published vectors.
func knownEnvelope(b []byte) error {
	e, err := Parse(b)
	if err != nil {
		return err
	}
	if err := e.Verify(); err != nil {
		return err
	}
	content, err := e.Open(selfTestDEK())
	if err != nil {
		return err
	}
	list, err := Decompress(e.Codec, content)
	if err != nil {
		return err
	}
	if !bytes.Contains(list, []byte("first line")) {
		return errDiffers
	}
	wrong := bytes.Clone(b)
	wrong[len(wrong)-1] ^= 1
	if e, err = Parse(wrong); err != nil {
		return err
	}
	if err := e.Verify(); !errors.Is(err, ErrForged) {
		return errors.New("a wrong signature is taken")
	}
	return nil
}

// selfTestDEK is the published vectors' data key.
func selfTestDEK() []byte {
	return unhex("404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f")
}

func same(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return errDiffers
	}
	return nil
}

// unhex decodes a constant.
func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("seal: " + err.Error())
	}
	return b
}
