package tail

import "time"

// Stats are counts since the start and the state as of now.
type Stats struct {
	Files     int64 // followed, under at least one name
	Open      int64 // descriptors
	Positions int64 // files that are known but not followed
	Lag       int64 // bytes seen and not read, unfinished lines included
	HeldBytes int64 // disk space of deleted files that are held open

	Bytes, Records int64 // read, line ends included; what is read again for a damaged spool apart
	Again          int64 // bytes read again for a damaged spool
	Opened         int64 // files opened by a scan
	Truncated      int64
	Rewritten      int64
	Copies         int64 // files read on as the copy or restored form of another
	Losses         int64 // loss events
	LostBytes      int64
	Scans          int64

	Turned time.Time // when the loop went on last; zero before Ends and Run, and after Run

	ScanErrors  int64 // directories that could not be listed
	OpenErrors  int64
	ReadErrors  int64
	WatchErrors int64 // hints that failed: polling goes on
}

// Stats returns the counts as of the loop's last turn. It may be called at any
// time, by any goroutine.
func (t *Tailer) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	if at := t.lively.Load(); at != 0 {
		s.Turned = time.Unix(0, at)
	}
	return s
}

// turns notes that the loop goes on: at each turn, and within one after each
// file or directory.
func (t *Tailer) turns() { t.lively.Store(time.Now().UnixNano()) }

func (t *Tailer) publish() {
	t.turns()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats = t.n
}

// count adds up what only all files together tell.
func (t *Tailer) count() {
	t.n.Files, t.n.Lag = 0, 0
	for _, f := range t.files {
		if f.name.count > 0 {
			t.n.Files++
		}
		t.n.Lag += f.unread()
	}
	t.n.Positions = 0
	for _, fs := range t.unbound {
		t.n.Positions += int64(len(fs))
	}
}
