package tail

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// Run sends what the files have and get until reading ends, or with
// [Options.Once] until they are read, and closes out. A chunk that was not taken
// by then is not sent; its bytes stay in their file. Until ctx ends, too, it
// looks after the files, as it does while no chunk is taken: what is born,
// renamed or deleted meanwhile is not lost on the next Tailer. It returns nil.
// Run is called once.
func (t *Tailer) Run(ctx, reading context.Context, out chan<- *record.Chunk) error {
	defer t.Close()
	t.tryWatch()
	t.send(reading, out)
	if !t.o.Once {
		t.lookAfter(ctx)
	}
	return nil
}

func (t *Tailer) send(ctx context.Context, out chan<- *record.Chunk) {
	defer close(out)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var c *record.Chunk // read and not taken yet
	for {
		t.clock(time.Now())
		limited := t.rate.wait(t.now)
		t.blocked = c != nil || limited > 0
		t.turn()
		t.found() // before anything is taken of them: it may lie in the channel for long
		if c == nil && limited == 0 {
			read := t.n.Bytes + t.n.Again
			c = t.next()
			t.rate.take(t.n.Bytes + t.n.Again - read)
		}
		t.publish()
		if c == nil && t.o.Once && limited == 0 {
			return
		}
		var send chan<- *record.Chunk
		if c != nil {
			send = out
		}
		wait := t.wait()
		if limited > 0 && (t.o.Once || limited < wait) {
			wait = limited
		}
		timer.Reset(wait)
		select {
		case send <- c:
			c = nil
		case <-timer.C:
		case <-t.watch.woken():
			t.clock(time.Now())
			t.hints()
		case <-ctx.Done():
			if c != nil {
				c.Release()
			}
			return
		}
	}
}

func (t *Tailer) lookAfter(ctx context.Context) {
	t.blocked = true
	t.lastNews()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		t.clock(time.Now())
		t.turn()
		t.found()
		t.publish()
		timer.Reset(t.wait())
		select {
		case <-timer.C:
		case <-t.watch.woken():
			t.clock(time.Now())
			t.hints()
		case <-ctx.Done():
		}
	}
	t.lastNews()
	t.bequeath()
}

// clock sets what this turn takes for the time.
func (t *Tailer) clock(now time.Time) { t.now, t.wall = now.Sub(t.born), now }

// turn does what is due: a round, or looks and listings that cannot wait for
// it. With Once the first round finds all there is.
func (t *Tailer) turn() {
	switch {
	case t.o.Once && t.started:
	case t.now >= t.nextRound:
		t.nextRound = t.now + t.o.Poll
		t.round()
	case t.now >= t.nextHot:
		t.lookHot()
	}
}

// wait returns how long there is nothing to do.
func (t *Tailer) wait() time.Duration { return max(0, min(t.nextRound, t.nextHot)-t.now) }

// round scans, looks at every file and settles what a scan alone can tell.
func (t *Tailer) round() {
	if t.watch == nil && t.watchAt > 0 && t.now >= t.watchAt {
		t.tryWatch()
	}
	t.waits = t.o.Waiting != nil && t.o.Waiting()
	t.limitOpen()
	if t.now >= t.nextScan {
		start, opened := time.Now(), t.n.Opened
		t.scan()
		t.scanned(time.Since(start), opened)
		t.nextScan = 0
		if opened == t.n.Opened { // opening files is no cost of each scan
			t.nextScan = t.now + scanShare*time.Since(start)
		}
		if !t.started {
			t.started = true
			t.afterFirstScan()
		}
	}
	for i := len(t.files) - 1; i >= 0; i-- {
		t.look(t.files[i])
	}
	t.lookHot()
	t.successors()
	for !t.waiting.empty() && t.room() {
		t.serve()
	}
	t.seek()
	t.settleWanted()
	t.siblings()
	t.settleZips()
	t.settleGone()
	t.hold()
	if t.now >= t.nextLong {
		t.nextLong = t.now + 10*time.Second
		t.revisit()
		t.forsake()
		t.forget()
	}
	t.telling = true
	t.count()
}

// scanned says when scans begin to take longer than they may, opening files
// apart, and when they do no more.
func (t *Tailer) scanned(took time.Duration, opened int64) {
	t.n.ScanTime = took
	if slow := took > t.o.Poll && opened == t.n.Opened; slow != t.slow && opened == t.n.Opened {
		t.slow = slow
		if slow {
			t.log.Warn("a scan takes longer than its interval: new files are found late", zap.Duration("took", took), zap.Duration("interval", t.o.Poll))
		} else {
			t.log.Info("scans are as fast as they should be", zap.Duration("took", took))
		}
	}
}

// lookHot looks at the busy files and lists the directories that are due.
func (t *Tailer) lookHot() {
	t.nextHot = t.now + time.Hour
	for i := len(t.hot) - 1; i >= 0; i-- {
		f := t.hot[i]
		if f.look.due <= t.now {
			t.look(f)
		}
		if f.queued || f.look.every >= t.o.Poll || f.fd < 0 {
			f.hot = false
			t.hot[i] = t.hot[len(t.hot)-1]
			t.hot[len(t.hot)-1] = nil
			t.hot = t.hot[:len(t.hot)-1]
			continue
		}
		t.nextHot = min(t.nextHot, f.look.due)
	}
	late := t.late
	t.late = nil
	for _, d := range late {
		d.late = false
		t.relist(d)
	}
	t.lookNoisy()
}

// next returns the next chunk, nil if there is nothing to send.
func (t *Tailer) next() *record.Chunk {
	c := t.choose()
	if c != nil {
		t.stamp(c.Moved)
	}
	return c
}

// stamp has positions say which look they are of. A chunk may be committed
// behind a later one that was told to [Options.Found].
func (t *Tailer) stamp(ps []record.Position) {
	t.looks++
	for i := range ps {
		ps[i].Look = t.looks
	}
}

// choose makes the next chunk. Ranges to read again take turns with the files.
func (t *Tailer) choose() *record.Chunk {
	if t.telling || t.losing {
		if c := t.news(); c != nil {
			return c
		}
		t.telling = false
	}
	if c := t.reread(); c != nil {
		return c
	}
	for {
		t.serve()
		f := t.queue.pop()
		if f == nil {
			return nil
		}
		f.queued = false
		if f.undecided() {
			continue // looked at until it is known what it is
		}
		if f.prev != nil {
			if c := t.across(f); c != nil {
				return c
			}
			if f.prev != nil {
				continue // asked again each round
			}
		}
		c := t.read(f)
		t.yield(f)
		if c != nil {
			return c
		}
		if t.losing {
			return t.choose()
		}
	}
}

// afterFirstScan has the files looked for that the patterns did not show: they
// were rotated, moved or deleted while nobody looked.
func (t *Tailer) afterFirstScan() {
	for _, fs := range t.unbound {
		for _, f := range fs {
			if f.pos.Closed == 0 {
				t.want(f)
			}
		}
	}
	t.firstSeen()
	var st unix.Stat_t
	for _, f := range t.files {
		if f.pos.Offset == 0 && !f.undecided() && f.fd >= 0 && t.fstat(f, &st) == nil {
			t.suspect(f, f.fd, &st) // anew: what it may be the copy of is known now
		}
	}
}

// Close closes the files. Run does so when it ends; only a Tailer that is never
// run takes a call.
func (t *Tailer) Close() {
	for _, f := range t.files {
		t.shut(f)
	}
	for _, r := range t.again {
		r.close()
	}
	t.watch.close()
	t.publish()
	t.lively.Store(nil)
}

// A fifo is a queue of files.
type fifo struct {
	files []*file
	head  int
}

func (q *fifo) push(f *file) {
	if q.head > len(q.files)/2 {
		n := copy(q.files, q.files[q.head:])
		clear(q.files[n:])
		q.files, q.head = q.files[:n], 0
	}
	q.files = append(q.files, f)
}

func (q *fifo) empty() bool { return q.head == len(q.files) }

func (q *fifo) pop() *file {
	if q.empty() {
		return nil
	}
	f := q.files[q.head]
	q.files[q.head] = nil
	q.head++
	return f
}
