// Sealtail follows log files, seals what is appended to them in batches under
// a key that a master key wraps, and ships the batches; it never writes or
// sends a line in clear. docs/CONFIG.md describes its configuration.
//
// What goes wrong is told on standard error as "sealtail: error: …" and
// "sealtail: hint: …". The exit code is 0 when the work is done, 1 when it
// failed, 64 when the command line is wrong, and 78 when the configuration is;
// status has more of its own.
package main

import (
	"errors"
	"flag"
	"io"
	"os"

	"sealtail/conf"
	"sealtail/internal/command"
	"sealtail/seal"
)

const usage = `Usage: sealtail COMMAND [ARGUMENTS]

  run -c FILE [--dry-run [--show]]
        follow, seal and ship as FILE says, until SIGTERM;
        --dry-run ends at the files' end, ships nothing and writes nothing,
        --show lets it print sample records as they are
  status -c FILE | --state-dir DIR [--json]
        say how the agent that runs with agent.state_dir of FILE stands, what is
        wrong and what to do; exits with 0 if all is well, 3 while sealing is
        paused, 4 if no agent runs, 5 for any other problem
  explain NAME -c FILE
        say which stream takes the file NAME, or why none does, and how far it
        is taken
  check -c FILE [--online | --alone]
        say what FILE amounts to, and all that is wrong with it;
        --online asks KMS and Log Service too, and changes nothing there,
        --alone looks at FILE and at nothing that it names
  provision -c FILE [--env] [--print-policies]
        create the Logstores of FILE that are not there, encrypted as it says,
        and verify all; run never creates one;
        --env does it with the access key in ALIBABA_CLOUD_ACCESS_KEY_ID and
        ALIBABA_CLOUD_ACCESS_KEY_SECRET: the agent's needs no right to it,
        --print-policies prints who needs which rights, and does no more
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

const program command.Program = "sealtail"

// release is set when one is linked: -X main.release=1.2.3.
var release string

func main() {
	if err := seal.HideMemory(); err != nil {
		program.Tell(os.Stderr, "warning", err.Error())
	}
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs one command and returns its exit code.
func dispatch(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		return report(stderr, command.Usage("which command?"))
	}
	name, args := args[0], args[1:]
	var err error
	switch name {
	case "run":
		err = runCommand(args, stdout, stderr)
	case "explain":
		err = explainCommand(args, stdout)
	case "status":
		err = statusCommand(args, stdout)
	case "check":
		err = checkCommand(args, stdout, stderr)
	case "provision":
		err = provisionCommand(args, stdout, stderr)
	case "identity":
		err = identityCommand(args, stdout)
	case "keyring":
		err = keyringCommand(args, stdout)
	case "selftest":
		err = selftestCommand(args, stdout)
	case "version", "--version":
		err = versionCommand(args, stdout)
	case "help", "--help", "-help", "-h":
		err = flag.ErrHelp
	default:
		err = command.Usage("there is no command %q", name)
	}
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(stdout, usage)
	}
	return report(stderr, err)
}

// report tells an error, or all faults of a configuration, and returns the exit
// code.
func report(stderr io.Writer, err error) int {
	var faults conf.Faults
	code := command.ExitConfig
	if quiet, ok := errors.AsType[silent](err); ok {
		return int(quiet)
	}
	if o, ok := errors.AsType[outside](err); ok {
		faults, code = o.Faults, command.ExitFailed
	} else if !errors.As(err, &faults) {
		return program.Report(stderr, err)
	}
	for _, f := range faults {
		program.Tell(stderr, "error", f.Error())
		program.Tell(stderr, "hint", f.Fix)
	}
	return code
}

// configFlag adds -c; the function it returns loads the file.
func configFlag(fs *flag.FlagSet) func() (*conf.Config, error) {
	file := fs.String("c", "", "configuration `FILE`")
	return func() (*conf.Config, error) {
		if *file == "" {
			return nil, command.Usage("%s: -c FILE is missing", fs.Name())
		}
		cfg, err := conf.Load(*file)
		var faults conf.Faults
		if err != nil && !errors.As(err, &faults) {
			return nil, command.Fail(command.ExitConfig, err, "")
		}
		return cfg, err
	}
}

func versionCommand(args []string, stdout io.Writer) error {
	if _, err := command.Parse(flag.NewFlagSet("version", flag.ContinueOnError), args, 0, 0); err != nil {
		return err
	}
	_, err := io.WriteString(stdout, program.Version(release))
	return err
}

// version returns the release or commit of this program.
func version() string { return command.Version(release) }
