package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"sealtail/seal"
)

func TestContext(t *testing.T) {
	got, err := seal.EncodeContext(seal.Context{"project": "p", "logstore": ""})
	want := "\x00\x03\x00\x03fmt\x00\x03SE1\x00\x08logstore\x00\x00\x00\x07project\x00\x01p"
	if err != nil || string(got) != want {
		t.Errorf("got %q, error %v, want %q", got, err, want)
	}
	c, err := seal.ParseContext(got)
	if err != nil || len(c) != 3 || c["fmt"] != "SE1" || c["project"] != "p" || c["logstore"] != "" {
		t.Errorf("got %v, error %v", c, err)
	}
	if got, err := seal.EncodeContext(nil); err != nil || string(got) != "\x00\x01\x00\x03fmt\x00\x03SE1" {
		t.Errorf("no context: got %q, error %v", got, err)
	}
	for name, c := range map[string]seal.Context{
		"format":    {"fmt": "SE2"},
		"key":       {"\xff": ""},
		"value":     {"a": "\xff"},
		"too long":  {"a": strings.Repeat("x", 3926)},
		"very long": {"a": strings.Repeat("x", 1<<17)},
	} {
		if _, err := seal.EncodeContext(c); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	const f = "\x00\x03fmt\x00\x03SE1"
	for name, b := range map[string]string{
		"empty":         "",
		"short count":   "\x00",
		"too many":      "\x00\x02" + f,
		"too few":       "\x00\x01" + f + "\x00\x01g\x00\x00",
		"short value":   "\x00\x01" + f[:len(f)-1],
		"same key":      "\x00\x02" + f + f,
		"unsorted":      "\x00\x02" + f + "\x00\x01a\x00\x00",
		"not UTF-8":     "\x00\x02" + f + "\x00\x01\xff\x00\x00",
		"not UTF-8 too": "\x00\x02" + f + "\x00\x01g\x00\x01\xff",
		"many":          "\xff\xff" + f,
	} {
		if _, err := seal.ParseContext([]byte(b)); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestHead(t *testing.T) {
	want := seal.Head{StreamID: [16]byte{1, 15: 2}, Epoch: 1<<64 - 1, Seq: 3, Digest: [32]byte{4, 31: 5}, Suite: seal.SM4GCM, Last: 6e9}
	b := want.Marshal()
	if len(b) != seal.HeadSize {
		t.Fatalf("got %d bytes, want %d", len(b), seal.HeadSize)
	}
	var got seal.Head
	if err := got.Unmarshal(b); err != nil || got != want {
		t.Errorf("got %v, error %v, want %v", got, err, want)
	}
	newer, suite, time := bytes.Clone(b), bytes.Clone(b), bytes.Clone(b)
	newer[0], suite[1], time[34] = 2, 3, 0xff
	for name, v := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":      {nil, seal.ErrMalformed},
		"short":      {b[:len(b)-1], seal.ErrMalformed},
		"long":       {append(bytes.Clone(b), 0), seal.ErrMalformed},
		"newer":      {newer, seal.ErrNewer},
		"newer, cut": {newer[:1], seal.ErrNewer},
		"suite":      {suite, seal.ErrMalformed},
		"time":       {time, seal.ErrMalformed},
	} {
		if err := got.Unmarshal(v.b); !errors.Is(err, v.want) || got != want {
			t.Errorf("%s: got %v and %v, want %v", name, got, err, v.want)
		}
	}
	if _, err := seal.HeadOf([]byte("\x89SE1")); !errors.Is(err, seal.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestIdentity(t *testing.T) {
	id := newIdentity(t)
	id.Machine = [32]byte{1, 31: 2}
	b, err := id.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got seal.Identity
	if err := got.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if got.Machine != id.Machine {
		t.Error("machine differs")
	}
	for _, s := range suites {
		if !bytes.Equal(got.Public(s), id.Public(s)) || got.Signer(s) != id.Signer(s) || got.Signer(s) != s.Sum(id.Public(s)) {
			t.Errorf("%s: public key or signer differ", s)
		}
		if other := newIdentity(t); bytes.Equal(other.Public(s), id.Public(s)) {
			t.Errorf("%s: two identities are the same", s)
		}
	}
	if again, err := got.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("marshals to other bytes, error %v", err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if err := got.UnmarshalBinary(bad); err == nil {
			t.Errorf("byte %d flipped: taken", i)
		}
	}
	newer := append(bytes.Clone(b[:4]), 2, 0, 0, 0)
	if err := got.UnmarshalBinary(newer); !errors.Is(err, seal.ErrNewer) {
		t.Errorf("newer: got %v", err)
	}
	for _, n := range []int{0, 4, 8, len(b) - 1} {
		if err := got.UnmarshalBinary(b[:n]); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, id); s != "[redacted]" {
			t.Errorf("%s: got %s", verb, s)
		}
	}
}

func TestSigners(t *testing.T) {
	id := newIdentity(t)
	lines := "# hosts\n\n" + id.SignerLine("a.example", seal.AES256GCM) + "\r\n  " + id.SignerLine("b", seal.SM4GCM) + "  "
	ks, err := seal.ParseSigners(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	if len(ks) != 2 || ks[0].Host != "a.example" || ks[1].Host != "b" {
		t.Fatalf("got %v", ks)
	}
	for i, s := range suites {
		if ks[i].Suite != s || !bytes.Equal(ks[i].Public, id.Public(s)) || ks[i].Signer() != id.Signer(s) {
			t.Errorf("%s: got %v", s, ks[i])
		}
	}
	off := id.Public(seal.SM4GCM)
	off[64] ^= 1
	key := base64.StdEncoding.EncodeToString(id.Public(seal.AES256GCM))
	bad := []string{
		"host ed25519",
		"host ed25519 " + key + " more",
		"host rsa " + key,
		"host sm2 " + key,
		"host ed25519 " + key[:43],
		"host ed25519 " + key[:40],
		"host sm2 " + base64.StdEncoding.EncodeToString(off),
	}
	ks, err = seal.ParseSigners(strings.NewReader(strings.Join(append(bad, "h ed25519 "+key), "\n")))
	if err == nil || ks != nil {
		t.Fatalf("got %v", ks)
	}
	if got := strings.Count(err.Error(), "line "); got != len(bad) {
		t.Errorf("got %d faults, want %d: %v", got, len(bad), err)
	}
}

// zstdOf returns n bytes of zero, compressed with and without their length.
func zstdOf(t testing.TB, n int) (known, unknown []byte) {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	known = w.EncodeAll(make([]byte, n), nil)
	var b bytes.Buffer
	w.Reset(&b)
	for left := n; left > 0; {
		m, err := w.Write(make([]byte, min(left, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		left -= m
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return known, b.Bytes()
}

func TestDecompress(t *testing.T) {
	some, _ := zstdOf(t, 1000)
	most, mostUnknown := zstdOf(t, seal.MaxDecompressed)
	more, moreUnknown := zstdOf(t, seal.MaxDecompressed+1)
	half, halfUnknown := zstdOf(t, seal.MaxDecompressed/2)
	w, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	var wide bytes.Buffer
	w.Reset(&wide)
	w.Write(make([]byte, 1000))
	w.Flush()
	w.Write(make([]byte, 1000))
	w.Close()
	for name, v := range map[string]struct {
		codec   uint8
		content []byte
		n       int // bytes it decompresses to
		want    error
	}{
		"none":                    {seal.CodecNone, []byte("abc"), 3, nil},
		"none, empty":             {seal.CodecNone, nil, 0, nil},
		"none, most":              {seal.CodecNone, make([]byte, seal.MaxDecompressed), seal.MaxDecompressed, nil},
		"none, more":              {seal.CodecNone, make([]byte, seal.MaxDecompressed+1), 0, seal.ErrTooLarge},
		"some":                    {seal.CodecZstd, some, 1000, nil},
		"two frames":              {seal.CodecZstd, append(bytes.Clone(some), some...), 2000, nil},
		"most":                    {seal.CodecZstd, most, seal.MaxDecompressed, nil},
		"most, length unknown":    {seal.CodecZstd, mostUnknown, seal.MaxDecompressed, nil},
		"more":                    {seal.CodecZstd, more, 0, seal.ErrTooLarge},
		"more, length unknown":    {seal.CodecZstd, moreUnknown, 0, seal.ErrTooLarge},
		"more in frames":          {seal.CodecZstd, bytes.Join([][]byte{half, half, some}, nil), 0, seal.ErrTooLarge},
		"more in frames, unknown": {seal.CodecZstd, bytes.Join([][]byte{halfUnknown, halfUnknown, some}, nil), 0, seal.ErrTooLarge},
		"window too wide":         {seal.CodecZstd, wide.Bytes(), 0, seal.ErrTooLarge},
		"empty":                   {seal.CodecZstd, nil, 0, seal.ErrDecompress},
		"garbage":                 {seal.CodecZstd, []byte("garbage"), 0, seal.ErrDecompress},
		"cut":                     {seal.CodecZstd, some[:len(some)-1], 0, seal.ErrDecompress},
		"garbage behind":          {seal.CodecZstd, append(bytes.Clone(some), 1), 0, seal.ErrDecompress},
		"codec":                   {2, some, 0, seal.ErrDecompress},
	} {
		b, err := seal.Decompress(v.codec, v.content)
		if !errors.Is(err, v.want) || len(b) != v.n {
			t.Errorf("%s: got %d bytes, error %v, want %d, %v", name, len(b), err, v.n, v.want)
		}
	}
}
