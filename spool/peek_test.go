package spool_test

import (
	"slices"
	"testing"

	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

// peek returns what the state was told, and whether there was an entry.
func peek(t *testing.T, fsys *crashfs.FS) ([]string, bool) {
	t.Helper()
	d := &diary{last: "-"}
	before := fsys.Ops()
	as, err := spool.Peek(fsys, dir, d)
	must(t, err)
	if n := fsys.Ops() - before; n != 0 {
		t.Errorf("Peek did %d operations that change something", n)
	}
	return d.told, !as.IsZero()
}

// TestPeek goes by the newest segment alone, beside one that appends, and by the
// one before where the newest is damaged.
func TestPeek(t *testing.T) {
	fsys := crashfs.New()
	if told, any := peek(t, fsys); any || len(told) > 0 {
		t.Errorf("no spool: got %q", told)
	}
	s, _ := openDiary(t, fsys)
	must(t, s.Recover(once))
	put(t, s, "a", 100)
	put(t, s, "b", 100)
	told, any := peek(t, fsys)
	if want := []string{"load -", "a", "b"}; !any || !slices.Equal(told, want) {
		t.Errorf("got %q, want %q", told, want)
	}
	must(t, s.Close())
	s, _ = openDiary(t, fsys)
	must(t, s.Recover(once)) // a segment that begins with what the first one came to
	put(t, s, "c", 100)
	told, _ = peek(t, fsys)
	if want := "c"; len(told) == 0 || told[len(told)-1] != want || slices.Contains(told, "a") {
		t.Errorf("second segment: got %q", told)
	}
	frames, err := spool.Frames(fsys, dir, 2)
	must(t, err)
	flip(t, fsys, 2, frames[0].Off)
	told, any = peek(t, fsys)
	if !any || !slices.Contains(told, "b") || slices.Contains(told, "c") {
		t.Errorf("damaged: got %q", told)
	}
}
