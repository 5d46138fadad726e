package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sealtail/internal/command"
	"sealtail/reader"
	"sealtail/seal"
)

func verifyCommand(ctx context.Context, args []string, s std) (int, error) {
	var (
		in   inputs
		t    trust
		fs   = flag.NewFlagSet("verify", flag.ContinueOnError)
		json = fs.Bool("json", false, "one object a line")
		live = fs.Bool("live", false, "a silent stream counts")
	)
	in.flags(fs)
	t.flags(fs)
	rest, err := command.Parse(fs, args, 0, -1)
	if err != nil {
		return 0, err
	}
	if err := in.set("verify", rest); err != nil {
		return 0, err
	}
	r, rep, err := t.verify(ctx, &in, s.in, false)
	if err != nil {
		return 0, err
	}
	code := rep.ExitCode(*live)
	nothing := code == reader.ExitSound && envelopes(rep) == 0
	if nothing {
		code = reader.ExitFailed
	}
	w := bufio.NewWriter(s.out)
	if *json {
		err = reportJSON(w, rep, code)
	} else {
		reportText(w, rep, code)
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil && nothing {
		err = in.nothing("nothing to verify")
	}
	if err != nil {
		return 0, err
	}
	return code, t.remember(r)
}

func envelopes(rep *reader.Report) (n int) {
	for _, s := range rep.Streams {
		n += s.Envelopes
	}
	return n
}

// reportText prints a report to read. Errors of w show when it is flushed.
func reportText(w io.Writer, rep *reader.Report, code int) {
	for _, s := range rep.Streams {
		signers := strings.Join(s.Signers, ", ")
		if signers == "" {
			signers = "nobody who is trusted"
		}
		fmt.Fprintf(w, "stream %x, signed by %s: %s\n", s.ID, signers, count(s.Envelopes, "envelope"))
		for _, r := range s.Ranges {
			fmt.Fprintf(w, "  epoch %d, %d..%d: %s to %s\n", r.Epoch, r.From, r.To, r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339))
		}
		for _, f := range s.Findings {
			fmt.Fprintf(w, "  %s\n", f)
		}
	}
	for _, f := range rep.Findings {
		fmt.Fprintf(w, "%s\n", f)
	}
	verdict := map[int]string{
		reader.ExitSound: "all is well", reader.ExitFailed: "there is nothing to verify", reader.ExitSilent: "a stream has gone silent",
		reader.ExitMissing: "something is missing", reader.ExitTampered: "something was tampered with",
	}[code]
	fmt.Fprintf(w, "%s, %s, %s, %d bytes: %s\n",
		count(rep.Sources, "input"), count(len(rep.Streams), "stream"), count(envelopes(rep), "envelope"), rep.Bytes, verdict)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// tellFindings prints the findings of open: those that are no errors as notes.
func tellFindings(w io.Writer, rep *reader.Report) {
	var hints []string
	for f := range rep.All {
		kind := "note"
		if c := f.Kind.ExitCode(); c != reader.ExitSound && c != reader.ExitSilent {
			kind = "error"
		}
		if hint := unopenedHint(f.Err); f.Kind == reader.Unopened && !slices.Contains(hints, hint) {
			hints = append(hints, hint)
		}
		text := f.String()
		if f.Stream != ([16]byte{}) {
			text = fmt.Sprintf("stream %x: %s", f.Stream, f)
		}
		program.Tell(w, kind, text)
	}
	for _, hint := range hints {
		program.Tell(w, "hint", hint)
	}
}

// unopenedHint says what to do about an envelope that was not opened.
func unopenedHint(err error) string {
	if errors.Is(err, reader.ErrSuite) {
		return "give that suite by --suite too, or leave --suite out"
	}
	if k, ok := errors.AsType[*seal.KMSError](err); ok {
		switch k.Class {
		case seal.Revoked:
			return "the CMK must be enabled, and kms:Decrypt with it allowed to the access key"
		case seal.Credentials:
			return "give an access key that the KMS accepts: [reader] credentials"
		case seal.Misfit:
			return "does [reader] name the CMK that wrapped the data key, and its own gateway?"
		}
		return "try again when the KMS can be reached"
	}
	return "give the keys by --keyring FILE, --sm2-key FILE, a file of re-wrapped keys among the inputs, or -c FILE, where [reader] allows a CMK"
}

type spanJSON struct {
	Epoch uint64  `json:"epoch"`
	From  uint64  `json:"from"`
	To    *uint64 `json:"to"` // null: not known
}

type rangeJSON struct {
	spanJSON
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

type placeJSON struct {
	Source string `json:"source"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

type findingJSON struct {
	Finding reader.Kind `json:"finding"`
	Exit    int         `json:"exit"`
	Stream  string      `json:"stream,omitempty"`
	*spanJSON
	Count  int         `json:"count"`
	Since  *time.Time  `json:"since,omitempty"`
	Detail string      `json:"detail,omitempty"`
	Places []placeJSON `json:"places,omitempty"`
}

type streamJSON struct {
	Stream    string      `json:"stream"`
	Signers   []string    `json:"signers"`
	Envelopes int         `json:"envelopes"`
	Ranges    []rangeJSON `json:"ranges"`
}

type summaryJSON struct {
	Exit    int   `json:"exit"`
	Inputs  int   `json:"inputs"`
	Streams int   `json:"streams"`
	Bytes   int64 `json:"bytes"`
}

// reportJSON prints an object for each stream and each finding, and one for
// the sum.
func reportJSON(w io.Writer, rep *reader.Report, code int) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, s := range rep.Streams {
		out := streamJSON{Stream: hex.EncodeToString(s.ID[:]), Signers: s.Signers, Envelopes: s.Envelopes}
		for _, r := range s.Ranges {
			out.Ranges = append(out.Ranges, rangeJSON{span(&r.Span), r.First, r.Last})
		}
		if err := enc.Encode(out); err != nil {
			return err
		}
	}
	for f := range rep.All {
		out := findingJSON{Finding: f.Kind, Exit: f.Kind.ExitCode(), Count: f.Count, Detail: f.Detail}
		if f.Stream != ([16]byte{}) {
			out.Stream = hex.EncodeToString(f.Stream[:])
		}
		if f.Span != nil {
			s := span(f.Span)
			out.spanJSON = &s
		}
		if !f.Since.IsZero() {
			since := f.Since.UTC()
			out.Since = &since
		}
		for _, p := range f.Places {
			out.Places = append(out.Places, placeJSON(p))
		}
		if err := enc.Encode(out); err != nil {
			return err
		}
	}
	return enc.Encode(summaryJSON{code, rep.Sources, len(rep.Streams), rep.Bytes})
}

func span(s *reader.Span) spanJSON {
	out := spanJSON{Epoch: s.Epoch, From: s.From, To: &s.To}
	if s.Open {
		out.To = nil
	}
	return out
}
