package reader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"sealtail/seal"
)

// What an input can begin with, besides an envelope.
const (
	magicStart   = "\x89S" // of an envelope, a stub and a file of keys
	magicStub    = "\x89SP1"
	magicKeys    = "\x89SK1"
	base64Start  = "iVNF" // of an envelope in base64
	stubOverhead = len(magicStub) + 4
	maxStub      = 4096 + 32 + 32 + 1 + 65 + 64
	maxKeyFile   = 64 << 20
)

// lookahead is what the window holds at least of an input that is long enough:
// the longest item, and the longest that may begin inside of it.
const lookahead = 2 * seal.MaxEnvelope

// A Fault says what is wrong with a run of bytes.
type Fault string

const (
	Sound     Fault = ""        // nothing
	IsForged  Fault = "forged"  // an envelope or stub whose signature does not fit
	IsDamaged Fault = "damaged" // no envelope, up to where the next begins
	IsTorn    Fault = "torn"    // the last envelope of a file, cut short: its writer died
)

const (
	whyTorn      = "the last envelope is cut short"
	whyUnwritten = "zeros at the end, which a crash leaves of what never reached the disk"
)

// An Item is one run of bytes of an input. Of Envelope, Stub and Keys at most
// one is set: the last two only of a sound item, Envelope or Stub also of a
// forged one, which claims what it claims. Slices alias the scanner's memory
// until the next Item.
type Item struct {
	Offset, Size int64
	Envelope     *seal.Envelope
	Stub         *seal.Stub
	Keys         []seal.RewrappedKey
	Fault        Fault
	Why          string // more about the fault
}

// Scan divides an input into items and hands them to yield, in order: together
// they are all of its bytes. Signatures are verified. After damage it goes on
// at the next offset where an envelope or stub parses and its signature fits.
// Memory is bounded whatever the input. The error is in's or yield's.
func Scan(in io.Reader, yield func(Item) error) error {
	s := &scanner{in: in}
	return s.scan(yield)
}

// Memory of a scanner, at first and at most: a multiple of its lookahead.
const (
	minScanMemory = 64 << 10
	maxScanMemory = 8 << 20
)

func (s *scanner) scan(yield func(Item) error) error {
	if err := s.fill(lookahead); err != nil {
		return err
	}
	if bytes.HasPrefix(s.b, []byte(magicKeys)) {
		it, err := s.keys()
		if err != nil {
			return err
		}
		return yield(it)
	}
	for {
		if err := s.fill(lookahead); err != nil {
			return err
		}
		if len(s.b) == 0 {
			return nil
		}
		it, err := s.next()
		if err != nil {
			return err
		}
		if err := yield(it); err != nil {
			return err
		}
	}
}

// A scanner holds a window on its input.
type scanner struct {
	in  io.Reader
	mem []byte
	b   []byte // the window: what is read and not consumed, within mem
	off int64  // of b in the input
	eof bool   // the input ends with b
}

// fill reads until the window holds n bytes or the input ends.
func (s *scanner) fill(n int) error {
	if len(s.b) >= n || s.eof {
		return nil
	}
	if s.off > 0 && len(s.mem) < maxScanMemory {
		s.grow(maxScanMemory) // a long input: the more is read at once, the less is copied
	} else {
		s.b = s.mem[:copy(s.mem, s.b)]
	}
	for len(s.b) < n {
		if len(s.b) == len(s.mem) {
			s.grow(max(2*len(s.mem), minScanMemory))
		}
		got, err := s.in.Read(s.mem[len(s.b):])
		s.b = s.mem[:len(s.b)+got]
		if err == io.EOF {
			s.eof = true
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) grow(size int) {
	s.mem = make([]byte, size)
	s.b = s.mem[:copy(s.mem, s.b)]
}

func (s *scanner) skip(n int) {
	s.b = s.b[n:]
	s.off += int64(n)
}

// keys reads the whole input as a file of re-wrapped keys.
func (s *scanner) keys() (Item, error) {
	b, err := io.ReadAll(io.LimitReader(io.MultiReader(bytes.NewReader(s.b), s.in), maxKeyFile+1))
	if err != nil {
		return Item{}, err
	}
	it := Item{Size: int64(len(b))}
	if len(b) > maxKeyFile {
		n, err := io.Copy(io.Discard, s.in)
		it.Size += n
		it.Fault, it.Why = IsDamaged, "file of re-wrapped keys too long"
		return it, err
	}
	it.Keys, err = seal.ParseKeyFile(b)
	if err != nil {
		it.Fault, it.Why = IsDamaged, "file of re-wrapped keys: "+err.Error()
	}
	return it, nil
}

// next takes the item that the window begins with.
func (s *scanner) next() (Item, error) {
	it, err := parse(s.b)
	it.Offset = s.off
	switch {
	case err == nil:
	case errors.Is(err, seal.ErrForged) && s.ends(int(it.Size)):
		it.Fault, it.Why = IsForged, "signature does not fit"
		if int(it.Size) == len(s.b) && unwritten(s.b, s.off) {
			it.Fault, it.Why = IsTorn, whyUnwritten
		}
	default:
		return s.damaged(err)
	}
	s.skip(int(it.Size))
	return it, nil
}

// ends reports whether the forged item of the first n bytes is just that: no
// genuine one begins inside of it, and behind it the input ends or goes on as
// an item does. Else its lengths are no more to be believed than the rest.
func (s *scanner) ends(n int) bool {
	window := s.b
	for i := 1; i < n; i++ {
		j := bytes.Index(window[i:n], []byte(magicStart))
		if j < 0 {
			break
		}
		i += j
		if _, err := parse(window[i:]); err == nil {
			return false
		}
	}
	if len(window) == n {
		return s.eof
	}
	_, err := parse(window[n:])
	return err == nil || errors.Is(err, seal.ErrForged) || errors.Is(err, seal.ErrTorn)
}

// damaged takes the bytes up to the next genuine item, or to the end.
func (s *scanner) damaged(why error) (Item, error) {
	it := Item{Offset: s.off, Fault: IsDamaged, Why: why.Error()}
	if bytes.HasPrefix(bytes.TrimSpace(s.b[:min(len(s.b), 64)]), []byte(base64Start)) {
		it.Why = "base64-encoded: decode it first"
	}
	if errors.Is(why, seal.ErrForged) {
		it.Why = "neither signature nor lengths fit"
	}
	rest, whole := s.b, s.eof // of the input, if whole
	for from := 1; ; {
		i := bytes.Index(s.b[min(from, len(s.b)):], []byte(magicStart))
		if i < 0 && s.eof {
			s.skip(len(s.b))
			break
		}
		if i < 0 {
			s.skip(len(s.b) - len(magicStart) + 1)
			if err := s.fill(lookahead); err != nil {
				return it, err
			}
			from = 0
			continue
		}
		s.skip(from + i)
		if err := s.fill(lookahead); err != nil {
			return it, err
		}
		if _, err := parse(s.b); err == nil {
			break
		}
		from = 1
	}
	it.Size = s.off - it.Offset
	switch {
	case !whole || len(s.b) > 0:
	case torn(rest, why):
		it.Fault, it.Why = IsTorn, whyTorn
	case unwritten(rest, it.Offset):
		it.Fault, it.Why = IsTorn, whyUnwritten
	}
	return it, nil
}

// parse reads the envelope or stub that b begins with and verifies its
// signature. It returns what it could parse also with seal.ErrForged.
func parse(b []byte) (Item, error) {
	if len(b) > len(magicStart) && b[len(magicStart)] == magicStub[len(magicStart)] {
		return parseStub(b)
	}
	e, n, err := seal.ParsePrefix(b)
	if err != nil {
		return Item{}, err
	}
	return Item{Size: int64(n), Envelope: e}, e.Verify()
}

func parseStub(b []byte) (Item, error) {
	if m := min(len(b), len(magicStub)); string(b[:m]) != magicStub[:m] {
		return Item{}, fmt.Errorf("%w: no stub begins here", seal.ErrMalformed)
	}
	if len(b) < stubOverhead {
		return Item{}, seal.ErrTorn
	}
	n := uint64(binary.BigEndian.Uint32(b[len(magicStub):]))
	if n > maxStub {
		return Item{}, fmt.Errorf("%w: stub of %d bytes", seal.ErrMalformed, n)
	}
	b = b[stubOverhead:]
	short := uint64(len(b)) < n
	st, err := seal.ParseStub(b[:min(n, uint64(len(b)))])
	switch {
	case short && (err == nil || errors.Is(err, seal.ErrTorn)):
		return Item{}, seal.ErrTorn
	case err != nil && errors.Is(err, seal.ErrTorn):
		return Item{}, fmt.Errorf("%w: stub longer than its length says", seal.ErrMalformed)
	case err != nil:
		return Item{}, err
	}
	return Item{Size: int64(stubOverhead) + int64(n), Stub: st}, st.Verify()
}

// torn reports whether b, the rest of an input, which did not parse for the
// reason given, is the beginning of an item rather than a whole one with a
// changed length: a whole one ends with the public key of its signer.
func torn(b []byte, why error) bool {
	if !errors.Is(why, seal.ErrTorn) {
		return false
	}
	at := 0 // of the header
	if bytes.HasPrefix(b, []byte(magicStub)) {
		at = stubOverhead
	}
	if len(b) < at+168 {
		return true
	}
	suite, signer := seal.Suite(b[at+5]), [32]byte(b[at+136:])
	for _, size := range []int{32, 65} { // of the suites' public keys
		if n := len(b) - 64 - size; n > at+168 && int(b[n-1]) == size {
			k := seal.HostKey{Suite: suite, Public: b[n : n+size]}
			if k.Signer() == signer {
				return false
			}
		}
	}
	return true
}

// unwritten reports whether the bytes from offset on, the rest of an input,
// hold a page of zeros: what a crash leaves of a page that never reached the
// disk. Ciphertext holds none.
func unwritten(b []byte, offset int64) bool {
	const page = 4096
	for len(b) > 0 {
		n := min(len(b), page-int(offset%page))
		if n >= 4 && len(bytes.TrimLeft(b[:n], "\x00")) == 0 {
			return true
		}
		b, offset = b[n:], offset+int64(n)
	}
	return false
}
