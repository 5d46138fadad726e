package seal_test

import (
	"bytes"
	"crypto/hkdf"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"hash"
	"math/big"
	"testing"

	"sealtail/seal"
	"sealtail/seal/internal/sm"
)

type wycheproof struct {
	NumberOfTests int
	TestGroups    []struct {
		IVSize, KeySize, TagSize int
		Tests                    []struct {
			TcID                       int
			Comment, Result            string
			Key, IV, AAD, Msg, CT, Tag hexBytes
			IKM, Salt, Info            hexBytes
			Size                       int
			OKM                        hexBytes
		}
	}
}

func readWycheproof(t *testing.T, name string) *wycheproof {
	t.Helper()
	w := new(wycheproof)
	readJSON(t, "testdata/wycheproof/"+name+"_test.json", w)
	n := 0
	for _, g := range w.TestGroups {
		n += len(g.Tests)
	}
	if n == 0 || n != w.NumberOfTests {
		t.Fatalf("%s: got %d tests, want %d", name, n, w.NumberOfTests)
	}
	return w
}

// refuses reports that f panics or fails.
func refuses(f func() error) (refused bool) {
	defer func() {
		if recover() != nil {
			refused = true
		}
	}()
	return f() != nil
}

func TestWycheproofAEAD(t *testing.T) {
	for _, file := range []struct {
		name  string
		suite seal.Suite
		keys  int // bits
	}{
		{"aes_gcm", seal.AES256GCM, 256},
		{"sm4_gcm", seal.SM4GCM, 128},
	} {
		t.Run(file.name, func(t *testing.T) {
			ours, refused := 0, 0
			for _, g := range readWycheproof(t, file.name).TestGroups {
				for _, v := range g.Tests {
					sealed := append(bytes.Clone(v.CT), v.Tag...)
					a, err := file.suite.AEAD(v.Key)
					if g.KeySize != file.keys || g.IVSize != 96 || g.TagSize != 128 {
						refused++
						if err == nil && !refuses(func() error { _, err := a.Open(nil, v.IV, sealed, v.AAD); return err }) {
							t.Errorf("%d: taken, of key %d, nonce %d, tag %d bits", v.TcID, g.KeySize, g.IVSize, g.TagSize)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					ours++
					plain, err := a.Open(nil, v.IV, sealed, v.AAD)
					if v.Result == "invalid" {
						if err == nil {
							t.Errorf("%d (%s): opens", v.TcID, v.Comment)
						}
						continue
					}
					if err != nil || !bytes.Equal(plain, v.Msg) {
						t.Errorf("%d (%s): got %x, error %v", v.TcID, v.Comment, plain, err)
					}
					if got := a.Seal(nil, v.IV, v.Msg, v.AAD); !bytes.Equal(got, sealed) {
						t.Errorf("%d (%s): got %x, want %x", v.TcID, v.Comment, got, sealed)
					}
					if file.suite == seal.SM4GCM {
						second, err := sm.NewSecondGCM(v.Key)
						if err != nil {
							t.Fatal(err)
						}
						if got := second.Seal(nil, v.IV, v.Msg, v.AAD); !bytes.Equal(got, sealed) {
							t.Errorf("%d (%s): second engine: got %x, want %x", v.TcID, v.Comment, got, sealed)
						}
					}
				}
			}
			if ours == 0 || refused == 0 {
				t.Errorf("got %d tests of our sizes and %d of others, want some of both", ours, refused)
			}
		})
	}
}

func TestWycheproofHKDF(t *testing.T) {
	for _, g := range readWycheproof(t, "hkdf_sha256").TestGroups {
		for _, v := range g.Tests {
			prk, err := hkdf.Extract(seal.AES256GCM.Hash, v.IKM, v.Salt)
			if err != nil {
				t.Fatal(err)
			}
			expand := func() error {
				if got := seal.AES256GCM.Expand(prk, string(v.Info), v.Size); !bytes.Equal(got, v.OKM) {
					t.Errorf("%d: got %x, want %x", v.TcID, got, v.OKM)
				}
				return nil
			}
			if refused := refuses(expand); refused != (v.Result == "invalid") {
				t.Errorf("%d (%s): refused: %v, want %s", v.TcID, v.Comment, refused, v.Result)
			}
		}
	}
}

// HKDF stands on HMAC, and HKDF-Extract is nothing else: HMAC(salt, ikm).
func TestWycheproofHMAC(t *testing.T) {
	for _, file := range []struct {
		name  string
		suite seal.Suite
	}{{"hmac_sha256", seal.AES256GCM}, {"hmac_sm3", seal.SM4GCM}} {
		t.Run(file.name, func(t *testing.T) {
			for _, g := range readWycheproof(t, file.name).TestGroups {
				for _, v := range g.Tests {
					mac, err := hkdf.Extract(file.suite.Hash, v.Msg, v.Key)
					if err != nil {
						t.Fatal(err)
					}
					if fits := bytes.Equal(mac[:g.TagSize/8], v.Tag); fits != (v.Result == "valid") {
						t.Errorf("%d (%s): fits: %v, want %s", v.TcID, v.Comment, fits, v.Result)
					}
				}
			}
		})
	}
}

func TestHKDFSM3(t *testing.T) {
	var f struct {
		Tests []struct {
			ID                   string
			IKM, Salt, Info, OKM hexBytes
			Len                  int
		}
	}
	readJSON(t, "testdata/sm/hkdf_sm3_openssl.json", &f)
	if len(f.Tests) == 0 {
		t.Fatal("no tests")
	}
	for _, v := range f.Tests {
		prk, err := hkdf.Extract(seal.SM4GCM.Hash, v.IKM, v.Salt)
		if err != nil {
			t.Fatal(err)
		}
		if got := seal.SM4GCM.Expand(prk, string(v.Info), v.Len); !bytes.Equal(got, v.OKM) {
			t.Errorf("%s: got %x, want %x", v.ID, got, []byte(v.OKM))
		}
	}
}

func TestSM4GCM(t *testing.T) {
	n := 0
	for _, name := range []string{"gbt36624_15852_sm4_gcm", "rfc8998_sm4"} {
		var f struct {
			Tests []struct {
				ID, Alg                   string
				Key, IV, AAD, PT, CT, Tag hexBytes
			}
		}
		readJSON(t, "testdata/sm/"+name+".json", &f)
		for _, v := range f.Tests {
			if v.Alg == "SM4-CCM" { // not a mode of ours
				continue
			}
			n++
			want := append(bytes.Clone(v.CT), v.Tag...)
			first, err := seal.SM4GCM.AEAD(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			second, err := sm.NewSecondGCM(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			if got := first.Seal(nil, v.IV, v.PT, v.AAD); !bytes.Equal(got, want) {
				t.Errorf("%s: got %x, want %x", v.ID, got, want)
			}
			if got := second.Seal(nil, v.IV, v.PT, v.AAD); !bytes.Equal(got, want) {
				t.Errorf("%s: second engine: got %x, want %x", v.ID, got, want)
			}
		}
	}
	if n != 5 {
		t.Errorf("got %d tests, want 5", n)
	}
}

func TestSM4Block(t *testing.T) {
	var f struct {
		Tests []struct {
			ID          string
			Key, PT, CT hexBytes
			Iterations  int
		}
	}
	readJSON(t, "testdata/sm/gbt32907_sm4_block.json", &f)
	if len(f.Tests) == 0 {
		t.Fatal("no tests")
	}
	for _, v := range f.Tests {
		if v.Iterations > 1 && testing.Short() {
			continue
		}
		first, second := []byte(v.PT), []byte(v.PT)
		for i := range v.Iterations {
			var err error
			if first, err = sm.Encrypt(v.Key, first); err != nil {
				t.Fatal(err)
			}
			if i >= 1000 { // the second engine is slow
				continue
			}
			if second, err = sm.SecondEncrypt(v.Key, second); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, second) {
				t.Fatalf("%s: engines differ after %d times", v.ID, i+1)
			}
		}
		if !bytes.Equal(first, v.CT) {
			t.Errorf("%s: got %x, want %x", v.ID, first, []byte(v.CT))
		}
	}
}

func TestSM3(t *testing.T) {
	var f struct {
		Tests []struct {
			ID          string
			Msg, Digest hexBytes
		}
	}
	readJSON(t, "testdata/sm/gbt32905_sm3.json", &f)
	if len(f.Tests) == 0 {
		t.Fatal("no tests")
	}
	sums := map[string]func([]byte) [32]byte{
		"suite":  seal.SM4GCM.Sum,
		"second": sm.SecondSum,
		"hash":   func(b []byte) [32]byte { return [32]byte(write(seal.SM4GCM.Hash(), b)) },
	}
	for _, v := range f.Tests {
		for name, sum := range sums {
			if got := sum(v.Msg); !bytes.Equal(got[:], v.Digest) {
				t.Errorf("%s by %s: got %x, want %x", v.ID, name, got, []byte(v.Digest))
			}
		}
	}
}

func write(h hash.Hash, b []byte) []byte {
	h.Write(b)
	return h.Sum(nil)
}

func TestSM2(t *testing.T) {
	var f struct {
		D, X, Y hexBytes
		Sign    struct{ Msg, R, S hexBytes }
		Encrypt struct{ Msg, C1, C2, C3 hexBytes }
	}
	readJSON(t, "testdata/sm/gbt32918_5_sm2.json", &f)
	k, err := sm.NewPrivateKey(f.D)
	if err != nil {
		t.Fatal(err)
	}
	public := append(append([]byte{4}, f.X...), f.Y...)
	if got := k.Public().Bytes(); !bytes.Equal(got, public) {
		t.Errorf("public key: got %x, want %x", got, public)
	}
	if got := k.Bytes(); !bytes.Equal(got, f.D) {
		t.Errorf("private key: got %x, want %x", got, []byte(f.D))
	}
	if !seal.SM4GCM.VerifyRaw(public, f.Sign.Msg, append(bytes.Clone(f.Sign.R), f.Sign.S...)) {
		t.Error("signature is refused")
	}
	sealed := append(append(bytes.Clone(f.Encrypt.C1), f.Encrypt.C3...), f.Encrypt.C2...)
	if got, err := k.Decrypt(sealed); err != nil || !bytes.Equal(got, f.Encrypt.Msg) {
		t.Errorf("decrypt: got %q, error %v", got, err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Decrypt(bad); err == nil {
			t.Errorf("byte %d flipped: decrypts", i)
		}
	}
}

func TestSM2OpenSSL(t *testing.T) {
	var f struct {
		PKCS8      string   `json:"pkcs8_b64"`
		Ciphertext hexBytes `json:"ciphertext_asn1"`
		Plaintext  string
	}
	readJSON(t, "testdata/sm/openssl_sm2_asn1.json", &f)
	der, err := base64.StdEncoding.DecodeString(f.PKCS8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ParseSM2PrivateKey(der); err != nil {
		t.Fatal(err)
	}
	k, err := sm.NewPrivateKey(der[36:68])
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		X, Y   *big.Int
		C3, C2 []byte
	}
	if _, err := asn1.Unmarshal(f.Ciphertext, &c); err != nil {
		t.Fatal(err)
	}
	sealed := append(append([]byte{4}, c.X.FillBytes(make([]byte, 32))...), c.Y.FillBytes(make([]byte, 32))...)
	sealed = append(append(sealed, c.C3...), c.C2...)
	if got, err := k.Decrypt(sealed); err != nil || string(got) != f.Plaintext {
		t.Errorf("got %q, error %v, want %q", got, err, f.Plaintext)
	}
}

func TestPadme(t *testing.T) {
	for _, v := range []struct{ n, want int }{
		{0, 0}, {1, 1}, {2, 2}, {3, 3}, {4, 4}, {8, 8}, {9, 10}, {10, 10}, {11, 12},
		{16, 16}, {17, 18}, {127, 128}, {128, 128}, {129, 144}, {255, 256}, {256, 256}, {257, 272},
		{4 + seal.MaxContent, 4 + seal.MaxContent}, {5 + seal.MaxContent, 43<<14 + 1<<14},
	} {
		if got := seal.Padme(v.n); got != v.want {
			t.Errorf("%d: got %d, want %d", v.n, got, v.want)
		}
	}
	for n := 2; n < 1<<16; n++ {
		p := seal.Padme(n)
		if p < n || p > n+n/8+1 || seal.Padme(p) != p {
			t.Fatalf("%d: got %d", n, p)
		}
	}
}

func TestParseSuite(t *testing.T) {
	for _, want := range []seal.Suite{seal.AES256GCM, seal.SM4GCM} {
		if got, err := seal.ParseSuite(want.String()); err != nil || got != want {
			t.Errorf("got %v, error %v, want %v", got, err, want)
		}
	}
	for _, name := range []string{"", "AES-256-GCM", "suite 0", fmt.Sprint(seal.Suite(3))} {
		if _, err := seal.ParseSuite(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}
