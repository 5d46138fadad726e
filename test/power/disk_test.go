package power_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// What QEMU's driver blklogwrites writes is the log of the kernel's
// dm-log-writes: a super block, then an entry of one sector and its data per
// request. All numbers are little-endian, and count sectors of 512 bytes.
const (
	sector     = 512
	block      = 4096
	logMagic   = 0x6a736677736872
	flagFlush  = 1
	flagFUA    = 2
	flagNoData = 4 // discard
)

type request struct {
	at, sectors int64
	flags       uint64
	data        int64 // where it is in the log
}

// readLog returns the requests in the order the disk was done with them. The
// plug may have been pulled within the last.
func readLog(f *os.File) (requests []request, err error) {
	var b [sector]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return nil, err
	}
	if got := binary.LittleEndian.Uint64(b[:]); got != logMagic {
		return nil, fmt.Errorf("%s: magic %#x", f.Name(), got)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	for at := int64(sector); at+sector <= info.Size(); {
		if _, err := f.ReadAt(b[:], at); err != nil {
			return nil, err
		}
		r := request{
			at:      int64(binary.LittleEndian.Uint64(b[0:])),
			sectors: int64(binary.LittleEndian.Uint64(b[8:])),
			flags:   binary.LittleEndian.Uint64(b[16:]),
			data:    at + sector,
		}
		at += sector
		if r.flags&flagNoData == 0 {
			at += r.sectors * sector
		}
		if r.flags == 0 && r.sectors == 0 || at > info.Size() {
			break
		}
		requests = append(requests, r)
	}
	return requests, nil
}

// losePower makes of disk, which is as it was before the first of requests,
// what a disk with a volatile cache may hold after the last: all that was
// flushed, and of each request after the last flush the blocks that chance
// keeps. A block of 4 KiB is kept whole or not at all: on less, ext4's journal
// is corrupt with its commit block torn, which is no fault of the agent's.
func losePower(disk, log *os.File, requests []request, chance *rand.Rand) (kept, lost int, err error) {
	flushed := 0
	for i, r := range requests {
		if r.flags&flagFlush != 0 {
			flushed = i + 1
		}
	}
	for i, r := range requests {
		if r.flags&flagNoData != 0 || r.sectors == 0 {
			continue
		}
		data := make([]byte, r.sectors*sector)
		if _, err := log.ReadAt(data, r.data); err != nil {
			return 0, 0, err
		}
		if i < flushed || r.flags&flagFUA != 0 {
			if _, err := disk.WriteAt(data, r.at*sector); err != nil {
				return 0, 0, err
			}
			continue
		}
		for len(data) > 0 {
			n := min(int64(len(data)), block-r.at*sector%block)
			if chance.IntN(2) == 0 {
				lost++
			} else {
				kept++
				if _, err := disk.WriteAt(data[:n], r.at*sector); err != nil {
					return 0, 0, err
				}
			}
			data = data[n:]
			r.at += n / sector
		}
	}
	return kept, lost, disk.Sync()
}

// copySparse copies a disk and leaves its holes.
func copySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	const seekData, seekHole = 3, 4
	for at := int64(0); ; {
		from, err := in.Seek(at, seekData)
		if err != nil {
			return out.Close() // no data beyond
		}
		if at, err = in.Seek(from, seekHole); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, from), io.NewSectionReader(in, from, at-from)); err != nil {
			return err
		}
	}
}
