package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"time"

	"sealtail/seal/internal/schedule"
	"sealtail/seal/internal/sm"
)

// ChainOptions are what a [Chain] needs.
type ChainOptions struct {
	Identity *Identity
	Keys     *Keys // of the same suite and context
	Suite    Suite
	Context  []byte // see [EncodeContext]

	Head  *Head  // the envelope to go on from; nil = a new stream
	Epoch uint64 // higher than Head's; 0 = the time in Unix ns, or one more than Head's if that is later

	SM4Engine string // "emmansun" (also "") or "tjfoc", which is slower
}

// A Chain seals the envelopes of one stream, in one epoch. Process start, a
// change of suite and a change of key policy each take a new Chain from the
// old one's head. It is NOT safe for concurrent use; many Chains may share
// Keys and Identity. Use [NewChain].
type Chain struct {
	identity *Identity
	keys     *Keys
	aead     func(key []byte) (*schedule.AEAD, error)
	public   []byte
	salt     func(b []byte)

	next  Header // of the next envelope, but for what differs from one to the other
	head  Head   // the newest envelope; zero = none
	ended bool   // by Final
}

// NewChain returns a chain that goes on from o.Head, or begins a stream.
func NewChain(o ChainOptions) (*Chain, error) {
	if !o.Suite.valid() {
		return nil, fmt.Errorf("no %s", o.Suite)
	}
	if _, err := ParseContext(o.Context); err != nil {
		return nil, err
	}
	if o.Keys.suite != o.Suite || !bytes.Equal(o.Keys.context, o.Context) {
		return nil, errors.New("data keys are of another suite or context")
	}
	c := &Chain{
		identity: o.Identity,
		keys:     o.Keys,
		aead:     o.Suite.aead,
		public:   o.Identity.Public(o.Suite),
		salt:     func(b []byte) { rand.Read(b) }, // never fails
		next: Header{
			Suite:   o.Suite,
			Epoch:   o.Epoch,
			Signer:  o.Identity.Signer(o.Suite),
			Context: bytes.Clone(o.Context),
		},
	}
	switch {
	case o.SM4Engine != "" && o.SM4Engine != "emmansun" && o.SM4Engine != "tjfoc":
		return nil, fmt.Errorf("no SM4 engine is called %q: there are emmansun and tjfoc", o.SM4Engine)
	case o.SM4Engine == "tjfoc" && o.Suite == SM4GCM:
		c.aead = sm.NewSecondGCM
	}
	if c.next.Epoch == 0 {
		c.next.Epoch = uint64(max(0, time.Now().UnixNano()))
		if o.Head != nil && o.Head.Epoch < math.MaxUint64 {
			c.next.Epoch = max(c.next.Epoch, o.Head.Epoch+1)
		}
	}
	if o.Head == nil {
		rand.Read(c.next.StreamID[:])
		c.next.Flags = Genesis
		return c, nil
	}
	if c.next.Epoch <= o.Head.Epoch {
		return nil, fmt.Errorf("epoch %d does not follow epoch %d", c.next.Epoch, o.Head.Epoch)
	}
	c.head = *o.Head
	c.next.StreamID, c.next.Prev = o.Head.StreamID, o.Head.Digest
	return c, nil
}

// StreamID returns the stream's id.
func (c *Chain) StreamID() [16]byte { return c.next.StreamID }

// Epoch returns the chain's epoch.
func (c *Chain) Epoch() uint64 { return c.next.Epoch }

// Head returns the newest envelope, or the zero Head before a stream's first.
func (c *Chain) Head() Head { return c.head }

// Seal returns the stream's next envelope. It lies in buf, written over, or in a
// longer array where buf has no room; the caller owns either. Seal waits while
// there is no data key: see [Keys.Pauses]. An error is final, or ctx has
// ended; the chain then is as before. With an ended ctx Seal succeeds just if
// it need not wait.
//
// kind is 0, [Final], [Heartbeat] or both; nothing can be sealed after Final.
// first and last are the times of the oldest and newest record in Unix ns,
// rounded down here to whole seconds; a Heartbeat gets the time of sealing.
// content is a LogGroupList in codec, at most [MaxContent] bytes, and empty
// for a Heartbeat. Seal does not keep it.
func (c *Chain) Seal(ctx context.Context, buf []byte, kind Flags, first, last int64, codec uint8, content []byte) (env []byte, err error) {
	switch {
	case c.ended:
		return nil, errors.New("epoch has ended")
	case kind&^(Final|Heartbeat) != 0 || codec > CodecZstd:
		return nil, fmt.Errorf("cannot seal kind %#02x with codec %d", uint8(kind), codec)
	case kind&Heartbeat != 0 && (codec != CodecNone || len(content) > 0):
		return nil, errors.New("heartbeat with content")
	case len(content) > MaxContent:
		return nil, fmt.Errorf("content of %d bytes does not fit an envelope", len(content))
	}
	k, err := c.keys.take(ctx, len(content))
	if err != nil {
		return nil, err
	}
	defer k.release()

	h := c.next
	h.Flags |= kind
	h.Codec = codec
	h.DEKID = k.id
	if kind&Heartbeat != 0 {
		first = time.Now().UnixNano()
		last = first
	}
	h.First, h.Last = wholeSecond(first), max(wholeSecond(first), wholeSecond(last))
	c.salt(h.Salt[:])
	s := sealing{
		dek:     k.dek(),
		section: k.section,
		public:  c.public,
		aead:    c.aead,
		sign:    func(message []byte) ([]byte, error) { return c.identity.sign(h.Suite, message) },
	}
	env, digest, err := s.seal(buf, &h, content)
	if err != nil {
		return nil, err
	}
	c.head = Head{h.StreamID, h.Epoch, h.Seq, digest, h.Suite, h.Last}
	c.next.Flags, c.next.Prev, c.next.Seq = 0, digest, h.Seq+1
	c.ended = kind&Final != 0
	return env, nil
}

// wholeSecond rounds ns down to a second, and up to 1970.
func wholeSecond(ns int64) int64 {
	ns = max(0, ns)
	return ns - ns%int64(time.Second)
}
