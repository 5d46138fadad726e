// Sealtail-reader verifies what sealtail shipped and opens it. Verifying needs
// no decryption key, only what is said of the signers.
//
// What goes wrong is told on standard error as "sealtail-reader: error: …" and
// "sealtail-reader: hint: …". The exit code is 0 when all is well, 1 when the
// work failed, 64 when the command line is wrong, 78 when the configuration is,
// and by the gravest finding 3 when a stream has gone silent, 4 when something
// is missing, and 5 when something was tampered with.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sealtail/conf"
	"sealtail/internal/command"
	"sealtail/seal"
)

const usage = `Usage: sealtail-reader COMMAND [ARGUMENTS] INPUT...

  open [--format text|json] [--events] [--keyring FILE]... [--sm2-key FILE]...
        print every record once, in the order of its chain: as text, its bytes
        and a newline; as json, one object a line. Findings go to standard error
  verify [--json] [--live]
        say what is there, what is missing and what was tampered with; needs no
        key. With --live, a stream that has gone silent makes the exit code 3
  inspect
        print the headers and recipients of every envelope; needs no key
  version
        print the version
  help [COMMAND]
        print this text, or more about a command

INPUT, any number and mix of:
  -c FILE [--from TIME] [--to TIME] [--shard N]...
                the Logstores that [reader] of a configuration names; open asks
                Alibaba Cloud KMS about the CMKs that it allows. See
                sealtail-reader help logstores
  --dir DIR     all files *.se1 in DIR and below
  --spool DIR   the spool of a stream, of a whole state directory, or a part of it
  FILE          envelopes one after the other, or re-wrapped keys; of a FIFO,
                what its writer writes
  -             the same from standard input

Trust, for open and verify:
  --signers FILE
        host keys, as sealtail identity prints them; else the first signer met
        of each stream is trusted
  --state FILE
        remembers the newest envelope and the signer of each stream for the
        next run, which then tells if they are gone

Exit codes: 0 all is well; 1 failed, or nothing to verify; 3 a stream is silent
(verify --live); 4 something is missing; 5 tampering; 64 usage. The gravest
finding counts. 78: the configuration is wrong.
`

var help = map[string]string{
	"open": `Usage: sealtail-reader open [--format text|json] [--events] [--keyring FILE]...
           [--sm2-key FILE]... [--suite SUITE]... [--signers FILE] [--state FILE]
           INPUT...

Prints every record once: stream by stream, each in the order of its chain.
Verifies as "verify" does and prints the findings to standard error.

  --format text  the record's bytes and a newline (default)
  --format json  one object a line: stream, host, path, inode, offset, epoch,
                 seq, time, tags, and content, or content_base64 where it is
                 not UTF-8. A record of which pieces are missing has
                 "incomplete": "start", "end" or "both"
  --events       print the agent's own events too: in json as objects with
                 "event" and "fields", in text as lines that begin with
                 "sealtail-event: "
                 Loss events, of bytes lost before they could be sealed, are
                 summed in the last line on standard error, with or without
                 --events; they do not change the exit code
  --keyring FILE a keyring that can open: with its symmetric or private keys
  --sm2-key FILE an SM2 private key, PKCS #8, in PEM or DER
  --suite SUITE  open this suite, aes-256-gcm or sm4-gcm, and no other that is
                 not given too (default: both)

Envelopes whose signature does not fit or whose signer is not trusted are
reported and never opened.

  exit  findings, beside those of "verify"; none ends with 3
  1     unopened: no key at hand, or not among the suites
  4     incomplete: pieces of a record are missing
  5     mismatch: records, too, disagree with their signed header
`,
	"verify": `Usage: sealtail-reader verify [--json] [--live] [--signers FILE] [--state FILE] INPUT...

Prints per stream the contiguous ranges and the findings. Needs no key.
Envelopes may come in any order: the chain says which is theirs, so order is
restored, not reported. Where there is no envelope at all it fails.

  --json   one object a line
  --live   exit with 3 where a stream has gone silent or stopped

  exit  findings
  0     anchored, unanchored-start, duplicate, suite-change, torn
  3     open-tail, stopped (0 without --live)
  4     gap, parked
  5     broken-link, fork, equivocation, forged, unknown-signer, signer-change,
        rollback, foreign, damaged, mismatch (of a Logstore's logs)
`,
	"logstores": `Usage: sealtail-reader open|verify|inspect -c FILE [--from TIME] [--to TIME]
           [--shard N]...

Pulls the Logstores that [reader] of the configuration FILE names: all, if it
names none. docs/CONFIG.md describes it; a file with [reader], [key.NAME] and
[sink.NAME] is enough. What was pulled waits on disk as it is, sealed.

  --from TIME  what the service received at TIME or later
  --to TIME    what it received before TIME
  --shard N    this shard, and no other that is not given too

TIME is 2006-01-02T15:04:05Z, 2006-01-02 (its beginning in UTC), or 90m for so
long ago. A Logstore keeps no order across shards: at both ends of such a span
envelopes are missing whose neighbours are there, and of some shards alone there
are few neighbours. That shows as gaps.

"open" has data keys opened by Alibaba Cloud KMS, of CMKs that [reader] allows
and of no others, whatever an envelope asks for. Keyrings that it names are used
as if given by --keyring.

Beside an envelope its log shows some fields in clear, which nobody signed. What
they say otherwise than the envelope is a mismatch. An envelope sealed for
another Logstore is foreign, unless accept_from names that.
`,
	"inspect": `Usage: sealtail-reader inspect INPUT...

Prints a block for every envelope and stub: what its header says, its
recipients, its sizes, and whether its signature fits; of one in a Logstore also
where it is, and whether the fields beside it fit. Needs no key.
`,
}

const program command.Program = "sealtail-reader"

// release is set when one is linked: -X main.release=1.2.3.
var release string

func main() {
	if err := seal.HideMemory(); err != nil {
		program.Tell(os.Stderr, "warning", err.Error())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends it at once
		time.Sleep(grace)
		os.Exit(program.Report(os.Stderr, errInterrupted))
	})
	os.Exit(dispatch(ctx, os.Args[1:], std{os.Stdin, os.Stdout, os.Stderr}))
}

// grace is how long a signal leaves to what is going on. What waits for others,
// such as for the writer of a FIFO, does not see the context and ends with the
// process.
const grace = time.Second

var errInterrupted = errors.New("interrupted")

// std are the standard streams.
type std struct {
	in       io.Reader
	out, err io.Writer
}

// dispatch runs one command and returns its exit code.
func dispatch(ctx context.Context, args []string, s std) int {
	if len(args) == 0 {
		return program.Report(s.err, command.Usage("which command?"))
	}
	name, args := args[0], args[1:]
	code := command.ExitDone
	var err error
	switch name {
	case "open":
		code, err = openCommand(ctx, args, s)
	case "verify":
		code, err = verifyCommand(ctx, args, s)
	case "inspect":
		code, err = inspectCommand(ctx, args, s)
	case "version", "--version":
		if len(args) > 0 {
			err = command.Usage("version: what is %q?", args[0])
		} else {
			_, err = io.WriteString(s.out, program.Version(release))
		}
	case "help", "--help", "-help", "-h":
		err = helpCommand(args, s.out)
	default:
		err = command.Usage("there is no command %q", name)
	}
	if errors.Is(err, flag.ErrHelp) {
		err = helpCommand([]string{name}, s.out)
	}
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	var faults conf.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			program.Tell(s.err, "error", f.Error())
			program.Tell(s.err, "hint", f.Fix)
		}
		return command.ExitConfig
	}
	if err != nil {
		return program.Report(s.err, err)
	}
	return code
}

func helpCommand(args []string, out io.Writer) error {
	text := usage
	if len(args) > 0 {
		if text = help[args[0]]; text == "" {
			return command.Usage("there is no command %q", args[0])
		}
	}
	_, err := io.WriteString(out, text)
	return err
}
