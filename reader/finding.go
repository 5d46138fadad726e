package reader

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrSuite is why an envelope was not opened whose suite is not among
// [Options.Suites].
var ErrSuite = errors.New("not among the suites allowed")

// A Kind is the name of a finding.
type Kind string

// Findings that say how things are.
const (
	Anchored        Kind = "anchored"         // the stream begins with GENESIS or goes on from a remembered head
	UnanchoredStart Kind = "unanchored-start" // what came before is expired or out of range
	Duplicate       Kind = "duplicate"        // the same envelope again
	SuiteChange     Kind = "suite-change"     // from one epoch to the next
	Torn            Kind = "torn"             // the end of a file: its writer died
	OpenTail        Kind = "open-tail"        // no FINAL, and nothing for three heartbeats
	Stopped         Kind = "stopped"          // the newest is FINAL
)

// Findings that say what is missing.
const (
	Gap        Kind = "gap"        // seqs of an epoch that are not there
	Parked     Kind = "parked"     // a stub in the place of an envelope
	Incomplete Kind = "incomplete" // pieces of a record that are not there; by Open alone
	Unopened   Kind = "unopened"   // no key at hand; by Open alone
)

// Findings that say what was tampered with.
const (
	BrokenLink    Kind = "broken-link"    // both neighbours are there and do not fit
	Fork          Kind = "fork"           // two envelopes follow one: rolled-back or cloned state
	Equivocation  Kind = "equivocation"   // two envelopes of one stream, epoch and seq
	Forged        Kind = "forged"         // the signature does not fit
	UnknownSigner Kind = "unknown-signer" // not among the signers given
	SignerChange  Kind = "signer-change"  // not the signer of the stream
	Rollback      Kind = "rollback"       // a remembered head is no longer reachable
	Foreign       Kind = "foreign"        // sealed for another destination than where it was found
	Damaged       Kind = "damaged"        // bytes that are no envelope, or not one that opens
	Mismatch      Kind = "mismatch"       // records, which Open alone sees, or the log that carries them disagree with their signed header
)

// Exit codes, by what they mean.
const (
	ExitSound    = 0
	ExitFailed   = 1
	ExitSilent   = 3 // a stream has gone silent
	ExitMissing  = 4
	ExitTampered = 5
)

// ExitCode returns what a finding of the kind ends a program with.
func (k Kind) ExitCode() int {
	switch k {
	case Anchored, UnanchoredStart, Duplicate, SuiteChange, Torn:
		return ExitSound
	case OpenTail, Stopped:
		return ExitSilent
	case Unopened:
		return ExitFailed
	case Gap, Parked, Incomplete:
		return ExitMissing
	}
	return ExitTampered
}

// A Place says where bytes lie.
type Place struct {
	Source       string
	Offset, Size int64
}

// String returns "source:offset".
func (p Place) String() string { return fmt.Sprintf("%s:%d", p.Source, p.Offset) }

// A Span is a run of seqs of one epoch, both ends included.
type Span struct {
	Epoch, From, To uint64
	Open            bool // how far it goes is not known; To = From
}

// String returns "epoch, from..to".
func (s Span) String() string {
	if s.Open {
		return fmt.Sprintf("%d, %d..?", s.Epoch, s.From)
	}
	return fmt.Sprintf("%d, %d..%d", s.Epoch, s.From, s.To)
}

// A Finding is one thing to report.
type Finding struct {
	Kind   Kind
	Stream [16]byte // zero: of no stream
	Span   *Span    // nil: not of certain envelopes
	Count  int      // of envelopes, or of items where there is no Span
	Since  time.Time
	Places []Place // where to look; the first maxPlaces
	Detail string

	Err error // of Unopened: ErrSuite, or what became of its data key
}

// maxPlaces bounds the places kept of one finding.
const maxPlaces = 8

// String returns the finding as one line, without its stream.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	if f.Span != nil {
		fmt.Fprintf(&b, "(%s)", f.Span)
	}
	if !f.Since.IsZero() {
		fmt.Fprintf(&b, " since %s", f.Since.UTC().Format(time.RFC3339))
	}
	if f.Detail != "" {
		b.WriteString(": " + f.Detail)
	}
	if len(f.Places) > 0 {
		b.WriteString(" [")
		for i, p := range f.Places {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(p.String())
		}
		if f.Count > len(f.Places) {
			b.WriteString(", …")
		}
		b.WriteString("]")
	}
	return b.String()
}

// A Report is what was found.
type Report struct {
	Streams  []*StreamReport // in the order in which they were met
	Findings []Finding       // of no stream
	Sources  int
	Bytes    int64
}

// A StreamReport is what was found of one stream.
type StreamReport struct {
	ID        [16]byte
	Signers   []string // host names where --signers tells them, else the hash in hex
	Envelopes int      // distinct ones that are trusted, parked ones included
	Ranges    []Range
	Findings  []Finding
}

// A Range is a contiguous run of a stream: every link inside of it fits, or a
// finding says otherwise.
type Range struct {
	Span
	First, Last time.Time // of the oldest and the newest record, in whole seconds
}

// All calls yield with every finding.
func (r *Report) All(yield func(Finding) bool) {
	for _, s := range r.Streams {
		for _, f := range s.Findings {
			if !yield(f) {
				return
			}
		}
	}
	for _, f := range r.Findings {
		if !yield(f) {
			return
		}
	}
}

// ExitCode returns that of the gravest finding. Streams that have gone silent
// count only if live is set.
func (r *Report) ExitCode(live bool) int {
	code := ExitSound
	for f := range r.All {
		if c := f.Kind.ExitCode(); c > code && (live || c != ExitSilent) {
			code = c
		}
	}
	return code
}

// add appends a finding, or joins it to a recent one that says the same of the
// seq before.
func add(fs *[]Finding, f Finding) {
	f.Count = max(f.Count, 1)
	for i := len(*fs) - 1; i >= 0 && i >= len(*fs)-4; i-- {
		if last := &(*fs)[i]; last.continues(f) {
			last.Span.To = f.Span.To
			last.Count += f.Count
			last.Places = append(last.Places, f.Places[:min(len(f.Places), maxPlaces-len(last.Places))]...)
			return
		}
	}
	if f.Span != nil {
		own := *f.Span
		f.Span = &own
	}
	f.Places = f.Places[:min(len(f.Places), maxPlaces)]
	*fs = append(*fs, f)
}

// continues reports whether next says of the next seq what f says.
func (f *Finding) continues(next Finding) bool {
	switch f.Kind {
	case Gap, Equivocation, Fork, BrokenLink:
		return false // each is a place to look at
	}
	return f.Kind == next.Kind && f.Stream == next.Stream && f.Detail == next.Detail &&
		f.Span != nil && next.Span != nil && !f.Span.Open && !next.Span.Open && f.Span.Epoch == next.Span.Epoch &&
		(next.Span.From == f.Span.To || next.Span.From == f.Span.To+1)
}
