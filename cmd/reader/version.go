package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// release is set when one is linked: -X main.release=1.2.3.
var release string

func versionCommand(args []string, out io.Writer) error {
	if len(args) > 0 {
		return usageError("version: what is %q?", args[0])
	}
	_, err := fmt.Fprintf(out, "sealtail-reader %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// version returns the release, else the commit that was built.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = "-" + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel" + revision + modified
	}
	return v
}
