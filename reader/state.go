package reader

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"sealtail/seal"
)

// A State is what a run remembers for the next: of each stream the newest
// envelope and the signer. It is kept as JSON:
//
//	{
//	  "version": 1,
//	  "streams": {
//	    "STREAM ID, 32 hex digits": {
//	      "epoch": 1764100000000000000, "seq": 41, "digest": "64 hex digits",
//	      "suite": "aes-256-gcm", "last": "2025-11-25T20:00:00Z",
//	      "signers": {"aes-256-gcm": "64 hex digits"}
//	    }
//	  }
//	}
//
// The zero value remembers nothing.
type State struct {
	streams map[[16]byte]remembered
}

type remembered struct {
	head    seal.Head
	signers map[seal.Suite][32]byte
}

// ErrState reports a file that no version of this program can have written,
// or only a newer one.
var ErrState = errors.New("malformed state")

const stateVersion = 1

type stateJSON struct {
	Version int                   `json:"version"`
	Streams map[string]streamJSON `json:"streams"`
}

type streamJSON struct {
	Epoch   uint64            `json:"epoch"`
	Seq     uint64            `json:"seq"`
	Digest  string            `json:"digest"`
	Suite   string            `json:"suite"`
	Last    time.Time         `json:"last"`
	Signers map[string]string `json:"signers"`
}

// ParseState reads what [State.Marshal] wrote.
func ParseState(b []byte) (*State, error) {
	var version struct{ Version int }
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if version.Version > stateVersion {
		return nil, fmt.Errorf("%w: version %d was written by a newer program", ErrState, version.Version)
	}
	var in stateJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if _, err := d.Token(); err != io.EOF || in.Version != stateVersion {
		return nil, fmt.Errorf("%w: version %d", ErrState, in.Version)
	}
	st := &State{streams: make(map[[16]byte]remembered)}
	for _, name := range slices.Sorted(maps.Keys(in.Streams)) {
		var id [16]byte
		m, err := in.Streams[name].parse()
		if err == nil {
			err = unhex(id[:], name)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: stream %q: %w", ErrState, name, err)
		}
		m.head.StreamID = id
		st.streams[id] = m
	}
	return st, nil
}

func (s streamJSON) parse() (m remembered, err error) {
	if y := s.Last.Year(); y < 1970 || y > 2261 {
		return m, fmt.Errorf("time %s out of range", s.Last)
	}
	m.head = seal.Head{Epoch: s.Epoch, Seq: s.Seq, Last: s.Last.UnixNano()}
	if m.head.Suite, err = seal.ParseSuite(s.Suite); err != nil {
		return m, err
	}
	if err = unhex(m.head.Digest[:], s.Digest); err != nil {
		return m, err
	}
	m.signers = make(map[seal.Suite][32]byte)
	for name, signer := range s.Signers {
		suite, err := seal.ParseSuite(name)
		if err != nil {
			return m, err
		}
		var h [32]byte
		if err := unhex(h[:], signer); err != nil {
			return m, err
		}
		m.signers[suite] = h
	}
	return m, nil
}

// unhex decodes lower-case hex digits that fill dst.
func unhex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(dst) || hex.EncodeToString(b) != s {
		return fmt.Errorf("%q is not %d lower-case hex digits", s, 2*len(dst))
	}
	copy(dst, b)
	return nil
}

// Marshal returns the state as a file.
func (st *State) Marshal() []byte {
	out := stateJSON{Version: stateVersion, Streams: make(map[string]streamJSON)}
	for id, m := range st.streams {
		s := streamJSON{
			Epoch: m.head.Epoch, Seq: m.head.Seq,
			Digest: hex.EncodeToString(m.head.Digest[:]),
			Suite:  m.head.Suite.String(),
			Last:   time.Unix(0, m.head.Last).UTC(), Signers: make(map[string]string),
		}
		for suite, signer := range m.signers {
			s.Signers[suite.String()] = hex.EncodeToString(signer[:])
		}
		out.Streams[hex.EncodeToString(id[:])] = s
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		panic("reader: " + err.Error()) // strings, numbers, and times of years 1970 to 2262
	}
	return append(b, '\n')
}

// get returns what is remembered of a stream.
func (st *State) get(id [16]byte) (remembered, bool) {
	if st == nil {
		return remembered{}, false
	}
	m, ok := st.streams[id]
	return m, ok
}

// Remember returns the state for the next run: what the last one remembered,
// moved on to the newest envelope of each stream. A stream that was rolled
// back keeps its head, so that the finding stays. Verify must have been called.
func (r *Reader) Remember() *State {
	next := &State{streams: make(map[[16]byte]remembered)}
	if r.o.State != nil {
		maps.Copy(next.streams, r.o.State.streams)
	}
	for _, s := range r.order {
		if len(s.trusted) == 0 || slices.ContainsFunc(s.report.Findings, func(f Finding) bool { return f.Kind == Rollback }) {
			continue
		}
		old, known := r.o.State.get(s.id)
		m := remembered{old.head, make(map[seal.Suite][32]byte)}
		maps.Copy(m.signers, old.signers)
		for _, n := range s.trusted {
			m.signers[n.suite] = n.signer
		}
		if n := s.trusted[len(s.trusted)-1]; !known || n.epoch > m.head.Epoch || n.epoch == m.head.Epoch && n.seq > m.head.Seq {
			m.head = seal.Head{StreamID: s.id, Epoch: n.epoch, Seq: n.seq, Digest: n.digest, Suite: n.suite, Last: n.last}
		}
		next.streams[s.id] = m
	}
	return next
}
