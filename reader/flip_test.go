package reader_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"sealtail/reader"
	"sealtail/seal"
)

// TestOneFlippedByte flips each byte of a file in turn. Verify reports it just
// once, at the envelope that it lies in; inside a key section Open does.
func TestOneFlippedByte(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			h := newHost(t)
			envs, _ := h.run(suite, nil, 1, 5, true)
			items := [][]byte{envs[0], envs[1], stub(t, envs[2]), envs[3], envs[4]}
			file := bytes.Join(items, nil)
			step := 1
			if testing.Short() || suite == seal.SM4GCM { // its signatures cost four times as much
				step = 7
			}
			at := 0
			for i, item := range items {
				keys := keySection(t, item)
				for off := 0; off < len(item); off += step {
					mask := []byte{0x01, 0xff, 0x80, 0x10}[off%4]
					bad := slices.Clone(file)
					bad[at+off] ^= mask
					if msg := checkFlip(t, h, bad, i, at, keys[0] <= off && off < keys[1]); msg != "" {
						t.Errorf("byte %d of item %d ^ %#x: %s", off, i, mask, msg)
					}
				}
				at += len(item)
			}
		})
	}
}

// keySection returns where it begins and ends, zeros if there is none.
func keySection(t *testing.T, item []byte) (at [2]int) {
	t.Helper()
	e, err := seal.Parse(item)
	if err != nil {
		return at
	}
	end := len(item) - len(e.Signature) - len(e.PublicKey) - 1 - len(e.Payload)
	return [2]int{170 + len(e.Context) + 32, end}
}

// checkFlip says what is wrong about what is reported of the file, of which
// item i, that begins at the offset, was changed.
func checkFlip(t *testing.T, h *host, file []byte, i, offset int, inKeys bool) string {
	r := read(t, reader.Options{}, file)
	rep := r.Verify()
	grave := graveFindings(rep)
	if inKeys && len(grave) == 0 {
		open(t, r, h.keyring)
		grave = graveFindings(rep)
	}
	var got []reader.Finding
	for _, f := range grave {
		if len(f.Places) == 1 && f.Places[0].Offset == int64(offset) {
			got = append(got, f)
		}
	}
	switch {
	case len(got) != 1 || len(grave) != 1:
		return fmt.Sprintf("item %d: got %v, want one finding at %d", i, grave, offset)
	case rep.ExitCode(false) != reader.ExitTampered:
		return fmt.Sprintf("exit %d, want %d", rep.ExitCode(false), reader.ExitTampered)
	}
	return ""
}

// graveFindings are all that are no information, but for the stub that the
// file has.
func graveFindings(rep *reader.Report) (fs []reader.Finding) {
	for f := range rep.All {
		switch f.Kind.ExitCode() {
		case reader.ExitSound, reader.ExitSilent:
		default:
			if f.Kind != reader.Parked {
				fs = append(fs, f)
			}
		}
	}
	return fs
}
