package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"text/tabwriter"
	"time"

	"sealtail/internal/command"
	"sealtail/internal/durable"
	"sealtail/seal"
	"sealtail/seal/keyring"
)

func keyringCommand(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return command.Usage("keyring: which of new, list, rotate, enable, disable, destroy, export-public?")
	}
	verb, args := args[0], args[1:]
	flags := flag.NewFlagSet("keyring "+verb, flag.ContinueOnError)
	file := flags.String("f", "", "keyring `FILE`")
	kind, out := "", ""
	least, most := 0, 0
	switch verb {
	case "new":
		flags.StringVar(&kind, "kind", string(keyring.HPKE), "`KIND` of the key")
	case "rotate":
		flags.StringVar(&kind, "kind", "", "`KIND` of the key")
	case "list":
	case "export-public":
		flags.StringVar(&out, "out", "", "`FILE` to write")
	case "enable", "disable":
		most = 1
	case "destroy":
		least, most = 1, 1
	default:
		return command.Usage("keyring: there is no %q", verb)
	}
	rest, err := command.Parse(flags, args, least, most)
	switch {
	case err != nil:
		return err
	case *file == "":
		return command.Usage("keyring %s: -f FILE is missing", verb)
	case verb == "export-public" && out == "":
		return command.Usage("keyring %s: --out FILE is missing", verb)
	case kind != "" && !slices.Contains([]keyring.Kind{keyring.AES256GCM, keyring.SM4GCM, keyring.HPKE}, keyring.Kind(kind)):
		return command.Usage("keyring %s: kind %q is not known: there are %s, %s and %s",
			verb, kind, keyring.AES256GCM, keyring.SM4GCM, keyring.HPKE)
	}
	id := ""
	if len(rest) > 0 {
		id = rest[0]
	}
	return keyringHint(*file, doKeyring(verb, *file, keyring.Kind(kind), out, id, stdout))
}

// doKeyring does one thing to a keyring and says what it did.
func doKeyring(verb, file string, kind keyring.Kind, out, id string, stdout io.Writer) (err error) {
	if id == "" && (verb == "enable" || verb == "disable") {
		if id, err = primary(file); err != nil {
			return err
		}
	}
	done := ""
	switch verb {
	case "list":
		return listKeyring(file, stdout)
	case "new":
		id, err = keyring.New(file, kind)
		done = "made"
	case "rotate":
		id, err = keyring.Rotate(file, kind)
		done = "made, and is the primary"
	case "enable":
		err, done = keyring.Enable(file, id), "enabled"
	case "disable":
		err, done = keyring.Disable(file, id), "disabled"
	case "destroy":
		err, done = keyring.Destroy(file, id), "destroyed"
	case "export-public":
		err, id, done = keyring.ExportPublic(file, out), out, "written"
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s: %s\n", id, done)
	return err
}

func primary(file string) (id string, err error) {
	keys, err := keyring.Open(file).List()
	if err != nil {
		return "", err
	}
	for _, k := range keys {
		if k.Primary {
			return k.ID, nil
		}
	}
	return "", errors.New("the keyring has no primary")
}

func listKeyring(file string, stdout io.Writer) error {
	keys, err := keyring.Open(file).List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tCREATED\tUSE")
	for _, k := range keys {
		use := "seals and opens"
		switch {
		case k.State == keyring.Destroyed, k.State == keyring.Disabled:
			use = "none"
		case k.Primary && k.State == keyring.Enabled && k.Opens:
		case k.Primary && k.State == keyring.Enabled:
			use = "seals only: its private half is not here"
		case k.Opens:
			use = "opens"
		default:
			use = "none: its private half is not here"
		}
		if k.Primary {
			use += " (primary)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.ID, k.State, k.Created.UTC().Format(time.RFC3339), use)
	}
	return w.Flush()
}

// keyringHint adds to an error what to do about it, and takes off what it
// means to an agent.
func keyringHint(file string, err error) error {
	var of *seal.KMSError
	if errors.As(err, &of) && of.Err != nil {
		err = of.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return command.Hinted(err, "make one: sealtail keyring new -f "+file)
	case errors.Is(err, fs.ErrExist):
		return command.Hinted(err, "a keyring is never overwritten: write it beside, then mv it over the old one")
	case errors.Is(err, durable.ErrNotPrivate):
		return command.Hinted(err, "it must belong to root or to who runs this; then chmod 0600 "+file)
	case errors.Is(err, durable.ErrLocked):
		return command.Hinted(err, "another sealtail is changing it: try again")
	}
	return err
}
