package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"sealtail/record"
	"sealtail/seal"
	"sealtail/seal/keyring"
	"sealtail/sink/dir"
	"sealtail/spool"
)

// began is when the sealed host was started, and its epoch.
var began = time.Unix(1_000_000_000, 0).UTC() // 2001-09-09T01:46:40Z

// sealed is the command "sealed SUITE [long]": it makes what the stories read.
//
//	keyring.json    opens the envelopes; other.json does not
//	signers         names the host; other.signers another one
//	sealed/audit/   the envelopes, two in each file
//	0.env … 5.env   each of them: start and line 0, line 1, …, FINAL
//	again.env       line 0 and what follows it, in an epoch of a cloned state
//	2.stub          in the place of 2.env
//	rewrapped.keys  the data key, for sm2.key
//	state/          a state directory: 3.env and 4.env in the spool of "audit", 2.env parked
//	bytes.env       of another stream: a record that is not UTF-8, and one cut in two
//	long.env        with "long": of a third, a record of 130 pieces, and one behind it
func sealed() {
	if err := makeSealed(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func makeSealed(suiteName string) error {
	suite, err := seal.ParseSuite(suiteName)
	if err != nil {
		return err
	}
	for _, name := range []string{"keyring.json", "other.json"} {
		if _, err := keyring.New(name, keyring.HPKE); err != nil {
			return err
		}
	}
	encoded, err := seal.EncodeContext(nil)
	if err != nil {
		return err
	}
	keys := seal.NewKeys(seal.KeyOptions{}, keyring.Open("keyring.json"), suite, encoded)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { keys.Run(ctx) })
	defer running.Wait()
	defer cancel()

	host, err := seal.NewIdentity()
	if err != nil {
		return err
	}
	other, err := seal.NewIdentity()
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return err
	}
	m := &maker{ctx: ctx, host: host, keys: keys, suite: suite, context: encoded, zstd: enc}
	write := func(name, text string) { m.write(name, []byte(text)) }
	write("signers", "# the sealed host\n"+host.SignerLine("host-1", suite)+"\n")
	write("other.signers", other.SignerLine("host-2", suite)+"\n")

	m.chain(nil, began)
	stream := m.c.StreamID()
	var envs [][]byte
	offset := int64(0)
	for i := range 5 {
		b := m.batch()
		if i == 0 {
			b.AddEvent(record.Event{Name: "start", Time: m.at(0), Fields: []record.Tag{{Key: "version", Value: "1.0 test"}}})
		}
		b.Add(lineChunk(m.at(i), &offset, fmt.Sprintf("line %d", i)))
		envs = append(envs, m.seal(0, b))
		if i == 2 {
			m.head = m.c.Head()
		}
	}
	b := m.batch()
	b.AddEvent(record.Event{Name: "stop", Time: m.at(5), Fields: []record.Tag{{Key: "reason", Value: "terminated"}}})
	envs = append(envs, m.seal(seal.Final, b))
	for i, env := range envs {
		m.write(fmt.Sprintf("%d.env", i), env)
	}

	store := dir.New(dir.Options{Path: "sealed", Stream: "audit", MaxBytes: int64(len(envs[0]) + len(envs[1]))})
	m.check(store.Put(ctx, envs))
	m.check(store.Close())
	e, err := seal.Parse(envs[2])
	m.check(err)
	store = dir.New(dir.Options{Path: "stub", Stream: "audit"})
	m.check(store.PutStub(ctx, e.Stub(), "why"))
	m.check(store.Close())
	names, err := filepath.Glob("stub/audit/*")
	m.check(err)
	m.check(os.Rename(names[0], "2.stub"))

	m.makeSpool(envs)
	m.rewrap(e)

	// A clone goes on from where it was cloned, in an epoch of its own.
	head := m.head
	m.chain(&head, began.Add(time.Hour))
	b = m.batch()
	b.Add(lineChunk(m.at(0), &offset, "line of a clone"))
	m.write("again.env", m.seal(0, b))

	m.chain(nil, began)
	b = m.batch()
	c := lineChunk(m.at(0), &offset, "\xff\x00 is no UTF-8", "", "tom", "orrow")
	c.Records[2].Part = &record.Part{ID: 1}
	c.Records[3].Part = &record.Part{ID: 1, Index: 1, Last: true}
	c.Records[3].Offset-- // no line end lies between pieces
	b.Add(c)
	m.write("bytes.env", m.seal(0, b))

	b = m.batch()
	for _, span := range [][2]string{{"4", "10"}, {"0", "100"}} {
		b.AddEvent(record.Event{Name: "loss", Time: m.at(1), Fields: []record.Tag{
			{Key: "path", Value: "/var/log/a.log"}, {Key: "inode", Value: "42"},
			{Key: "from", Value: span[0]}, {Key: "to", Value: span[1]}, {Key: "reason", Value: "deleted unread"},
		}})
	}
	m.write("lost.env", m.seal(0, b))

	if len(os.Args) > 2 {
		m.makeLong()
	}
	if m.err == nil {
		fmt.Printf("%x\n", stream)
	}
	return m.err
}

// A maker seals and keeps the first error.
type maker struct {
	ctx     context.Context
	host    *seal.Identity
	keys    *seal.Keys
	suite   seal.Suite
	context []byte
	zstd    *zstd.Encoder
	c       *seal.Chain
	start   time.Time
	head    seal.Head
	err     error
}

func (m *maker) check(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (m *maker) write(name string, b []byte) { m.check(os.WriteFile(name, b, 0o600)) }

func (m *maker) at(i int) time.Time {
	return m.start.Add(time.Duration(i)*time.Minute + 250*time.Millisecond)
}

func (m *maker) chain(head *seal.Head, start time.Time) {
	var err error
	m.start = start
	m.c, err = seal.NewChain(seal.ChainOptions{
		Identity: m.host, Keys: m.keys, Suite: m.suite, Context: m.context, Head: head, Epoch: uint64(start.UnixNano()),
	})
	m.check(err)
}

func (m *maker) batch() *record.Batch {
	return record.NewBatch("audit", "host-1", []record.Tag{{Key: "cluster", Value: "hz-1"}})
}

func (m *maker) seal(kind seal.Flags, b *record.Batch) []byte {
	first, last := b.Times()
	env, err := m.c.Seal(m.ctx, nil, kind, first, last, seal.CodecZstd, m.zstd.EncodeAll(b.Encoded(), nil))
	m.check(err)
	return env
}

func lineChunk(at time.Time, offset *int64, lines ...string) *record.Chunk {
	c := &record.Chunk{Path: "/var/log/a.log", Inode: 42, Offset: *offset, Time: at.UnixNano()}
	for _, l := range lines {
		c.Records = append(c.Records, record.Record{Content: []byte(l), Offset: *offset})
		*offset += int64(len(l)) + 1
	}
	c.End = *offset
	return c
}

// makeLong makes a record too long to be joined in memory, and one behind it.
func (m *maker) makeLong() {
	const pieces, size = 130, 512 << 10
	m.chain(nil, began)
	var envs []byte
	piece := bytes.Repeat([]byte("x"), size)
	for i := range pieces + 1 {
		c := &record.Chunk{Path: "/var/log/long.log", Inode: 43, Offset: int64(i) * size, Time: m.at(0).UnixNano()}
		r := record.Record{Content: piece, Offset: c.Offset, Part: &record.Part{ID: 2, Index: uint32(i), Last: i == pieces-1}}
		if i == pieces {
			r = record.Record{Content: []byte("behind it"), Offset: c.Offset + 1}
		}
		c.Records, c.End = []record.Record{r}, r.Offset+int64(len(r.Content))
		b := m.batch()
		b.Add(c)
		envs = append(envs, m.seal(0, b)...)
	}
	m.write("long.env", envs)
}

func (m *maker) makeSpool(envs [][]byte) {
	path := filepath.Join("state", "streams", "audit")
	m.check(os.MkdirAll(path, 0o700))
	s, err := spool.Open(path, spool.Options{}, nothing{})
	if m.check(err); err != nil {
		return
	}
	m.check(s.Recover(m.ctx))
	for _, env := range envs[3:5] {
		m.check(s.Append(m.ctx, env, nil, func() []byte { return nil }))
	}
	_, err = s.Park(envs[2], "TooBad")
	m.check(err)
	m.check(s.Close())
}

// nothing is the State of a spool that holds no positions.
type nothing struct{}

func (nothing) Load([]byte) error       { return nil }
func (nothing) Apply(_, _ []byte) error { return nil }
func (nothing) Gap(string)              {}
func (nothing) Snapshot() []byte        { return nil }

// rewrap wraps the data key of e to an SM2 key.
func (m *maker) rewrap(e *seal.Envelope) {
	dek, err := seal.Unwrap(m.ctx, &e.Header, e.Recipients, keyring.Open("keyring.json"))
	m.check(err)
	sm2, err := seal.ParseSM2PrivateKey(slices.Repeat([]byte{0x11}, 32))
	if m.check(err); m.err != nil {
		return
	}
	m.write("sm2.key", slices.Repeat([]byte{0x11}, 32))
	r, err := sm2.Public().Wrap(dek.Bytes())
	m.check(err)
	b, err := seal.MarshalKeyFile([]seal.RewrappedKey{{DEKID: e.DEKID, Recipients: []seal.Recipient{r}}})
	m.check(err)
	m.write("rewrapped.keys", b)
}

// join is the command "join OUT IN...".
func join() {
	var all []byte
	for _, name := range os.Args[2:] {
		b, err := os.ReadFile(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		all = append(all, b...)
	}
	if err := os.WriteFile(os.Args[1], all, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// flip is the command "flip FILE OFFSET": it changes one byte; a negative
// offset counts from the end.
func flip() {
	b, err := os.ReadFile(os.Args[1])
	at, nerr := strconv.Atoi(os.Args[2])
	if err != nil || nerr != nil {
		fmt.Fprintln(os.Stderr, err, nerr)
		os.Exit(1)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	if err := os.WriteFile(os.Args[1], b, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
