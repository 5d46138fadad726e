package sls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A Range says what [Client.Pull] reads: what the service received in
// [From, To). What a host shipped late was received late.
type Range struct {
	From time.Time // zero = from the oldest on
	To   time.Time // zero = up to what is there when the reading begins

	Shards []int // nil = all
}

// An Item is one log as it was pulled. Sealed is the caller's until yield
// returns.
type Item struct {
	Project, Logstore string // where it was found
	Shard             int
	Topic, Source     string
	Time              int64 // ship time, unix s

	Stub   bool
	Why    string  // of a stub: why its envelope is not here
	Fields Carrier // as shipped beside Sealed; to be compared with what it says
	Sealed []byte  // the envelope, or the stub; nil of a log that holds none

	// Err says what is wrong with the log, though it could be read. What
	// could be made out of it is there.
	Err error
}

const (
	pullGroups  = 4        // LogGroups asked for at a time
	pullMax     = 48 << 20 // of them, uncompressed: 4 of the service's greatest, and room
	pullTries   = 9        // of one request in an outage: 61 s of waits
	pullBackoff = 500 * time.Millisecond
	pullWait    = 15 * time.Second // the longest
)

// Pull reads the Logstore and calls yield for each log, shard by shard, in
// each as the service received them. It holds one answer of the service at a
// time. An outage is waited for, for up to a minute each time, and throttling
// for as long as it lasts. It ends with an error of yield, as it is, with an [*Error], or with
// ctx.
func (c *Client) Pull(ctx context.Context, r Range, yield func(*Item) error) error {
	if !r.To.IsZero() && !r.From.Before(r.To) {
		return nil
	}
	shards, err := c.shards(ctx)
	if err != nil {
		return err
	}
	if r.Shards != nil {
		for _, s := range r.Shards {
			if !slices.Contains(shards, s) {
				return &Error{Class: Absent, Op: "list shards", err: fmt.Errorf("there is no shard %d", s)}
			}
		}
		shards = r.Shards
	}
	p := &puller{c: c, yield: yield, accept: "zstd"}
	p.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(pullMax))
	if err != nil {
		return err
	}
	defer p.zstd.Close()
	// The ends first: what comes meanwhile belongs to a later reading.
	ends := make([]string, len(shards))
	for i, shard := range shards {
		if ends[i], err = c.cursor(ctx, shard, r.To, "end"); err != nil {
			return err
		}
	}
	for i, shard := range shards {
		from, err := c.cursor(ctx, shard, r.From, "begin")
		if err != nil {
			return err
		}
		if err := p.shard(ctx, shard, from, ends[i]); err != nil {
			return err
		}
	}
	return nil
}

// shards lists the shards, those that take no more writes included.
func (c *Client) shards(ctx context.Context) ([]int, error) {
	a, err := c.patiently(ctx, request{op: "list shards", method: "GET", uri: c.logstore("/shards")})
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID *int `json:"shardID"`
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		return nil, unreadable("list shards", err)
	}
	var ids []int
	for _, s := range list {
		if s.ID == nil {
			return nil, unreadable("list shards", errors.New("a shard without an id"))
		}
		ids = append(ids, *s.ID)
	}
	return ids, nil
}

// cursor returns where in a shard a time is; zero is otherwise.
func (c *Client) cursor(ctx context.Context, shard int, at time.Time, otherwise string) (string, error) {
	if !at.IsZero() {
		otherwise = strconv.FormatInt(at.Unix(), 10)
	}
	a, err := c.patiently(ctx, request{
		op: "get cursor", method: "GET",
		uri: c.logstore(fmt.Sprintf("/shards/%d?type=cursor&from=%s", shard, otherwise)),
	})
	if err != nil {
		return "", err
	}
	var said struct {
		Cursor string `json:"cursor"`
	}
	if err := json.Unmarshal(a.body, &said); err != nil || said.Cursor == "" {
		return "", unreadable("get cursor", errors.Join(err, errors.New("no cursor")))
	}
	return said.Cursor, nil
}

// patiently sends a request again while its trouble may pass: for as long as
// it is throttled, and through an outage of up to a minute.
func (c *Client) patiently(ctx context.Context, r request) (*answer, error) {
	outages := 0
	for try := 0; ; try++ {
		a, err := c.do(ctx, r)
		var e *Error
		if !errors.As(err, &e) {
			return a, err
		}
		switch e.Class {
		case Throttled:
		case Network, Transient:
			if outages++; outages < pullTries {
				break
			}
			fallthrough
		default:
			e.Hint = pullHint(e)
			return nil, e
		}
		select {
		case <-time.After(min(pullBackoff<<min(try, 10), pullWait)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pullHint is what a person can do about an error of reading.
func pullHint(e *Error) string {
	switch e.Class {
	case Absent:
		if e.Hint == hintProvision {
			return "mend project, logstore and region"
		}
	case Content, TooLarge:
		return ""
	}
	return e.Hint
}

func unreadable(op string, err error) *Error {
	return &Error{Class: Unknown, Op: op, err: fmt.Errorf("parse answer: %w", err)}
}

// A puller reads shards one after the other.
type puller struct {
	c      *Client
	yield  func(*Item) error
	zstd   *zstd.Decoder
	accept string // encoding of answers
	raw    []byte // an answer uncompressed; reused
	sealed []byte // of an item; reused
}

// shard reads a shard from a cursor to another.
func (p *puller) shard(ctx context.Context, shard int, from, to string) error {
	for stands := 0; from != to; {
		next, n, err := p.once(ctx, shard, from, to)
		if err != nil {
			return err
		}
		if next != from {
			from, stands = next, 0
			continue
		}
		if stands++; n > 0 || stands == pullTries {
			return unreadable("pull logs", errors.New("the cursor stands still before the end"))
		}
		select {
		case <-time.After(min(pullBackoff<<stands, pullWait)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// once pulls and yields once. It returns the next cursor and the number of
// LogGroups.
func (p *puller) once(ctx context.Context, shard int, from, to string) (next string, n int, err error) {
	const op = "pull logs"
	q := url.Values{
		"type": {"logs"}, "cursor": {from}, "end_cursor": {to}, "count": {strconv.Itoa(pullGroups)},
	}
	r := request{
		op: op, method: "GET", uri: p.c.logstore(fmt.Sprintf("/shards/%d?%s", shard, q.Encode())), limit: pullMax,
		header: map[string]string{"Accept": "application/x-protobuf", "Accept-Encoding": p.accept},
	}
	a, err := p.c.patiently(ctx, r)
	var e *Error
	if p.accept == "zstd" && errors.As(err, &e) && (e.Class == Config || e.Class == Content) {
		p.accept = "lz4" // of servers that know no other
		r.header["Accept-Encoding"] = p.accept
		a, err = p.c.patiently(ctx, r)
	}
	if err != nil {
		return "", 0, err
	}
	if next = a.header.Get("X-Log-Cursor"); next == "" {
		return "", 0, unreadable(op, errors.New("no cursor"))
	}
	if err := p.unpack(a); err != nil {
		return "", 0, unreadable(op, err)
	}
	err = eachGroup(p.raw, func(g group) error {
		n++
		for _, log := range g.logs {
			if err := p.log(ctx, shard, g, log); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errGroup) {
		err = unreadable(op, err)
	}
	return next, n, err
}

func (p *puller) log(ctx context.Context, shard int, g group, log []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	it := Item{
		Project: p.c.o.Project, Logstore: p.c.o.Logstore, Shard: shard,
		Topic: clean(string(g.topic), maxName), Source: clean(string(g.source), maxName),
	}
	it.Err = decodeLog(log, p.sealed, &it)
	if errors.Is(it.Err, errGroup) {
		return it.Err
	}
	if cap(it.Sealed) > cap(p.sealed) {
		p.sealed = it.Sealed
	}
	return p.yield(&it)
}

// unpack uncompresses an answer into p.raw.
func (p *puller) unpack(a *answer) (err error) {
	size, err := strconv.Atoi(a.header.Get("X-Log-Bodyrawsize"))
	if err != nil || size < 0 {
		return errors.New("no size")
	}
	if size > pullMax {
		return fmt.Errorf("%d bytes, more than %d", size, pullMax)
	}
	if size == 0 {
		p.raw = p.raw[:0]
		return nil
	}
	if cap(p.raw) < size {
		p.raw = make([]byte, size)
	}
	p.raw = p.raw[:size]
	n := 0
	switch kind := a.header.Get("X-Log-Compresstype"); strings.ToLower(kind) {
	case "":
		n = copy(p.raw, a.body)
		if len(a.body) > size {
			n = len(a.body)
		}
	case "lz4":
		n, err = lz4.UncompressBlock(a.body, p.raw)
	case "zstd":
		var b []byte
		b, err = p.zstd.DecodeAll(a.body, p.raw[:0])
		if n = len(b); n <= size {
			p.raw = p.raw[:copy(p.raw[:size], b)]
		}
	default:
		return fmt.Errorf("compressed by %q", clean(kind, 32))
	}
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes uncompressed, want %d", n, size)
	}
	return err
}
