package tail

import (
	"maps"
	"time"

	"sealtail/record"
)

// Stats are counts since the start and the state as of now.
type Stats struct {
	Files     int64 // followed, under at least one name
	Open      int64 // descriptors
	Positions int64 // files that are known but not followed
	Lag       int64 // bytes seen and not taken: unread files, unfinished lines
	HeldBytes int64 // disk space of deleted files that are held open

	Waiting int64     // files that wait for a descriptor
	Waits   time.Time // since when there are such at every look; zero: there are none

	// The ledger, in raw bytes: Seen = Bytes + Hole + LostBytes + Lag, always.
	Seen      int64 // of files as they grew, from where reading began
	Bytes     int64 // taken, line ends and dropped records included
	Hole      int64 // never written: the NULs that a truncated file begins with
	LostBytes int64
	Lost      map[string]record.Lost // likewise by reason, with the loss events
	Again     int64                  // read again for a damaged spool: apart

	Dropped int64 // of Bytes: those of records that filters dropped

	Records   int64 // without those dropped
	Filtered  int64 // records that filters dropped
	Malformed int64 // lines that are none of the format
	Opened    int64 // files opened by a scan
	Truncated int64
	Rewritten int64
	Copies    int64 // files read on as the copy or restored form of another
	Scans     int64

	ScanTime time.Duration // of the last scan of all directories

	Turned time.Time // when the loop went on last; zero before Ends and Run, and after Run

	Closed   int64  // files and directories that the patterns take and that cannot be read: as of now
	ClosedAt string // the first of them by name
	ClosedAs error  // and why

	ScanErrors  int64 // directories that could not be listed
	OpenErrors  int64
	ReadErrors  int64
	WatchErrors int64 // hints that failed: polling goes on
}

// lost counts bytes that are lost for a reason, and loss events that tell such.
func (s *Stats) lost(reason string, bytes, events int64) {
	if s.Lost == nil {
		s.Lost = make(map[string]record.Lost)
	}
	sum := s.Lost[reason]
	s.Lost[reason] = record.Lost{Ranges: sum.Ranges + events, Bytes: sum.Bytes + bytes}
	s.LostBytes += bytes
}

// Stats returns the counts as of the loop's last turn. It may be called at any
// time, by any goroutine.
func (t *Tailer) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Turned = t.lively.Time()
	return s
}

// turns notes that the loop goes on: at each turn, and within one after each
// file or directory.
func (t *Tailer) turns() { t.lively.Now() }

func (t *Tailer) publish() {
	t.turns()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats = t.n
	t.stats.Lost = maps.Clone(t.n.Lost)
}

// counted takes over what a pass counted.
func (t *Tailer) counted(p *pass) {
	t.n.Filtered += p.drops.records
	t.n.Dropped += p.drops.bytes
	t.n.Malformed += p.bare
}

// count adds up what only all files together tell.
func (t *Tailer) count() {
	t.n.Closed, t.n.ClosedAt, t.n.ClosedAs = 0, "", nil
	closed := func(path string, err error) {
		if t.n.Closed++; t.n.ClosedAs == nil || path < t.n.ClosedAt {
			t.n.ClosedAt, t.n.ClosedAs = path, err
		}
	}
	for path, err := range t.closed {
		closed(path, err)
	}
	for _, r := range t.again {
		if r.failed != nil {
			closed(r.path, r.failed)
		}
	}
	t.n.Files, t.n.Lag, t.n.Waiting = 0, 0, 0
	for _, f := range t.files {
		if f.waits {
			t.n.Waiting++
		}
		if f.end.broken != nil && t.closed[f.pos.Path] == nil {
			closed(f.pos.Path, f.end.broken)
		}
		if f.name.count > 0 {
			t.n.Files++
		}
		t.n.Lag += f.unread()
	}
	switch {
	case t.n.Waiting == 0:
		t.n.Waits = time.Time{}
	case t.n.Waits.IsZero():
		t.n.Waits = t.wall
	}
	t.n.Positions = 0
	for _, fs := range t.unbound {
		t.n.Positions += int64(len(fs))
		for _, f := range fs {
			t.n.Lag += f.unread()
		}
	}
}
