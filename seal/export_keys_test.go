package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"reflect"
	"time"
	"unsafe"

	"github.com/emmansun/gmsm/sm4"
)

// KeyDefaults returns what a zero KeyOptions means.
func KeyDefaults() KeyOptions { return KeyOptions{}.withDefaults() }

// A Taken is a data key between take and release.
type Taken = dataKey

func (ks *Keys) Take(ctx context.Context, n int) (*Taken, error) { return ks.take(ctx, n) }

// SetRandom replaces the source of jitter; before Run only.
func (ks *Keys) SetRandom(f func() float64) { ks.life.random = f }

// Wall returns now by the wall clock, as ks reads it.
func (ks *Keys) Wall(now time.Time) time.Time { return ks.life.wall(now) }

// Stray takes the steps that the table does not have, and returns those that
// do not panic.
func Stray() (taken []string) {
	for from := Init; from <= Paused; from++ {
		for c := asked; c <= spent; c++ {
			if _, ok := table[from][c]; ok {
				continue
			}
			func() {
				defer func() {
					if recover() == nil {
						taken = append(taken, from.String()+": "+causes[c])
					}
				}()
				(&life{phase: from}).on(time.Now(), c)
			}()
		}
	}
	return taken
}

// SetSkew has the wall clock be off by what f returns; before Run only.
func (ks *Keys) SetSkew(f func() time.Duration) {
	ks.life.wall = func(now time.Time) time.Time { return now.Round(0).Add(f()) }
}

func (k *dataKey) DEK() []byte     { return k.dek() }
func (k *dataKey) ID() [16]byte    { return k.id }
func (k *dataKey) Section() []byte { return k.section }
func (k *dataKey) Release()        { k.release() }

// A Step is a step of the state machine, in words.
type Step struct{ From, Cause, Next, Do string }

// Steps returns the state machine's table.
func Steps() (steps []Step) {
	for from := Init; from <= Paused; from++ {
		for c := asked; c <= spent; c++ {
			if s, ok := table[from][c]; ok {
				steps = append(steps, Step{from.String(), causes[c], s.next.String(), actions[s.do]})
			}
		}
	}
	return steps
}

var (
	causes = [...]string{
		asked: "a call begins", alive: "a data key", outage: "outage", throttled: "throttled", misfit: "misfit",
		suspected: "revoked, first", revoked: "revoked, confirmed", aged: "too old", spent: "used up",
	}
	actions = [...]string{keep: "", take: "take", prove: "prove", wipe: "wipe"}
)

// HeaderBytes returns the encoding of e's header.
func HeaderBytes(e *Envelope) []byte { return e.header }

// EnvelopeKey returns the AEAD key of the envelope with this header.
func EnvelopeKey(s Suite, dek, header []byte) []byte { return s.derive(dek, header).key }

// HMACState returns the state of the suite's hash behind a block of HMAC's pad,
// as the hash holds it.
func HMACState(s Suite, masked []byte, pad byte) []byte {
	h := s.newHash()
	h.Write(append(bytes.Clone(masked), bytes.Repeat([]byte{pad}, 64-len(masked))...))
	return unsafe.Slice((*byte)(reflect.ValueOf(h).UnsafePointer()), 32) // its first field
}

// RoundKeys returns pieces of what the suite's block cipher makes of key, as it
// holds them.
func RoundKeys(s Suite, key []byte) [][]byte {
	var b cipher.Block
	var err error
	if s == SM4GCM {
		b, err = sm4.NewCipher(key)
	} else {
		b, err = aes.NewCipher(key)
	}
	if err != nil {
		panic(err)
	}
	v := reflect.ValueOf(b)
	all := unsafe.Slice((*byte)(v.UnsafePointer()), v.Elem().Type().Size())
	var pieces [][]byte
	for at := 8; at+32 <= len(all) && len(pieces) < 6; at += 40 {
		if !bytes.Equal(all[at:at+32], make([]byte, 32)) {
			pieces = append(pieces, all[at:at+32])
		}
	}
	return pieces
}
