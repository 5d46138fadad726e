//go:build torture

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestKillNineFiftyTimes(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) { torture(t, suite, 50, 40*time.Millisecond) })
	}
}

// This machine's own logs, as they are: what is opened is what they hold.
func TestOwnLogs(t *testing.T) {
	names := []string{"/var/log/dpkg.log", "/var/log/alternatives.log", "/var/log/apt/history.log", "/var/log/apt/term.log"}
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			r := newRig(t, suite, "*.log", quickStream, "")
			var want int
			for _, name := range names {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				want += strings.Count(string(b), "\n")
			}
			config, err := os.ReadFile(r.path("sealtail.toml"))
			if err != nil {
				t.Fatal(err)
			}
			quoted := `"` + strings.Join(names, `", "`) + `"`
			r.write("sealtail.toml", strings.Replace(string(config), fmt.Sprintf("include = [%q]", r.path("logs", "*.log")), "include = ["+quoted+"]", 1))
			r.start()
			r.until("all lines", func() bool { return len(r.open()) >= want })
			r.stop()
			files := make(map[string]string)
			for _, o := range r.open() {
				files[o.Path] += o.text(t) + "\n"
			}
			for _, name := range names {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				whole := string(b[:strings.LastIndexByte(string(b), '\n')+1])
				if files[name] != whole {
					t.Errorf("%s: opened %d bytes, the file has %d", name, len(files[name]), len(whole))
				}
			}
		})
	}
}
