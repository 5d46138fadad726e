package e2e_test

import (
	"os"
	"strings"
	"testing"
)

// A file of certificates that is not there, or holds none, is waited for: the
// status says so, and it goes on by itself. What was read once holds.
func TestWaitsForCAFile(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream, key: quickCMK})
	ca := c.path("ca.pem")
	c.edit(c.emulator.CAFile, ca) // of the key
	c.edit(c.emulator.CAFile, ca) // of the sink
	c.edit(shipAll, shipSoon)
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	w.line()
	told := func(text string) func() bool {
		return func() bool {
			c.runs()
			out, _, code := c.try("sealtail", "status", "-c", c.path("sealtail.toml"))
			return code == 3 && strings.Contains(out, text) && strings.Contains(out, "ca_file of the route of [key.kms]")
		}
	}
	c.start()
	c.until("the file to be missed", told("open "+ca+": no such file"))
	c.stop() // a start that waits can be stopped
	c.start()
	c.write("ca.pem", "garbage")
	c.until("what is in it to be told", told(ca+" holds no certificate"))
	c.write("ca.pem", string(c.ca()))
	c.until("the first line", func() bool { c.runs(); return len(c.open()) == 1 })

	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	w.line()
	c.until("the second line", func() bool { c.runs(); return len(c.open()) == 2 })
	c.edit("retry_max = \"500ms\"", "retry_max = \"600ms\"")
	c.reload(ca)
	c.write("ca.pem", string(c.ca()))
	c.reload("")
	w.line()
	c.until("the third line", func() bool { return len(c.open()) == 3 })
	c.stop()
	l.check(t, c.whole())
}
