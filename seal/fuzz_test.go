package seal_test

import (
	"bytes"
	"errors"
	"maps"
	"testing"

	"sealtail/seal"
)

func FuzzParse(f *testing.F) {
	v := vectors(f)
	for _, t := range v.Tests {
		f.Add([]byte(t.Envelope))
		f.Add([]byte(t.Envelope[:len(t.Envelope)/2]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, n, err := seal.ParsePrefix(b)
		if _, whole := seal.Parse(b); (whole == nil) != (err == nil && n == len(b)) {
			t.Fatalf("Parse: %v, ParsePrefix: %d, %v", whole, n, err)
		}
		if err != nil {
			if !errors.Is(err, seal.ErrMalformed) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if again, err := e.Marshal(); err != nil || !bytes.Equal(again, b[:n]) {
			t.Fatalf("got  %x, error %v\nwant %x", again, err, b[:n])
		}
		if _, err := seal.ParseStub(e.Stub()); err != nil {
			t.Fatal(err)
		}
		if err := e.Verify(); err != nil && err != seal.ErrForged {
			t.Fatal(err)
		}
		if _, err := e.Open(v.DEK); (err == seal.ErrForged) != (e.Verify() == seal.ErrForged) {
			t.Fatal(err)
		}
		for _, r := range e.Recipients {
			v.Unwrap(t.Context(), r, e.Context)
		}
	})
}

func FuzzParseStub(f *testing.F) {
	for _, b := range vectors(f).Stubs {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := seal.ParseStub(b)
		if err != nil {
			if !errors.Is(err, seal.ErrMalformed) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if !bytes.Equal(s.Marshal(), b) || !bytes.Equal(s.MarshalFields(), b) {
			t.Fatalf("got  %x\nwant %x", s.Marshal(), b)
		}
		if err := s.Verify(); err != nil && err != seal.ErrForged {
			t.Fatal(err)
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(vectors(f).KeyFile))
	f.Add([]byte("\x89SK1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ks, err := seal.ParseKeyFile(b)
		if err != nil {
			if !errors.Is(err, seal.ErrMalformed) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if again, err := seal.MarshalKeyFile(ks); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("got  %x, error %v\nwant %x", again, err, b)
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add(seal.Head{Epoch: 1, Suite: seal.SM4GCM}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		var h seal.Head
		if err := h.Unmarshal(b); err != nil {
			if !errors.Is(err, seal.ErrMalformed) && !errors.Is(err, seal.ErrNewer) || h != (seal.Head{}) {
				t.Fatalf("got %v, %v", h, err)
			}
			return
		}
		if !bytes.Equal(h.Marshal(), b) {
			t.Fatalf("got  %x\nwant %x", h.Marshal(), b)
		}
	})
}

func FuzzContext(f *testing.F) {
	f.Add(testContext(f))
	f.Add([]byte("\x00\x01\x00\x03fmt\x00\x03SE1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := seal.ParseContext(b)
		if err != nil {
			if !errors.Is(err, seal.ErrMalformed) {
				t.Fatalf("got %v", err)
			}
			return
		}
		before := maps.Clone(c)
		if again, err := seal.EncodeContext(c); err != nil || !bytes.Equal(again, b) || !maps.Equal(before, c) {
			t.Fatalf("got  %x, error %v\nwant %x", again, err, b)
		}
	})
}

func FuzzIdentity(f *testing.F) {
	b, err := newIdentity(f).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var id seal.Identity
		if id.UnmarshalBinary(b) != nil {
			return
		}
		if again, err := id.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Fatal("marshals to other bytes")
		}
	})
}

func FuzzSM2Keys(f *testing.F) {
	k, err := seal.ParseSM2PrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Public().Marshal())
	f.Add(bytes.Repeat([]byte{7}, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := seal.ParseSM2PublicKey(b); err == nil && !bytes.HasSuffix(p.Marshal(), b) {
			t.Fatalf("got %x, want %x", p.Marshal(), b)
		}
		seal.ParseSM2PrivateKey(b)
		k.Unwrap(t.Context(), seal.Recipient{Type: seal.TypeSM2, KeyID: k.Public().KeyID(), Wrapped: b}, nil)
	})
}

func FuzzSigners(f *testing.F) {
	id := newIdentity(f)
	f.Add([]byte(id.SignerLine("a", seal.AES256GCM) + "\n" + id.SignerLine("b", seal.SM4GCM)))
	f.Fuzz(func(t *testing.T, b []byte) {
		seal.ParseSigners(bytes.NewReader(b))
	})
}

func FuzzDecompress(f *testing.F) {
	known, unknown := zstdOf(f, 1<<20)
	f.Add(known)
	f.Add(unknown)
	for _, v := range vectors(f).Tests {
		f.Add([]byte(v.Compressed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := seal.Decompress(seal.CodecZstd, b)
		if len(got) > seal.MaxDecompressed {
			t.Fatalf("got %d bytes", len(got))
		}
		if err != nil && (got != nil || !errors.Is(err, seal.ErrTooLarge) && !errors.Is(err, seal.ErrDecompress)) {
			t.Fatalf("got %d bytes, error %v", len(got), err)
		}
	})
}
