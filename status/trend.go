package status

import "time"

const (
	rateSpan   = 10 * time.Second // that rates are taken over
	maxSamples = 512
)

// A Trend tells from a stream's snapshots, one a second or so, what one alone
// does not show: rates, and how old what is not sealed is. The zero value is
// ready.
type Trend struct {
	samples []sample // oldest first; those behind us are thinned out
}

type sample struct {
	at                          time.Time
	seen, sealed, pending, sent int64
}

// Add completes s, which is as of now.
func (t *Trend) Add(now time.Time, s *Stream) {
	x := sample{now, s.Sealed.Taken + s.Files.Lag, s.Sealed.Taken, s.Spool.PendingB, int64(s.Sink.Bytes)}
	t.samples = append(t.samples, x)
	if len(t.samples) > maxSamples {
		t.thin(now)
	}
	// What is sealed is done with; the newest sample that shows no more than that
	// is when the oldest byte that is not had not been seen yet.
	first := 0
	for i, old := range t.samples {
		if old.seen <= x.sealed {
			first = i
		}
	}
	s.Files.LagAge = 0
	if s.Files.Lag > 0 {
		s.Files.LagAge = now.Sub(t.samples[first].at).Seconds()
	}
	from := t.samples[len(t.samples)-1]
	for i := len(t.samples) - 1; i >= 0 && now.Sub(t.samples[i].at) <= rateSpan; i-- {
		from = t.samples[i]
	}
	s.Trend = rates(from, x, s.Files.Lag)
	t.forget(min(first, t.index(now.Add(-rateSpan))))
}

func rates(from, to sample, lag int64) Rates {
	span := to.at.Sub(from.at).Seconds()
	if span <= 0 {
		return Rates{LagETA: eta(float64(lag), 0), SpoolETA: eta(float64(to.pending), 0)}
	}
	per := func(a, b int64) float64 { return float64(b-a) / span }
	r := Rates{Arriving: max(0, per(from.seen, to.seen)), Sealing: max(0, per(from.sealed, to.sealed)), Shipping: max(0, per(from.sent, to.sent))}
	r.LagETA = eta(float64(lag), r.Sealing-r.Arriving)
	r.SpoolETA = eta(float64(to.pending), -per(from.pending, to.pending))
	return r
}

// eta returns how long left takes at a rate; -1 = more than a month.
func eta(left, rate float64) float64 {
	const month = 30 * 24 * 3600
	switch {
	case left <= 0:
		return 0
	case left >= month*rate:
		return -1
	}
	return left / rate
}

// index returns the first sample that is not before a time.
func (t *Trend) index(at time.Time) int {
	for i, x := range t.samples {
		if !x.at.Before(at) {
			return i
		}
	}
	return len(t.samples) - 1
}

func (t *Trend) forget(n int) {
	t.samples = append(t.samples[:0], t.samples[n:]...)
}

// thin keeps samples that lie apart by a share of their age: the further back,
// the coarser.
func (t *Trend) thin(now time.Time) {
	kept, last := t.samples[:0], time.Time{}
	for i, x := range t.samples {
		if i == 0 || now.Sub(x.at) <= rateSpan || x.at.Sub(last) >= now.Sub(x.at)/32 {
			kept, last = append(kept, x), x.at
		}
	}
	t.samples = kept
}
