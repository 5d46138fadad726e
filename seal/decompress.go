package seal

import (
	"errors"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// MaxDecompressed bounds what content may decompress to, in bytes. There is no
// bound on the ratio: real logs reach 4,600 : 1.
const MaxDecompressed = 16 << 20

// decoder is shared: it keeps scratch memory, no state, and no goroutine.
var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(2),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxDecompressed),
		zstd.WithDecoderMaxWindow(MaxDecompressed),
	)
})

// Decompress returns what content is in codec, at most [MaxDecompressed]
// bytes. It returns content itself where there is no codec. It is safe for
// concurrent use. The error is [ErrTooLarge] or [ErrDecompress].
func Decompress(codec uint8, content []byte) ([]byte, error) {
	switch codec {
	case CodecNone:
		if len(content) > MaxDecompressed {
			return nil, ErrTooLarge
		}
		return content, nil
	case CodecZstd:
		if len(content) == 0 { // no frame at all, which the decoder lets pass
			return nil, ErrDecompress
		}
		d, err := decoder()
		if err != nil {
			return nil, err
		}
		// The decoder's own words are left out: they are not ours to vouch for.
		switch b, err := d.DecodeAll(content, nil); {
		case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded), len(b) > MaxDecompressed:
			return nil, ErrTooLarge
		case err != nil:
			return nil, ErrDecompress
		default:
			return b, nil
		}
	}
	return nil, ErrDecompress
}
