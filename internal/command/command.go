// Package command is the manners of our programs at a terminal. What goes wrong
// is told on standard error, with what to do about it,
//
//	PROGRAM: error: open none.toml: no such file or directory
//	PROGRAM: hint: see PROGRAM help
//
// in the voice of [age], and ends the program with an exit code of sysexits.h.
// Errors get their code and hint from [Fail], [Hinted] and [Usage].
//
// [age]: https://github.com/FiloSottile/age/blob/main/cmd/age/tui.go
package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// Exit codes.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 64
	ExitConfig = 78
)

// A Failure is an error with its exit code and what to do about it, which may
// be "".
type Failure struct {
	Code int
	Err  error
	Hint string
}

// Error says what Err says.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

// Fail returns err with an exit code and a hint; nil for nil.
func Fail(code int, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Failure{code, err, hint}
}

// Hinted returns err with a hint; nil for nil.
func Hinted(err error, hint string) error { return Fail(ExitFailed, err, hint) }

// Usage returns an error of the command line, made as [fmt.Errorf] does.
func Usage(format string, args ...any) error {
	return &Failure{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// A Program is the name of one, and speaks for it.
type Program string

// Report tells an error with its hint and returns the exit code.
func (p Program) Report(w io.Writer, err error) int {
	if err == nil {
		return ExitDone
	}
	code, hint := ExitFailed, ""
	if f, ok := errors.AsType[*Failure](err); ok {
		code, hint = f.Code, f.Hint
	}
	if code == ExitUsage && hint == "" {
		hint = "see " + string(p) + " help"
	}
	p.Tell(w, "error", err.Error())
	p.Tell(w, "hint", hint)
	return code
}

// Tell writes one line, such as an error, a hint or a warning; it writes
// nothing for an empty text.
func (p Program) Tell(w io.Writer, kind, text string) {
	if text == "" {
		return
	}
	level := ""
	if ToJournal(w) {
		level = priority(kind)
	}
	fmt.Fprintf(w, "%s%s: %s: %s\n", level, p, kind, strings.ReplaceAll(text, "\n", " "))
}

// Parse reads flags that may stand before, between and behind the other
// arguments, of which there may be least to most (any number for -1); it
// returns those. The error is [flag.ErrHelp] where help was asked for, else
// one of usage.
func Parse(fs *flag.FlagSet, args []string, least, most int) (rest []string, err error) {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	for {
		switch err := fs.Parse(args); {
		case err == flag.ErrHelp:
			return nil, err
		case err != nil:
			return nil, Usage("%s: %w", fs.Name(), err)
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	switch {
	case most >= 0 && len(rest) > most:
		return nil, Usage("%s: what is %q?", fs.Name(), rest[most])
	case len(rest) < least:
		return nil, Usage("%s: an argument is missing", fs.Name())
	}
	return rest, nil
}
