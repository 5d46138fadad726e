package sls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"sealtail/sink"
)

var _ sink.Store = (*Store)(nil)

// A Store ships envelopes to the Logstore of a [Client]. It is safe for
// concurrent use.
type Store struct {
	c      *Client
	o      StoreOptions
	guard  guard
	key    keyState
	bodies *bodies
	every  time.Duration // roundEvery

	mu       sync.Mutex         // guards what follows
	ceiling  int                // of a LogGroup, raw
	plain    time.Time          // until then bodies go uncompressed
	skew     time.Duration      // of the service's clock, once it has refused this host's
	done     map[place]bool     // taken in a Put that has not returned nil yet
	refusals map[place]*refused // and not taken since
	state    State
	told     map[string]bool
}

// A State is how a [Store] stands.
type State struct {
	Class Class     // of the newest error; "" = none since an envelope was taken
	Text  string    // of it
	Since time.Time // of the first error since then
}

// A place tells the envelopes of a host apart.
type place struct {
	stream     [16]byte
	epoch, seq uint64
}

func (it *item) place() place { return place{it.StreamID, it.Epoch, it.Seq} }

const (
	maxPlaces    = 8192             // remembered in done and refusals
	rejectAfter  = 5                // refusals of an envelope alone whose stub is taken; see alone
	roundEvery   = 10 * time.Second // time between two of them
	maxFaults    = 16               // requests refused for what they hold in one Put that nothing was taken of
	plainFor     = time.Hour
	plainForGood = 100 * 365 * 24 * time.Hour
	lowerCeiling = 64 << 10
)

// NewStore returns a Store. It sends nothing yet.
func NewStore(c *Client, o StoreOptions) (*Store, error) {
	if o.Describe == nil || o.Stub == nil || o.DescribeStub == nil {
		return nil, errors.New("sls: Describe, Stub and DescribeStub must be set")
	}
	for what, s := range map[string]string{"topic": o.Topic, "source": o.Source} {
		if len(s) > maxName || !utf8.ValidString(s) {
			return nil, fmt.Errorf("%s %q: want at most %d bytes of UTF-8", what, s, maxName)
		}
	}
	if err := o.Encryption.check(); err != nil {
		return nil, err
	}
	if o.CheckEvery <= 0 {
		o.CheckEvery = time.Hour
	}
	s := &Store{
		c: c, o: o, key: keyState{ask: o.KeyState}, bodies: newBodies(), every: roundEvery, ceiling: maxRaw,
		done: map[place]bool{}, refusals: map[place]*refused{}, told: map[string]bool{},
	}
	s.guard.turn = make(chan struct{}, 1)
	return s, nil
}

// State returns how s stands.
func (s *Store) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Put ships envelopes, in as many requests as they need. An error is a
// [*sink.RejectedError], an [*Error] or ctx's.
func (s *Store) Put(ctx context.Context, envs [][]byte) error {
	items := make([]item, len(envs))
	for i, env := range envs {
		c, err := s.o.Describe(env)
		if err != nil {
			return &sink.RejectedError{Why: "malformed", Err: err}
		}
		items[i] = item{Carrier: c, version: versionEnvelope, sealed: env}
	}
	err := s.ship(ctx, items)
	if err == nil {
		s.forget(items)
	}
	return err
}

// PutStub ships a stub. It never rejects one: a service that takes neither an
// envelope nor its stub has trouble of another kind.
func (s *Store) PutStub(ctx context.Context, stub []byte, why string) error {
	c, err := s.o.DescribeStub(stub)
	if err != nil {
		return &sink.RejectedError{Why: "malformed", Err: err}
	}
	return s.ship(ctx, []item{{Carrier: c, version: versionStub, why: clean(why, maxWhy-len("…")), sealed: stub}})
}

// ship sends items, and notes how that went.
func (s *Store) ship(ctx context.Context, items []item) error {
	err := s.guard.check(ctx, s)
	if err == nil {
		err = s.all(ctx, items)
	}
	var rejected *sink.RejectedError
	var e *Error
	if !errors.As(err, &rejected) && errors.As(err, &e) {
		if e.Class == CMK {
			e.Hint += s.whichCMK()
		}
		if e.Class == Absent {
			s.guard.void(ctx)
		}
		s.note(e)
	}
	return err
}

func (s *Store) whichCMK() string {
	if e := s.o.Encryption; e.CMK != "" {
		return fmt.Sprintf(": CMK %s, role %s", e.CMK, e.RoleARN)
	}
	return ": it should have none, but the key of the service"
}

// all sends items in requests that fit. The first after an error is small: it
// tells whether the service takes anything. Behind one that is refused for
// what it holds the others are sent still.
func (s *Store) all(ctx context.Context, items []item) (err error) {
	faults := 0
	for len(items) > 0 {
		n := s.fit(items)
		if n == 0 { // taken already
			items = items[1:]
			continue
		}
		switch fault := s.send(ctx, items[:n]); {
		case fault == nil:
			faults = 0
		case !ownFault(fault):
			return fault
		default:
			err = worse(err, fault)
			if faults++; faults == maxFaults {
				return err
			}
		}
		items = items[n:]
	}
	return err
}

// fit returns how many of items go into the next request; 0 = the first is
// taken already.
func (s *Store) fit(items []item) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	size := field(len(s.o.Topic)) + field(len(s.o.Source))
	for i := range items {
		size += field(items[i].size(now))
		switch {
		case s.taken(&items[i]):
			return i
		case i > 0 && (size > s.ceiling || i == maxLogs || s.state.Class != ""):
			return i
		}
	}
	return len(items)
}

// taken reports whether the service has taken it already; s.mu is held.
func (s *Store) taken(it *item) bool { return it.version == versionEnvelope && s.done[it.place()] }

// now returns the ship time; s.mu is held.
func (s *Store) now() uint32 { return uint32(time.Now().Add(s.skew).Unix()) }

// post sends items in one request, once, and returns their size and, if they
// are taken, the service's clock less this host's.
func (s *Store) post(ctx context.Context, items []item, plain bool) (size int, skew time.Duration, err error) {
	s.mu.Lock()
	g := logGroup{items, s.now(), s.o.Topic, s.o.Source}
	s.mu.Unlock()
	size = g.size()
	r := request{
		op: "put", method: "POST", uri: s.c.logstore("/shards/lb"),
		header: map[string]string{"Content-Type": "application/x-protobuf"},
		raw:    size, readers: new(atomic.Int32), empty: true, noCMK: s.o.Encryption.CMK == "",
	}
	var body *bytes.Buffer
	if plain {
		body = s.bodies.plain(&g, size)
	} else {
		r.header["x-log-compresstype"] = "zstd"
		body = s.bodies.packed(&g, size)
	}
	r.body = body.Bytes()
	a, err := s.c.do(ctx, r)
	if err == nil {
		skew = a.skew
	}
	if r.readers.Load() == 0 {
		s.bodies.done(body)
	}
	return size, skew, err
}

// took notes that the service has taken items, and told its clock's skew.
// refusedAs is the code by which it refused them compressed; "" = it did not.
func (s *Store) took(items []item, refusedAs string, skew time.Duration) {
	s.mu.Lock()
	first := refusedAs != ""
	if first {
		s.plain = time.Now().Add(plainFor)
		if strings.EqualFold(refusedAs, "InvalidCompressType") || strings.EqualFold(refusedAs, "PostBodyUncompressError") {
			s.plain = time.Now().Add(plainForGood)
		}
	}
	s.state = State{}
	if s.skew != 0 {
		s.skew = skew // the clock may have been set
	}
	for i := range items {
		delete(s.refusals, items[i].place())
		if items[i].version == versionStub {
			continue
		}
		if len(s.done) >= maxPlaces {
			clear(s.done)
		}
		s.done[items[i].place()] = true
	}
	s.mu.Unlock()
	if first {
		s.tell("the service refused a body in zstd that it took uncompressed: envelopes go uncompressed")
	}
}

// forget ends a Put whose items are all taken.
func (s *Store) forget(items []item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range items {
		delete(s.done, items[i].place())
	}
}

func (s *Store) note(e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Class == "" {
		s.state.Since = time.Now()
	}
	s.state.Class, s.state.Text = e.Class, e.Error()
	if e.Class == CMK {
		clear(s.refusals) // it may have been that
	}
}

func (s *Store) lower(ceiling int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ceiling = max(min(s.ceiling, ceiling), lowerCeiling)
}

func (s *Store) skewed() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skew
}

func (s *Store) setSkew(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}

// tell passes a text on that was not told before.
func (s *Store) tell(text string) {
	s.mu.Lock()
	known := s.told[text]
	s.told[text] = true
	s.mu.Unlock()
	if !known && s.o.Tell != nil {
		s.o.Tell(text)
	}
}
