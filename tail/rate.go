package tail

import "time"

// A rate limits the bytes read per second. What was not used of one second can
// be used in the next.
type rate struct {
	limit int64 // 0 = none
	left  int64 // may be read now; < 0: too much was
	at    time.Duration
	begun bool
}

// take notes that n bytes were read.
func (r *rate) take(n int64) {
	if r.limit > 0 {
		r.left -= n
	}
}

// wait returns how long nothing is to be read.
func (r *rate) wait(now time.Duration) time.Duration {
	if r.limit == 0 {
		return 0
	}
	if !r.begun {
		r.begun, r.at, r.left = true, now, r.limit
	}
	// Whole bytes: what is less than one is counted the next time.
	n := int64((now - r.at).Seconds() * float64(r.limit))
	r.at += time.Duration(float64(n) / float64(r.limit) * float64(time.Second))
	r.left = min(r.limit, r.left+n)
	if r.left > 0 {
		return 0
	}
	return max(time.Millisecond, time.Duration(float64(1-r.left)*float64(time.Second)/float64(r.limit)))
}
