package main

import (
	"flag"
	"fmt"
	"io"

	"sealtail/seal"
)

func selftestCommand(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("selftest", flag.ContinueOnError)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := seal.SelfTest(); err != nil {
		return hinted(err, "this machine or this binary computes wrongly: do not use it")
	}
	_, err := fmt.Fprintln(stdout, "every algorithm gives the published results")
	return err
}
