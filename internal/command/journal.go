package command

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// ToJournal reports whether systemd's journal reads what is written to w. It
// then takes <3> before a line for its priority, and off it: sd-daemon(3).
func ToJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// priority is what the journal is to take for that of a line of a kind.
func priority(kind string) string {
	switch kind {
	case "error":
		return "<3>"
	case "warning", "hint": // which is to be where what it is for is
		return "<4>"
	}
	return "<6>"
}
