package record

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Losses sum up what was lost, by reason, and apart by the hour for the day
// before the newest. The zero value is empty.
type Losses struct {
	sums map[hourly]sum
}

// An hourly is a reason, and the hours since 1970 when it was told; 0 = longer
// ago, or nobody knows.
type hourly struct {
	reason string
	hour   int64
}

type sum struct {
	Lost
	newest int64 // unix s; 0 without an hour
}

const (
	hour = int64(time.Hour / time.Second)
	day  = 24 // hours
)

// Since returns the sums by reason of what was told at from or later, to the
// hour. The zero time is all.
func (l Losses) Since(from time.Time) map[string]Lost {
	since := make(map[string]Lost)
	for h, s := range l.sums {
		if from.IsZero() || h.hour >= from.Unix()/hour {
			all := since[h.reason]
			since[h.reason] = Lost{all.Ranges + s.Ranges, all.Bytes + s.Bytes}
		}
	}
	return since
}

// Newest is when the newest loss was told; zero = nobody knows, or there is none.
func (l Losses) Newest() (at time.Time) {
	for _, s := range l.sums {
		if s.newest > 0 && time.Unix(s.newest, 0).After(at) {
			at = time.Unix(s.newest, 0)
		}
	}
	return at
}

// add takes over a position that is a loss. Losses are added as they come: what
// is of a later hour was told by a clock that was set back since.
func (l *Losses) add(p Position) {
	if l.sums == nil {
		l.sums = make(map[hourly]sum)
	}
	now := p.Closed / hour
	l.put(hourly{p.Path, now}, sum{p.Lost, p.Closed})
	if now == 0 {
		return
	}
	for h, s := range l.sums {
		if h.hour > 0 && (h.hour < now-day || h.hour > now) {
			delete(l.sums, h)
			l.put(hourly{h.reason, 0}, sum{Lost: s.Lost})
		}
	}
}

func (l *Losses) put(h hourly, s sum) {
	old := l.sums[h]
	l.sums[h] = sum{Lost{old.Ranges + s.Ranges, old.Bytes + s.Bytes}, max(old.newest, s.newest)}
}

// positions are the sums as losses to add, in that order.
func (l Losses) positions() (ps []Position) {
	for _, h := range slices.SortedFunc(maps.Keys(l.sums), func(x, y hourly) int {
		return cmp.Or(cmp.Compare(x.hour, y.hour), cmp.Compare(x.reason, y.reason))
	}) {
		ps = append(ps, Position{Path: h.reason, Lost: l.sums[h].Lost, Closed: l.sums[h].newest, Forget: true})
	}
	return ps
}

func (l Losses) clone() Losses { return Losses{maps.Clone(l.sums)} }
