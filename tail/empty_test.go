package tail_test

import (
	"fmt"
	"testing"
	"time"
)

// shift rotates a file as logrotate does with copytruncate, and compress or
// not: the copy has the time of the rotation.
func (b *bench) shift(name string, compressed bool) {
	b.t.Helper()
	end := ""
	if compressed {
		end = ".gz"
	}
	for i := 5; i > 0; i-- {
		if from := fmt.Sprintf("%s.%d%s", name, i, end); b.there(from) {
			b.rename(from, fmt.Sprintf("%s.%d%s", name, i+1, end))
		}
	}
	b.copy(name, name+".1")
	b.truncate(name, 0)
	if compressed {
		b.gzip(name + ".1")
	}
}

// What an empty file got that is empty again when it is looked at next, also
// after a restart: read from the copy, and earlier copies are not.
func TestH07_EmptyWrittenAndTruncated(t *testing.T) {
	for name, size := range map[string]int{"app.log": 1, "b.log": 20, "web-01.log": 300} {
		for _, compressed := range []bool{true, false} {
			for _, c := range []struct {
				times    int
				late, up bool
			}{{1, false, false}, {1, true, false}, {2, true, false}, {1, false, true}, {1, true, true}, {2, true, true}} {
				t.Run(fmt.Sprintf("%d lines compressed=%t times=%d late=%t up=%t", size, compressed, c.times, c.late, c.up), func(t *testing.T) {
					b := newBench(t)
					b.write(name, numbered("a", 0, size))
					b.step(0)
					b.want(lines(numbered("a", 0, size))...)
					b.shift(name, compressed)
					for range 3 {
						b.step(second)
					}
					if c.late {
						b.step(40 * second)
					}
					b.want()
					b.o.Since = time.Now()
					if !c.up {
						b.stop()
					}
					var want []string
					for i := range c.times {
						text := numbered(fmt.Sprint(i, "b"), 0, size)
						b.write(name, text)
						b.shift(name, compressed)
						want = append(want, lines(text)...)
					}
					for range 12 {
						b.step(second)
					}
					b.wantSet(want...)
					b.quiet()
				})
			}
		}
	}
}
