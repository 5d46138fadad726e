package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"sealtail/internal/command"
	"sealtail/reader"
	"sealtail/record"
)

func openCommand(ctx context.Context, args []string, s std) (int, error) {
	var (
		in     inputs
		t      trust
		k      keys
		fs     = flag.NewFlagSet("open", flag.ContinueOnError)
		format = fs.String("format", "text", "text or json")
		events = fs.Bool("events", false, "print events too")
	)
	in.flags(fs)
	t.flags(fs)
	k.flags(fs)
	fs.Func("suite", "`SUITE` that may be opened", to(&t.suites))
	rest, err := command.Parse(fs, args, 0, -1)
	if err != nil {
		return 0, err
	}
	if *format != "text" && *format != "json" {
		return 0, command.Usage("open: format %q is not known: there are text and json", *format)
	}
	if err := in.set("open", rest); err != nil {
		return 0, err
	}
	us, err := k.unwrappers(&in.logstores)
	if err != nil {
		return 0, err
	}
	r, rep, err := t.verify(ctx, &in, s.in, true)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(s.out, 1<<20)
	text := textPrinter{w: w}
	print := text.print
	if *format == "json" {
		print = printJSON(w)
	}
	var lost losses
	err = r.Open(ctx, us, func(rec *reader.Record) error {
		lost.add(rec)
		if rec.Event != "" && !*events {
			return nil
		}
		return print(rec)
	})
	// What was opened before an error is worth having.
	text.end()
	if ferr := w.Flush(); err == nil {
		err = ferr
	}
	tellFindings(s.err, rep)
	if lost.events > 0 {
		program.Tell(s.err, "warning", lost.String())
	}
	if err != nil {
		return 0, err
	}
	if code := rep.ExitCode(false); code != reader.ExitSound || envelopes(rep) > 0 {
		return code, t.remember(r)
	}
	program.Tell(s.err, "note", in.nothing("nothing to open").Error())
	return reader.ExitSound, t.remember(r)
}

// losses sums the loss events of agents: of bytes that were lost before they
// could be sealed, so that no chain lacks them.
type losses struct {
	events int
	bytes  int64
}

func (l *losses) add(r *reader.Record) {
	if r.Event != "loss" {
		return
	}
	l.events++
	var span [2]int64
	for _, f := range r.Fields {
		if i := slices.Index([]string{"from", "to"}, f.Key); i >= 0 {
			span[i], _ = strconv.ParseInt(f.Value, 10, 64) // 0: the event counts all the same
		}
	}
	l.bytes += max(0, span[1]-span[0])
}

func (l *losses) String() string {
	return fmt.Sprintf("loss events: %d, of %d bytes that were lost before they were sealed; --events prints them", l.events, l.bytes)
}

// eventMark begins the line of an event in text.
const eventMark = "sealtail-event: "

// A textPrinter prints records as lines. Errors of w show with a later write.
type textPrinter struct {
	w    *bufio.Writer
	open *reader.Record // printed without its newline, as more of it may come; without Content
}

func (p *textPrinter) print(r *reader.Record) error {
	if p.open != nil && !follows(p.open, r) {
		p.end()
	}
	p.open = nil
	if r.Event != "" {
		fmt.Fprintf(p.w, "%s%s time=%s", eventMark, word(r.Event), r.Time.Format(time.RFC3339Nano))
		for _, f := range r.Fields {
			fmt.Fprintf(p.w, " %s=%s", word(f.Key), word(f.Value))
		}
	} else {
		p.w.Write(r.Content)
	}
	if r.NoEnd {
		open := *r
		open.Offset, open.Content = r.Offset+int64(len(r.Content)), nil
		p.open = &open
		return nil
	}
	return p.w.WriteByte('\n')
}

// end ends the line that is open.
func (p *textPrinter) end() {
	if p.open != nil {
		p.w.WriteByte('\n')
		p.open = nil
	}
}

// follows reports whether r is what comes behind a record of which there is no
// end: a record too long to be joined comes in several.
func follows(open, r *reader.Record) bool {
	return r.NoStart && r.StreamID == open.StreamID && r.Path == open.Path && r.Inode == open.Inode && r.Offset == open.Offset
}

// word returns s as it is if it is one plain word, else quoted.
func word(s string) string {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\' {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

// recordJSON is a record or an event as it is printed.
type recordJSON struct {
	Stream     string            `json:"stream"`
	StreamID   string            `json:"stream_id"`
	Host       string            `json:"host"`
	Path       string            `json:"path,omitempty"`
	Inode      uint64            `json:"inode,omitempty"`
	Offset     *int64            `json:"offset,omitempty"`
	Epoch      uint64            `json:"epoch"`
	Seq        uint64            `json:"seq"`
	Time       string            `json:"time"`
	Source     string            `json:"source,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Content    *string           `json:"content,omitempty"`
	Base64     []byte            `json:"content_base64,omitempty"`
	Incomplete string            `json:"incomplete,omitempty"`
	Event      string            `json:"event,omitempty"`
	Fields     map[string]string `json:"fields,omitempty"`
}

func printJSON(w *bufio.Writer) func(*reader.Record) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	return func(r *reader.Record) error {
		out := recordJSON{
			Stream: r.Stream, StreamID: hex.EncodeToString(r.StreamID[:]), Host: r.Host,
			Path: r.Path, Inode: r.Inode, Epoch: r.Epoch, Seq: r.Seq,
			Time: r.Time.Format(time.RFC3339Nano), Source: r.Source, Tags: object(r.Tags), Event: r.Event, Fields: object(r.Fields),
		}
		if r.Event == "" {
			out.Offset = &r.Offset
			if utf8.Valid(r.Content) {
				content := string(r.Content)
				out.Content = &content
			} else {
				out.Base64 = r.Content
			}
			switch {
			case r.NoStart && r.NoEnd:
				out.Incomplete = "both"
			case r.NoStart:
				out.Incomplete = "start"
			case r.NoEnd:
				out.Incomplete = "end"
			}
		}
		line.Reset()
		if err := enc.Encode(out); err != nil {
			return err
		}
		_, err := w.Write(line.Bytes())
		return err
	}
}

func object(tags []record.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}
