package emul

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxRaw is what a body may have uncompressed.
const maxRaw = 10 << 20

var errCompressed = errors.New("not compressed like this")

func newZstd() (*zstd.Encoder, *zstd.Decoder) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic("emul: " + err.Error())
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxRead), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("emul: " + err.Error())
	}
	return e, d
}

// compressions are the names that x-log-compresstype and Accept-Encoding have.
func compressions() []string { return []string{"lz4", "zstd", "gzip", "deflate"} }

// decompress returns exactly size bytes, or an error.
func (s *Server) decompress(kind string, b []byte, size int) ([]byte, error) {
	raw := make([]byte, 0, size+1) // one more, so that more shows
	switch kind {
	case "":
		raw = b
	case "lz4":
		n, err := lz4.UncompressBlock(b, raw[:size+1])
		if err != nil {
			return nil, errCompressed
		}
		raw = raw[:n]
	case "zstd":
		var err error
		if raw, err = s.decoder.DecodeAll(b, raw); err != nil {
			return nil, errCompressed
		}
	case "gzip", "deflate":
		var r io.Reader
		var err error
		if kind == "gzip" {
			r, err = gzip.NewReader(bytes.NewReader(b))
		} else {
			r, err = zlib.NewReader(bytes.NewReader(b))
		}
		if err != nil {
			return nil, errCompressed
		}
		if raw, err = io.ReadAll(io.LimitReader(r, int64(size)+1)); err != nil {
			return nil, errCompressed
		}
	default:
		return nil, fmt.Errorf("compression %q is not offered", kind)
	}
	if len(raw) != size {
		return nil, errCompressed
	}
	return raw, nil
}

// compress compresses with what a client accepts, best first. It returns ""
// where that is nothing.
func (s *Server) compress(accept string, raw []byte) (kind string, b []byte) {
	var accepted []string
	for name := range strings.SplitSeq(accept, ",") {
		name, _, _ = strings.Cut(name, ";")
		accepted = append(accepted, strings.TrimSpace(name))
	}
	for _, kind = range compressions() {
		if !slices.Contains(accepted, kind) {
			continue
		}
		switch kind {
		case "lz4":
			return kind, compressLZ4(raw)
		case "zstd":
			return kind, s.encoder.EncodeAll(raw, nil)
		}
		var out bytes.Buffer
		var w io.WriteCloser = gzip.NewWriter(&out)
		if kind == "deflate" {
			w = zlib.NewWriter(&out)
		}
		w.Write(raw) // a bytes.Buffer takes all
		w.Close()
		return kind, out.Bytes()
	}
	return "", raw
}

// compressLZ4 returns one block, of literals alone where nothing is gained.
func compressLZ4(raw []byte) []byte {
	out := make([]byte, lz4.CompressBlockBound(len(raw)))
	if n, err := lz4.CompressBlock(raw, out, nil); err == nil && n > 0 {
		return out[:n]
	}
	n := len(raw)
	if n < 15 {
		return append([]byte{byte(n << 4)}, raw...)
	}
	out = append(out[:0], 0xf0)
	for n -= 15; n >= 255; n -= 255 {
		out = append(out, 255)
	}
	return append(append(out, byte(n)), raw...)
}
