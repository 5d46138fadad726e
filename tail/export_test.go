package tail

import (
	"time"

	"sealtail/record"
)

// Step does one round at d after the one before and returns what there is to
// send then. The caller releases the chunks.
func (t *Tailer) Step(d time.Duration) []*record.Chunk {
	t.blocked = false
	t.roundAt(d)
	var all []*record.Chunk
	for c := t.next(); c != nil; c = t.next() {
		all = append(all, c)
	}
	t.found()
	t.count()
	t.publish()
	return all
}

// Round scans and looks at d after the round before, while nobody takes chunks.
func (t *Tailer) Round(d time.Duration) {
	t.blocked = true
	t.roundAt(d)
}

func (t *Tailer) roundAt(d time.Duration) {
	t.now += d
	t.wall = t.born.Add(t.now)
	t.nextScan = 0
	t.round()
	t.found()
	t.count()
	t.publish()
}

// NoPoll leaves only hints after the first round.
func (t *Tailer) NoPoll() { t.o.Poll = time.Hour }

// Next returns the next chunk, nil if there is none.
func (t *Tailer) Next() *record.Chunk { return t.next() }

// Close closes what Step opened.
func (t *Tailer) Close() { t.close() }

// SetFree replaces the share of free disk space.
func (t *Tailer) SetFree(share float64) {
	t.free = func(int) (float64, bool) { return share, true }
}

// A Part is a record being cut.
type Part struct{ p cut }

func NewPart() *Part { return new(Part) }

// Split cuts lines at most max bytes long, limit bytes of them.
func (p *Part) Split(b []byte, at int64, max, limit int) (recs []record.Record, n int, full bool) {
	return cutter{max: max, id: newID}.split(nil, b, at, &p.p, limit, false)
}

// Split cuts lines at most max bytes long, limit bytes of them.
func Split(b []byte, max, limit int, final bool) (recs []record.Record, n int, full bool) {
	var p cut
	return cutter{max: max, id: newID}.split(nil, b, 0, &p, limit, final)
}

// Expand tests the braces of patterns.
func Expand(glob string) []string { return expand(glob) }

// Ledger adds up what only all files together tell, and returns the counts.
func (t *Tailer) Ledger() Stats {
	t.count()
	return t.n
}

// Decided reports whether it is known of every .gz what it is.
func (t *Tailer) Decided() bool {
	for _, f := range t.files {
		if f.gz != nil && f.undecided() {
			return false
		}
	}
	return true
}

// Inflaters returns how many .gz files are being inflated.
func (t *Tailer) Inflaters() int { return t.inflaters }

// SetRemote has all files lie on a network file system.
func (t *Tailer) SetRemote() { t.remote = func(int) bool { return true } }
