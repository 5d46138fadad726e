package spool_test

import (
	"fmt"
	"maps"
	"path"
	"strings"
	"testing"

	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

// A segment loses its name only once a later one, with the state as of then, is
// durable with its name.
func TestH63_UnlinkedAfterItsSuccessor(t *testing.T) {
	fsys := crashfs.New()
	r := started(t, spool.Options{FS: fsys, SegmentBytes: 8 << 10})
	synced, renamed, durable := map[string]bool{}, map[string]bool{}, map[string]bool{}
	removed := 0
	fsys.Inject(func(op crashfs.Op) error {
		name := path.Base(op.Name)
		id, kind, _ := strings.Cut(name, ".")
		switch op.Kind {
		case crashfs.Write:
			synced[id] = false
		case crashfs.Sync:
			synced[id] = true
		case crashfs.Rename:
			renamed[id] = kind == "seg" && synced[id]
		case crashfs.SyncDir:
			maps.Copy(durable, renamed)
		case crashfs.Remove:
			var n int
			if _, err := fmt.Sscanf(name, "%08d.seg", &n); err != nil || !strings.HasSuffix(name, ".seg") {
				return nil
			}
			removed++
			if next := fmt.Sprintf("%08d", n+1); !durable[next] {
				t.Errorf("%s removed before %s was durable", name, next)
			}
		}
		return nil
	})
	for range 60 {
		must(t, r.append(newEntry(2000, 10)))
		must(t, r.drain(1, true))
	}
	if removed < 5 {
		t.Errorf("only %d segments removed", removed)
	}
}
