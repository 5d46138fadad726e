package tail_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The real logrotate, in its usual ways: each line comes once, though nobody
// takes chunks, or no agent runs, while it rotates.
func TestH10_Logrotate(t *testing.T) {
	tool, err := exec.LookPath("logrotate")
	if err != nil {
		t.Skip("logrotate is not installed")
	}
	for _, tt := range []struct{ name, include, directives string }{
		{"create", "app.log", "create"},
		{"compress", "app.log", "create\ncompress"},
		{"delaycompress", "app.log", "create\ncompress\ndelaycompress"},
		{"dateext", "app.log", "create\ndateext\ndateformat -%Y%m%d-%s"},
		{"olddir", "app.log", "create\ncompress\nolddir old"},
		{"copytruncate", "app.log", "copytruncate"},
		{"copytruncate, compress", "app.log", "copytruncate\ncompress"},
		{"all match", "app.log*", "create\ncompress\ndelaycompress"},
		{"all match, copytruncate", "app.log*", "copytruncate\ncompress\ndelaycompress"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.include)
			b.o.Rotated = []string{b.path("old/*")}
			b.do(os.Chmod(b.dir, 0o755)) // logrotate refuses others
			b.do(os.Mkdir(b.path("old"), 0o755))
			var want []string
			for i := range 6 {
				text := numbered(fmt.Sprintf("%d-a", i), 0, 60) // read
				b.write("app.log", text)
				b.step(second)
				more := numbered(fmt.Sprintf("%d-b", i), 0, 20) // seen, not read
				b.write("app.log", more)
				b.tail.Round(second)
				last := numbered(fmt.Sprintf("%d-c", i), 0, 20)
				if i%2 == 1 {
					b.stop()
				}
				b.write("app.log", last)                                             // not even seen
				directives := strings.ReplaceAll(tt.directives, "%s", fmt.Sprint(i)) // dates that differ
				b.do(os.WriteFile(b.path("rotate.conf"), fmt.Appendf(nil, "%s {\nrotate 9\nsize 1\n%s\n}\n", b.path("app.log"), directives), 0o644))
				if out, err := exec.Command(tool, "-f", "-s", b.path("state"), b.path("rotate.conf")).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				for range 3 {
					b.step(second)
				}
				want = append(want, lines(text+more+last)...)
			}
			for range 10 {
				b.step(second)
			}
			b.step(40 * second)
			b.step(second)
			b.wantSet(want...)
			b.quiet()
		})
	}
}
