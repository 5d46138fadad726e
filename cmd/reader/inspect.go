package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sealtail/internal/command"
	"sealtail/reader"
	"sealtail/seal"
)

func inspectCommand(ctx context.Context, args []string, s std) (int, error) {
	var in inputs
	fs := flag.NewFlagSet("inspect", flag.ContinueOnError)
	in.flags(fs)
	rest, err := command.Parse(fs, args, 0, -1)
	if err != nil {
		return 0, err
	}
	if err := in.set("inspect", rest); err != nil {
		return 0, err
	}
	w := bufio.NewWriter(s.out)
	code := command.ExitDone
	err = in.each(ctx, s.in, false, func(i input) error {
		if i.logs != nil {
			return i.logs(func(l *reader.Log) error {
				it, differs := l.Item()
				if differs != "" {
					code = max(code, reader.Mismatch.ExitCode())
				}
				code = max(code, faultCode(it))
				inspect(w, i.Name, it)
				inspectLog(w, l, differs)
				return nil
			})
		}
		return reader.Scan(i.in, func(it reader.Item) error {
			code = max(code, faultCode(it))
			inspect(w, i.Name, it)
			fmt.Fprintln(w)
			return nil
		})
	})
	if ferr := w.Flush(); err == nil {
		err = ferr
	}
	return code, err
}

func faultCode(it reader.Item) int {
	if it.Fault == reader.Sound {
		return command.ExitDone
	}
	return reader.Kind(it.Fault).ExitCode()
}

// inspectLog ends the block of an item that came in a log.
func inspectLog(w io.Writer, l *reader.Log, differs string) {
	if differs == "" {
		differs = "fits"
	}
	why := ""
	if l.Stub {
		why = ", " + l.Why
	}
	fmt.Fprintf(w, "  %-11s %s%s\n  %-11s %s\n\n", "log", l.Where, why, "beside it", differs)
}

// inspect prints a block but for its end. Errors of w show when it is flushed.
func inspect(w io.Writer, source string, it reader.Item) {
	what := "re-wrapped keys"
	switch {
	case it.Envelope != nil:
		what = "envelope"
	case it.Stub != nil:
		what = "stub of a parked envelope"
	case it.Fault != reader.Sound:
		what = string(it.Fault)
	}
	verdict := ""
	switch {
	case it.Fault != reader.Sound:
		verdict = ", " + it.Why
	case it.Keys == nil:
		verdict = ", signature fits"
	}
	fmt.Fprintf(w, "%s:%d: %s, %d bytes%s\n", source, it.Offset, what, it.Size, verdict)
	line := func(name, format string, a ...any) { fmt.Fprintf(w, "  %-11s %s\n", name, fmt.Sprintf(format, a...)) }
	switch {
	case it.Envelope != nil:
		e := it.Envelope
		header(line, &e.Header)
		line("digest", "%x", e.Digest())
		line("commitment", "%x", e.Commitment)
		recipients(line, e.Recipients)
		line("public key", "%x", e.PublicKey)
		line("signature", "%x", e.Signature)
	case it.Stub != nil:
		header(line, &it.Stub.Header)
		line("digest", "%x", it.Stub.Digest())
		line("public key", "%x", it.Stub.PublicKey)
		line("signature", "%x", it.Stub.Signature)
	}
	for _, k := range it.Keys {
		line("data key", "%x", k.DEKID)
		recipients(line, k.Recipients)
	}
}

func header(line func(name, format string, a ...any), h *seal.Header) {
	var flags []string
	for _, f := range []struct {
		flag seal.Flags
		name string
	}{{seal.Genesis, "GENESIS"}, {seal.Final, "FINAL"}, {seal.Heartbeat, "HEARTBEAT"}} {
		if h.Flags&f.flag != 0 {
			flags = append(flags, f.name)
		}
	}
	if flags == nil {
		flags = []string{"none"}
	}
	codec := "none"
	if h.Codec == seal.CodecZstd {
		codec = "zstd"
	}
	line("suite", "%s", h.Suite)
	line("flags", "%s", strings.Join(flags, ", "))
	line("codec", "%s", codec)
	line("stream", "%x", h.StreamID)
	line("epoch, seq", "%d, %d", h.Epoch, h.Seq)
	line("records of", "%s to %s", stamp(h.First), stamp(h.Last))
	line("data key", "%x", h.DEKID)
	line("salt", "%x", h.Salt)
	line("previous", "%x", h.Prev)
	line("signer", "%x", h.Signer)
	if c, err := seal.ParseContext(h.Context); err == nil { // it parsed before
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(c)) {
			pairs = append(pairs, printable([]byte(k))+"="+printable([]byte(c[k])))
		}
		line("context", "%s", strings.Join(pairs, ", "))
	}
	line("payload", "%d bytes", h.PayloadLen)
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339) }

func recipients(line func(name, format string, a ...any), rs []seal.Recipient) {
	names := map[uint8]string{
		seal.TypeAliKMS: "Alibaba Cloud KMS", seal.TypeSM2: "SM2 public key", seal.TypeTransit: "Transit",
		seal.TypeKeyring: "keyring", seal.TypeHPKE: "HPKE public key",
	}
	for _, r := range rs {
		name := names[r.Type]
		if name == "" {
			name = fmt.Sprintf("type %d", r.Type)
		}
		line("recipient", "%s %s, %d bytes wrapped", name, printable(r.KeyID), len(r.Wrapped))
	}
}

// printable returns text as it is and all else in hex.
func printable(b []byte) string {
	if utf8.Valid(b) && !slices.ContainsFunc([]rune(string(b)), func(c rune) bool { return !unicode.IsPrint(c) }) {
		return string(b)
	}
	return fmt.Sprintf("%x", b)
}
