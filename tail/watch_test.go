package tail_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// logged has b's tailer log into what it returns.
func (b *bench) logged() *observer.ObservedLogs {
	core, logs := observer.New(zap.InfoLevel)
	b.o.Log = zap.New(core)
	return logs
}

func count(logs *observer.ObservedLogs, message string) int {
	return logs.FilterMessageSnippet(message).Len()
}

// Where the system has no watches left files are polled: said once, counted,
// tried again every ten minutes.
func TestH31_NoWatchesLeft(t *testing.T) {
	b := newBench(t)
	logs := b.logged()
	b.start()
	tries := 0
	b.tail.SetWatcher(func() (*fsnotify.Watcher, error) {
		if tries++; tries < 4 {
			return nil, errors.New("too many open files")
		}
		return fsnotify.NewWatcher()
	})
	b.tail.TryWatch()
	b.write("a.log", "one\n")
	b.step(second)
	b.want("one")
	for range 2 {
		b.step(9 * time.Minute)
		b.step(2 * time.Minute)
	}
	if tries != 3 {
		t.Errorf("tries: got %d, want 3", tries)
	}
	if n := b.tail.Stats().WatchErrors; n != 3 {
		t.Errorf("watch errors: got %d, want 3", n)
	}
	if n := count(logs, "not watched"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	b.step(11 * time.Minute)
	if n := count(logs, "files are watched"); n != 1 {
		t.Errorf("watched again: said %d times, want once", n)
	}
}

// Events that were dropped mean that everything is looked at.
func TestH32_QueueOverflow(t *testing.T) {
	b := newBench(t)
	b.noPoll = true
	b.write("first.log", "first\n")
	r := b.run(1)
	r.until(1)
	r.running.Deaf()
	b.write("sub/ignored", "")
	b.write("a.log", "one\n")
	r.running.Overflow()
	r.until(2)
	b.want("first", "one")
}

// Without any event, as on network file systems, polling finds all.
func TestH33_NoEvents(t *testing.T) {
	b := newBench(t)
	b.o.Poll = 20 * time.Millisecond
	r := b.runWith(1, func() (*fsnotify.Watcher, error) { return nil, errors.New("none") })
	b.write("a.log", "one\n")
	r.until(1)
	b.write("a.log", "two\n")
	r.until(2)
	b.rename("a.log", "b.log")
	b.write("a.log", "three\n")
	r.until(3)
	b.want("one", "two", "three")
}

// A descriptor that has become stale is opened anew by its path.
func TestH34_Stale(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	stale := 2
	b.tail.SetRead(func(fd int, p []byte, off int64) (int, error) {
		if stale > 0 {
			stale--
			return 0, unix.ESTALE
		}
		return unix.Pread(fd, p, off)
	})
	b.write("a.log", "two\n")
	for range 4 {
		b.step(second)
	}
	b.want("one", "two")
	if n := b.tail.Stats().ReadErrors; n != 2 {
		t.Errorf("read errors: got %d, want 2", n)
	}
	// Another file is at the path by then.
	stale = 1
	b.write("a.log", "three\n")
	b.step(second)
	b.rename("a.log", "a.log.1")
	b.write("a.log", "new\n")
	for range 4 {
		b.step(second)
	}
	b.wantSet("new", "three")
	b.quiet()
}

// Scans that take longer than their interval are told, once.
func TestH42_SlowScan(t *testing.T) {
	b := newBench(t)
	logs := b.logged()
	b.o.Poll = time.Nanosecond
	b.each(100, "line")
	for range 5 {
		b.step(second)
	}
	if n := count(logs, "takes longer"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	if b.tail.Stats().ScanTime == 0 {
		t.Error("a scan took no time")
	}
}

// Files that cannot be opened because there are no descriptors are read once
// there are.
func TestH30_NoDescriptors(t *testing.T) {
	b := newBench(t)
	b.each(50, "line")
	b.start()
	var old unix.Rlimit
	b.do(unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	low := old
	low.Cur = 3
	b.do(syscall.Setrlimit(syscall.RLIMIT_NOFILE, (*syscall.Rlimit)(&low)))
	b.tail.Round(second)
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, (*syscall.Rlimit)(&old))
	b.do(err)
	b.want()
	b.step(second)
	b.step(second)
	if len(b.lines) != 50 {
		t.Errorf("lines: got %d, want 50", len(b.lines))
	}
}
