package main

import (
	"flag"
	"fmt"
	"io"

	"sealtail/internal/command"
	"sealtail/seal"
)

func selftestCommand(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("selftest", flag.ContinueOnError)
	if _, err := command.Parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := selfTest(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(stdout, "every algorithm gives the published results")
	return err
}

// selfTest fails where no key is to be used.
func selfTest() error {
	if err := seal.SelfTest(); err != nil {
		return command.Hinted(err, "this machine or this binary computes wrongly: do not use it")
	}
	return nil
}
