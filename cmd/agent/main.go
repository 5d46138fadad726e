// Sealtail follows log files, seals what is appended to them in batches under
// a key that a master key wraps, and ships the batches; it never writes or
// sends a line in clear. docs/CONFIG.md describes its configuration.
//
// What goes wrong is told on standard error as "sealtail: error: …" and
// "sealtail: hint: …". The exit code is 0 when the work is done, 1 when it
// failed, 64 when the command line is wrong, and 78 when the configuration is.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"sealtail/conf"
)

const usage = `Usage: sealtail COMMAND [ARGUMENTS]

  run -c FILE [--dry-run [--show]]
        follow, seal and ship as FILE says, until SIGTERM;
        --dry-run ends at the files' end, ships nothing and writes nothing,
        --show lets it print sample records as they are
  check -c FILE
        say what FILE amounts to, and all that is wrong with it
  identity -c FILE
        print this host's public keys, a line each, for a reader's --signers
  keyring new -f FILE [--kind KIND]
  keyring rotate -f FILE [--kind KIND]
  keyring list -f FILE
  keyring enable | disable -f FILE [ID]
  keyring destroy -f FILE ID
  keyring export-public -f FILE --out FILE
        make and change a keyring; without ID: its primary key.
        KIND is hpke-mlkem768-x25519 (of which export-public writes what a
        host needs to seal, and no more), aes256-gcm or sm4-gcm.
        destroy takes the key out of FILE for good; the disk may keep old
        blocks of FILE, and copies are yours to find
  selftest
        test every algorithm against published vectors
  version
        print the version
  help
        print this text
`

// Exit codes, as of sysexits.h.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 64
	exitConfig = 78
)

func main() {
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs one command and returns its exit code.
func dispatch(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		return report(stderr, usageError("which command?"))
	}
	command, args := args[0], args[1:]
	var err error
	switch command {
	case "run":
		err = runCommand(args, stdout, stderr)
	case "check":
		err = checkCommand(args, stdout, stderr)
	case "identity":
		err = identityCommand(args, stdout)
	case "keyring":
		err = keyringCommand(args, stdout)
	case "selftest":
		err = selftestCommand(args, stdout)
	case "version", "--version":
		err = versionCommand(args, stdout)
	case "help", "--help", "-help", "-h":
		_, err = io.WriteString(stdout, usage)
	default:
		err = usageError("there is no command %q", command)
	}
	return report(stderr, err)
}

// A failure is an error with its exit code and what to do about it.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usageError(format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...), "see sealtail help"}
}

// hinted adds to an error what to do about it.
func hinted(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &failure{exitFailed, err, hint}
}

// report tells an error and returns the exit code.
func report(stderr io.Writer, err error) int {
	var faults conf.Faults
	var f *failure
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &faults):
		for _, f := range faults {
			tell(stderr, "error", f.Error())
			tell(stderr, "hint", f.Fix)
		}
		return exitConfig
	case errors.As(err, &f):
		tell(stderr, "error", f.Error())
		tell(stderr, "hint", f.hint)
		return f.code
	}
	tell(stderr, "error", err.Error())
	return exitFailed
}

// tell writes one line; it writes nothing for an empty text.
func tell(w io.Writer, kind, text string) {
	if text != "" {
		fmt.Fprintf(w, "sealtail: %s: %s\n", kind, strings.ReplaceAll(text, "\n", " "))
	}
}

// parse reads flags that may stand before, between and behind the other
// arguments, of which there may be least to most; it returns those.
func parse(fs *flag.FlagSet, args []string, least, most int) (rest []string, err error) {
	fs.SetOutput(io.Discard)
	for {
		if err := fs.Parse(args); err != nil {
			return nil, usageError("%s: %w", fs.Name(), err)
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	switch {
	case len(rest) > most:
		return nil, usageError("%s: what is %q?", fs.Name(), rest[most])
	case len(rest) < least:
		return nil, usageError("%s: an argument is missing", fs.Name())
	}
	return rest, nil
}

// configFlag adds -c; the function it returns loads the file.
func configFlag(fs *flag.FlagSet) func() (*conf.Config, error) {
	file := fs.String("c", "", "configuration `FILE`")
	return func() (*conf.Config, error) {
		if *file == "" {
			return nil, usageError("%s: -c FILE is missing", fs.Name())
		}
		cfg, err := conf.Load(*file)
		var faults conf.Faults
		if err != nil && !errors.As(err, &faults) {
			return nil, &failure{exitConfig, err, ""}
		}
		return cfg, err
	}
}
