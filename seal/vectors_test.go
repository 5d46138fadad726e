package seal_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"sealtail/record"
	"sealtail/seal"
)

// hexBytes is a JSON string in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	var err error
	*h, err = hex.DecodeString(s)
	return err
}

type vector struct {
	Name       string
	Suite      seal.Suite
	Want       string
	Records    [][]byte `json:"records_base64"`
	Compressed hexBytes
	Digest     hexBytes
	Envelope   hexBytes
}

type vectorFile struct {
	DEK     hexBytes
	KeyFile hexBytes `json:"key_file"`
	Keyring struct {
		Keys []struct {
			ID, Kind     string
			Key, Private []byte
		}
	}
	Signers struct {
		Seed   hexBytes `json:"ed25519_seed"`
		Scalar hexBytes `json:"sm2_private"`
	}
	SM2Recipient hexBytes            `json:"sm2_recipient_private"`
	Stubs        map[string]hexBytes `json:"stubs_of_chain_6_final"`
	Tests        []vector
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func vectors(t testing.TB) *vectorFile {
	t.Helper()
	f := new(vectorFile)
	readJSON(t, "testdata/se1.json", f)
	if len(f.Tests) != 72 {
		t.Fatalf("got %d vectors, want 72", len(f.Tests))
	}
	return f
}

func (f *vectorFile) identity(t testing.TB) *seal.Identity {
	t.Helper()
	id, err := seal.IdentityOf(f.Signers.Seed, f.Signers.Scalar)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// envelope returns the envelope of one vector.
func (f *vectorFile) envelope(t testing.TB, name string) []byte {
	t.Helper()
	for _, v := range f.Tests {
		if v.Name == name {
			return v.Envelope
		}
	}
	t.Fatalf("no vector %s", name)
	return nil
}

// Unwrap opens recipients of types 5 and 6 by the vectors' keyring.
func (f *vectorFile) Unwrap(_ context.Context, r seal.Recipient, ec []byte) (seal.Secret, error) {
	dek, err := f.unwrap(r, ec)
	return seal.MoveSecret(dek), err
}

func (f *vectorFile) unwrap(r seal.Recipient, ec []byte) ([]byte, error) {
	for _, k := range f.Keyring.Keys {
		if k.ID != string(r.KeyID) {
			continue
		}
		if r.Type == seal.TypeHPKE {
			p, err := hpke.MLKEM768X25519().NewPrivateKey(k.Private)
			if err != nil {
				return nil, err
			}
			return hpke.Open(p, hpke.HKDFSHA256(), hpke.AES256GCM(), append([]byte("SE1-dek\x00"), ec...), r.Wrapped)
		}
		head := 3 + len(k.ID)
		if r.Type != seal.TypeKeyring || len(r.Wrapped) != head+12+32+16 {
			return nil, errors.New("not of this keyring")
		}
		var a cipher.AEAD
		if r.Wrapped[1] == 1 {
			b, err := aes.NewCipher(k.Key)
			if err != nil {
				return nil, err
			}
			if a, err = cipher.NewGCM(b); err != nil {
				return nil, err
			}
		} else {
			var err error
			if a, err = seal.SM4GCM.AEAD(k.Key); err != nil {
				return nil, err
			}
		}
		aad := append(bytes.Clone(r.Wrapped[:head]), ec...)
		return a.Open(nil, r.Wrapped[head:head+12], r.Wrapped[head+12:], aad)
	}
	return nil, seal.ErrNotMine
}

// open takes an envelope through all steps and returns its records as the
// vectors give them.
func (f *vectorFile) open(t testing.TB, env []byte) (records [][]byte, err error) {
	e, err := seal.Parse(env)
	if err != nil {
		return nil, err
	}
	if err := e.Verify(); err != nil {
		return nil, err
	}
	sm2, err := seal.ParseSM2PrivateKey(f.SM2Recipient)
	if err != nil {
		t.Fatal(err)
	}
	dek, err := seal.Unwrap(t.Context(), &e.Header, e.Recipients, f, sm2)
	if err != nil {
		return nil, err
	}
	content, err := e.Open(dek.Bytes())
	if err != nil {
		return nil, err
	}
	list, err := seal.Decompress(e.Codec, content)
	if err != nil {
		return nil, err
	}
	groups, err := record.Decode(list)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		for _, l := range g.Logs {
			records = append(records, flat(l))
		}
	}
	return records, nil
}

// flat is a record's content alone, or key=value=… of an event.
func flat(l record.Log) []byte {
	var b []byte
	for _, f := range l.Fields {
		switch f.Key {
		case "content":
			return f.Value
		case "__offset__", "__part__":
			continue
		}
		if b != nil {
			b = append(b, '=')
		}
		b = append(append(append(b, f.Key...), '='), f.Value...)
	}
	return b
}

var reasons = map[string]error{
	"malformed":  seal.ErrMalformed,
	"forged":     seal.ErrForged,
	"unwrap":     seal.ErrUnwrap,
	"commitment": seal.ErrCommitment,
	"decrypt":    seal.ErrDecrypt,
	"padding":    seal.ErrPadding,
	"too-large":  seal.ErrTooLarge,
	"decompress": seal.ErrDecompress,
	"payload":    record.ErrPayload,
}

func TestVectors(t *testing.T) {
	f := vectors(t)
	seen := map[string]int{}
	for _, v := range f.Tests {
		t.Run(v.Name, func(t *testing.T) {
			seen[v.Want]++
			records, err := f.open(t, v.Envelope)
			if v.Want != "open" {
				want, ok := reasons[v.Want]
				if !ok {
					t.Fatalf("no such reason: %s", v.Want)
				}
				for reason, other := range reasons {
					if got := errors.Is(err, other); got != (other == want) {
						t.Errorf("got %v, want %s; is it %s: %v", err, v.Want, reason, got)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(records) != len(v.Records) {
				t.Fatalf("got %d records, want %d", len(records), len(v.Records))
			}
			for i := range records {
				if !bytes.Equal(records[i], v.Records[i]) {
					t.Errorf("record %d: got %q, want %q", i, records[i], v.Records[i])
				}
			}
		})
	}
	if seen["open"] != 18 || len(seen) != 1+len(reasons) {
		t.Errorf("got %v, want 18 to open and every reason", seen)
	}
}

func TestVectorsReseal(t *testing.T) {
	f := vectors(t)
	id := f.identity(t)
	prev := map[seal.Suite][32]byte{}
	for _, v := range f.Tests {
		if v.Want != "open" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			e, err := seal.Parse(v.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Digest(); !bytes.Equal(got[:], v.Digest) {
				t.Errorf("digest: got %x, want %x", got, []byte(v.Digest))
			}
			if e.Suite != v.Suite || e.Signer != id.Signer(v.Suite) || !bytes.Equal(e.PublicKey, id.Public(v.Suite)) {
				t.Error("suite or signer differ")
			}
			if !e.Names(f.DEK) {
				t.Error("data key id differs")
			}
			if e.Prev != prev[e.Suite] {
				t.Errorf("chain: got %x, want %x", e.Prev, prev[e.Suite])
			}
			prev[e.Suite] = e.Digest()
			content, err := e.Open(f.DEK)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content, v.Compressed) {
				t.Errorf("content: got %x, want %x", content, []byte(v.Compressed))
			}
			h := e.Header
			h.PayloadLen = 0
			env, digest, err := seal.Reseal(id, h, f.DEK, e.Recipients, v.Compressed)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(digest[:], v.Digest) {
				t.Errorf("digest of the resealed: got %x, want %x", digest, []byte(v.Digest))
			}
			end := len(env)
			if v.Suite == seal.SM4GCM {
				end -= 64 // SM2 signatures are random
				r, err := seal.Parse(env)
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Verify(); err != nil {
					t.Error(err)
				}
			}
			if len(env) != len(v.Envelope) || !bytes.Equal(env[:end], v.Envelope[:end]) {
				t.Errorf("got  %x\nwant %x", env[:end], v.Envelope[:end])
			}
		})
	}
}

func TestVectorsStubs(t *testing.T) {
	f := vectors(t)
	if len(f.Stubs) != 2 {
		t.Fatalf("got %d stubs, want 2", len(f.Stubs))
	}
	for suite, want := range f.Stubs {
		t.Run(suite, func(t *testing.T) {
			e, err := seal.Parse(f.envelope(t, suite+"/chain-6-final"))
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Stub(); !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, []byte(want))
			}
			s, err := seal.ParseStub(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
			if s.Digest() != e.Digest() || !bytes.Equal(s.Marshal(), want) || !bytes.Equal(s.MarshalFields(), want) {
				t.Error("stub and envelope differ")
			}
			for i := range want {
				bad := bytes.Clone(want)
				bad[i] ^= 0x10
				if s, err := seal.ParseStub(bad); err == nil && !errors.Is(s.Verify(), seal.ErrForged) {
					t.Errorf("byte %d flipped: verifies", i)
				} else if err != nil && !errors.Is(err, seal.ErrMalformed) {
					t.Errorf("byte %d flipped: got %v", i, err)
				}
			}
		})
	}
}

func TestVectorsKeyFile(t *testing.T) {
	f := vectors(t)
	ks, err := seal.ParseKeyFile(f.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(ks) != 2 {
		t.Fatalf("got %d data keys, want 2", len(ks))
	}
	for i, name := range []string{"aes-256-gcm", "sm4-gcm"} {
		e, err := seal.Parse(f.envelope(t, name+"/chain-0-genesis"))
		if err != nil {
			t.Fatal(err)
		}
		if ks[i].DEKID != e.DEKID {
			t.Errorf("%s: data key id differs", name)
		}
		dek, err := seal.Unwrap(t.Context(), &e.Header, ks[i].Recipients, f)
		if err != nil || !bytes.Equal(dek.Bytes(), f.DEK) {
			t.Errorf("%s: got another data key, error %v", name, err)
		}
	}
	got, err := seal.MarshalKeyFile(ks)
	if err != nil || !bytes.Equal(got, f.KeyFile) {
		t.Errorf("got  %x, error %v\nwant %x", got, err, []byte(f.KeyFile))
	}
	for n := range f.KeyFile {
		if n == 4 || n == 4+2+0x61 { // no data key, one data key
			continue
		}
		if _, err := seal.ParseKeyFile(f.KeyFile[:n]); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
}

// The envelopes that self-tests open are the vectors'.
func TestVectorsOfSelfTest(t *testing.T) {
	f := vectors(t)
	for _, suite := range []string{"aes-256-gcm", "sm4-gcm"} {
		b, err := os.ReadFile("selftest/" + suite + ".se1")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, f.envelope(t, suite+"/chain-0-genesis")) {
			t.Errorf("%s: differs", suite)
		}
	}
}

// A base64-encoded envelope is told by its first characters.
func TestVectorsBase64(t *testing.T) {
	for _, v := range vectors(t).Tests {
		if s := base64.StdEncoding.EncodeToString(v.Envelope); !strings.HasPrefix(s, "iVNF") {
			t.Errorf("%s: got %.4s, want iVNF", v.Name, s)
		}
	}
}
