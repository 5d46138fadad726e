package tail

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	mostHints  = 1024                   // names kept until the loop takes them
	noisyHints = 100                    // hints in noisyFor after which polling is cheaper
	noisyFor   = time.Second            // …
	noisyWait  = 10 * time.Second       // before a noisy directory is watched again
	noisyList  = 10 * time.Millisecond  // between looks at the names of a noisy directory
	noisyLook  = 100 * time.Millisecond // between looks at its files, if they take no more than …
	noisyShare = 100                    // … this part of the time
	coarse     = 20 * time.Millisecond  // time stamps of files may be that old
	retryWatch = 10 * time.Minute       // before watching is tried again where it failed
)

// A watch collects hints from the system. It never waits for the tailer: its
// goroutine takes events and keeps names; directories are added and removed by
// the tailer alone. A nil watch gives no hints.
type watch struct {
	log   *zap.Logger
	w     *fsnotify.Watcher
	wake  chan struct{} // capacity 1
	done  chan struct{}
	retry time.Duration // no directory is added before

	mu    sync.Mutex
	names map[string]bool // guarded by mu: whether only what is in the file changed
	lost  bool            // guarded by mu: some names were not kept
	errs  int64           // guarded by mu
}

// tryWatch begins to watch, unless the system has no watches left: said once,
// counted, and tried again later.
func (t *Tailer) tryWatch() {
	if t.o.Once {
		return
	}
	w, err := t.watcher()
	if err != nil {
		if t.watchAt == 0 {
			t.log.Warn("files are not watched, polling only", zap.Error(err))
		}
		t.n.WatchErrors++
		t.watchAt = t.now + retryWatch
		return
	}
	if t.watchAt > 0 {
		t.log.Info("files are watched")
	}
	h := &watch{log: t.log, w: w, wake: make(chan struct{}, 1), done: make(chan struct{}), names: map[string]bool{}}
	go h.collect()
	t.watch = h
}

// collect ends when close is called.
func (h *watch) collect() {
	defer close(h.done)
	for {
		select {
		case ev, ok := <-h.w.Events:
			if !ok {
				return
			}
			if ev.Op == fsnotify.Chmod {
				continue
			}
			h.mu.Lock()
			switch written, known := h.names[ev.Name]; {
			case known || len(h.names) < mostHints:
				h.names[ev.Name] = ev.Op == fsnotify.Write && (written || !known)
			default:
				h.lost = true
			}
			h.mu.Unlock()
		case err, ok := <-h.w.Errors:
			if !ok {
				return
			}
			h.mu.Lock()
			h.errs++
			h.lost = h.lost || errors.Is(err, fsnotify.ErrEventOverflow)
			h.mu.Unlock()
		}
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// woken returns a channel that has a value when there are hints.
func (h *watch) woken() <-chan struct{} {
	if h == nil {
		return nil
	}
	return h.wake
}

func (h *watch) close() {
	if h == nil {
		return
	}
	h.w.Close()
	<-h.done
}

// take returns the hints so far, and whether there were more.
func (h *watch) take() (names map[string]bool, lost bool, errs int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	names, lost, errs = h.names, h.lost, h.errs
	h.names, h.lost, h.errs = map[string]bool{}, false, 0
	return names, lost, errs
}

// hints does at once what polling would do later.
func (t *Tailer) hints() {
	names, lost, errs := t.watch.take()
	t.n.WatchErrors += errs
	if lost {
		const soon = 250 * time.Millisecond // the flood may go on
		t.nextRound, t.nextScan = min(t.nextRound, t.now+soon), 0
		return
	}
	for name, written := range names {
		d := t.dirs[filepath.Dir(name)]
		if d == nil {
			continue
		}
		if d.events++; d.events > noisyHints {
			t.unwatchDir(d)
			d.noisy, d.stamp = t.now, 0
			t.noisy = append(t.noisy, d)
			t.nextHot = min(t.nextHot, t.now)
			continue
		}
		e := d.names[filepath.Base(name)]
		switch {
		case e == nil || e.file == nil || !written:
			t.relist(d)
		case !e.file.queued:
			t.look(e.file)
		}
	}
}

// watchDir watches a directory that was just listed, unless it gives so many
// hints that polling is cheaper.
func (t *Tailer) watchDir(d *dir) {
	h := t.watch
	if d.watched && t.now >= d.since+noisyFor {
		d.events, d.since = 0, t.now
	}
	if d.watched && t.scans%verifyEach != 0 {
		return // else it may be another directory of that name by now
	}
	if h == nil || t.now < h.retry || d.noisy > 0 && t.now < d.noisy+noisyWait {
		return
	}
	if err := h.w.Add(d.path); err != nil {
		t.n.WatchErrors++
		if h.retry == 0 {
			h.log.Warn("directory is not watched, polling only", zap.String("path", d.path), zap.Error(err))
		}
		h.retry = t.now + retryWatch
		return
	}
	d.watched, d.events, d.since = true, 0, t.now
}

// lookNoisy looks at the directories that are not watched because their files
// are written to all the time, which a watch cannot leave out: at their names
// when the time stamp of the directory says that some came or went, and at the
// files for what is written after a silence.
func (t *Tailer) lookNoisy() {
	for i := len(t.noisy) - 1; i >= 0; i-- {
		d := t.noisy[i]
		if d.watched || t.dirs[d.path] != d || t.now > d.noisy+noisyWait+2*t.o.Poll {
			t.noisy = slices.Delete(t.noisy, i, i+1)
			continue
		}
		t.nextHot = min(t.nextHot, t.now+noisyList)
		var st unix.Stat_t
		if stat(d.path, &st) != nil {
			continue // for the scan
		}
		if m := st.Mtim.Nano(); m != d.stamp || d.stamped-m < int64(coarse) {
			d.stamp, d.stamped = m, t.wall.UnixNano()
			t.relist(d)
		}
		if t.now < d.looked {
			continue
		}
		start := time.Now()
		for _, e := range d.names {
			if e.file != nil && !e.file.queued {
				t.look(e.file)
			}
		}
		d.looked = t.now + max(noisyLook, noisyShare*time.Since(start))
	}
}

func (t *Tailer) unwatchDir(d *dir) {
	if d.watched && t.watch != nil {
		t.watch.w.Remove(d.path) // an error says that it is not watched
	}
	d.watched = false
}
