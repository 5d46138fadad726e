package status

import (
	"slices"
	"strings"
)

// A reason is why bytes are lost.
type reason struct {
	told  string // as loss events have it
	label string // as metrics and JSON have it
	words string // as people read it
	fix   string // keeps it from coming again
}

const (
	fixRename = "rotate by renaming, not by truncating or rewriting"
	stateDir  = "$STATE_DIR" // in a fix
)

var reasons = []reason{
	{"deleted unread", "deleted", "deleted unread", "let rotation keep files until they are read: what is deleted while no agent runs cannot be read"},
	{"deleted waiting for a descriptor", "unopened", "deleted waiting for a descriptor", fixDescriptors},
	{"truncated unread", "truncated", "truncated unread", fixRename},
	{"rewritten unread", "rewritten", "rewritten unread", fixRename},
	{"held-bytes limit", "held", "beyond the hold limit", "raise hold.max_bytes or lower hold.min_free"},
	{"spool damaged", "spool", "in a damaged spool", "check the disk of " + stateDir},
}

// Add adds bytes that were lost for a reason, as loss events name it, and the
// number of these events. A reason that is not known is its own label.
func (l *Loss) Add(told string, events, bytes int64) {
	l.Losses += events
	l.Lost += bytes
	if bytes == 0 {
		return
	}
	label := told
	if i := slices.IndexFunc(reasons, func(r reason) bool { return r.told == told }); i >= 0 {
		label = reasons[i].label
	}
	if l.By == nil {
		l.By = make(map[string]int64)
	}
	l.By[label] += bytes
}

// none reports that nothing is lost.
func (l *Loss) none() bool { return l.Losses == 0 && l.Lost == 0 }

// words tell how much was lost. In a pause it is known and no event told it.
func (l *Loss) words() string {
	if l.Losses == 0 {
		return count(l.Lost, "byte", "bytes")
	}
	return count(l.Losses, "range", "ranges") + ", " + count(l.Lost, "byte", "bytes")
}

// reasons tells how many bytes were lost for which.
func (l *Loss) reasons() string {
	var parts []string
	for _, r := range reasons {
		if n := l.By[r.label]; n > 0 {
			parts = append(parts, Size(n)+" "+r.words)
		}
	}
	if parts == nil {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// fix says what keeps each kind of loss from coming again.
func (l *Loss) fix(s *Snapshot) string {
	parts := []string{"nothing brings them back; the log (bytes lost) and sealtail-reader open --events name file and range of each"}
	for _, r := range reasons {
		if l.By[r.label] > 0 && !slices.Contains(parts, r.fix) {
			parts = append(parts, r.fix)
		}
	}
	return strings.ReplaceAll(strings.Join(append(parts, "this is told for a day"), "; "), stateDir, s.Process.StateDir)
}

// told returns the bytes whose events are sealed, by label, also the labels of none.
func (g *Ledger) told() map[string]float64 {
	told := make(map[string]float64)
	for _, r := range reasons {
		told[r.label] = 0
	}
	for label, n := range g.By {
		told[label] = float64(n - g.Untold.By[label])
	}
	return told
}

// labels says which labels there are, and what those mean that do not say it.
func labels() string {
	var parts []string
	for _, r := range reasons {
		if strings.HasPrefix(r.words, r.label) {
			parts = append(parts, r.label)
		} else {
			parts = append(parts, r.label+" ("+r.words+")")
		}
	}
	return strings.Join(parts, ", ")
}
