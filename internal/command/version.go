package command

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version returns the release, as the linker was told it, else the commit that
// was built.
func Version(release string) string {
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

// Version returns the line that p says of its version and of what built it for
// what.
func (p Program) Version(release string) string {
	return fmt.Sprintf("%s %s %s %s/%s\n", p, Version(release), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
