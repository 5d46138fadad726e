package cred_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/cred"
	"sealtail/internal/hidden"
)

// fake is a Provider by script: each Fetch brings the next number.
type fake struct {
	mu      sync.Mutex
	n       int
	stamp   string
	err     error
	takes   time.Duration
	life    time.Duration
	at      int // how many are in Fetch
	overlap bool
}

func (f *fake) Fetch(ctx context.Context) (cred.Credentials, error) {
	f.mu.Lock()
	f.at++
	f.overlap = f.overlap || f.at > 1
	takes := f.takes
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.at--
		f.mu.Unlock()
	}()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return cred.Credentials{}, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.err != nil {
		return cred.Credentials{}, f.err
	}
	c := cred.Credentials{AccessKeyID: fmt.Sprint(f.n), AccessKeySecret: hidden.New("s")}
	if f.life != 0 {
		c.Expires = time.Now().Add(f.life)
	}
	return c, nil
}

func (f *fake) Stamp() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stamp
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func want(t *testing.T, what string, get func(context.Context) (cred.Credentials, error), id string) {
	t.Helper()
	c, err := get(t.Context())
	if err != nil || c.AccessKeyID != id {
		t.Errorf("%s: got %q, %v, want %q", what, c.AccessKeyID, err, id)
	}
}

var errDown = &cred.Error{Class: cred.Unreadable, Name: "fake", Err: errors.New("is down")}

func TestSourceCaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stamp: "a"}
		s := cred.New(f)
		if st := s.State(); !st.Fetched.IsZero() || st.Fetches != 0 {
			t.Errorf("before the first Get: got %+v", st)
		}
		want(t, "first", s.Get, "1")
		want(t, "again", s.Get, "1")
		time.Sleep(1000 * time.Hour)
		want(t, "much later", s.Get, "1")
		f.set(func() { f.stamp = "b" })
		want(t, "changed", s.Get, "2")
		want(t, "unchanged", s.Get, "2")
		want(t, "refresh", s.Refresh, "3")
		want(t, "refreshed", s.Get, "3")
		f.set(func() { f.stamp = "" })
		want(t, "no stamp", s.Get, "4")
		want(t, "no stamp still", s.Get, "5")
	})
}

func TestSourceKeepsTheLastGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stamp: "a", err: errDown}
		s := cred.New(f)
		for range 2 { // each Get looks, as there is nothing to go on with
			if _, err := s.Get(t.Context()); err != errDown {
				t.Fatalf("got %v, want %v", err, errDown)
			}
		}
		f.set(func() { f.err = nil })
		want(t, "up", s.Get, "3")

		f.set(func() { f.stamp, f.err = "b", errDown })
		want(t, "down", s.Get, "3")
		want(t, "down", s.Get, "3")
		if st := s.State(); class(st.Err) != cred.Unreadable || st.Fetches != 4 || st.Failed != 3 || st.Fetched.IsZero() {
			t.Errorf("got %+v, want one more failure, told", st)
		}
		if _, err := s.Refresh(t.Context()); err != errDown {
			t.Errorf("refresh: got %v, want %v", err, errDown)
		}
		want(t, "refused", s.Get, "3")
		f.set(func() { f.err = nil })
		want(t, "too soon", s.Get, "3")
		time.Sleep(time.Second)
		want(t, "up again", s.Get, "6")
		if st := s.State(); st.Err != nil || st.Failed != 4 {
			t.Errorf("got %+v, want no error", st)
		}
	})
}

func TestSourceExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stamp: "role", life: time.Hour}
		s := cred.New(f)
		want(t, "first", s.Get, "1")
		time.Sleep(50*time.Minute - 1)
		want(t, "10 minutes before its end", s.Get, "1")
		time.Sleep(time.Nanosecond)
		want(t, "less", s.Get, "2")

		f.set(func() { f.err = errDown })
		time.Sleep(59 * time.Minute)
		want(t, "down in the last minute", s.Get, "2")
		time.Sleep(time.Minute)
		if _, err := s.Get(t.Context()); err != errDown {
			t.Errorf("expired: got %v, want %v", err, errDown)
		}
		f.set(func() { f.err, f.life = nil, -time.Second })
		if _, err := s.Get(t.Context()); class(err) != cred.Expired {
			t.Errorf("expired when it came: got %v", err)
		}
		f.set(func() { f.life = 10 * time.Minute })
		want(t, "up", s.Get, "6")
		time.Sleep(8*time.Minute - 1)
		want(t, "a fifth of a short life before its end", s.Get, "6")
		time.Sleep(time.Nanosecond)
		want(t, "less", s.Get, "7")
	})
}

// However many ask at once, the Provider is asked once.
func TestSourceSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stamp: "a", takes: time.Second}
		s := cred.New(f)
		all := func(get func(context.Context) (cred.Credentials, error), id string) {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() { want(t, "one of many", get, id) })
			}
			wg.Wait()
		}
		all(s.Get, "1")
		all(s.Refresh, "2")
		all(s.Refresh, "3")
		if f.overlap {
			t.Error("two at once looked")
		}

		// Who has good credentials does not wait for better ones.
		f.set(func() { f.stamp = "b" })
		done := make(chan struct{})
		go func() { want(t, "the one that looks", s.Get, "4"); close(done) }()
		synctest.Wait()
		began := time.Now()
		want(t, "meanwhile", s.Get, "3")
		if d := time.Since(began); d != 0 {
			t.Errorf("waited %v", d)
		}
		<-done
	})
}

// One who gives up takes nobody with him.
func TestSourceContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stamp: "a", takes: time.Minute}
		s := cred.New(f)
		var wg sync.WaitGroup
		for i, limit := range []time.Duration{time.Second, 2 * time.Second, time.Hour} {
			wg.Go(func() {
				time.Sleep(time.Duration(i)) // in this order
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				c, err := s.Get(ctx)
				if limit < time.Hour && !errors.Is(err, context.DeadlineExceeded) || limit == time.Hour && (err != nil || c.AccessKeyID != "1") {
					t.Errorf("limit %v: got %q, %v", limit, c.AccessKeyID, err)
				}
			})
		}
		wg.Wait()
		if st := s.State(); st.Fetches != 1 || st.Failed != 0 {
			t.Errorf("got %+v, want one fetch", st)
		}
	})
}

// Files that change are read again, whichever way they were changed.
func TestSourceOfFiles(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	settle := func(names ...string) {
		for _, n := range names {
			if err := os.Chtimes(n, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := files(t)
	s := cred.New(f)
	want(t, "first", s.Get, "LTAI4")
	write(t, f.AccessKeyID, "LTAI5")
	want(t, "written in place, same size", s.Get, "LTAI5")
	settle(f.AccessKeyID)
	want(t, "as before", s.Get, "LTAI5")
	if err := os.Rename(write(t, f.AccessKeyID+".new", "LTAI6"), f.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	settle(f.AccessKeyID)
	want(t, "replaced", s.Get, "LTAI6")
	if err := os.Remove(f.AccessKeySecret); err != nil {
		t.Fatal(err)
	}
	want(t, "removed", s.Get, "LTAI6")
	if st := s.State(); class(st.Err) != cred.Missing {
		t.Errorf("removed: got %v", st.Err)
	}

	k := volume(t, "A", "a")
	s = cred.New(k.Files)
	want(t, "volume", s.Get, "A")
	k.update(t, "B", "b")
	want(t, "volume, updated", s.Get, "B")
}

// A file that has just been written may change without a trace: no stamp.
func TestFilesStamp(t *testing.T) {
	f := files(t)
	if got := f.Stamp(); got != "" {
		t.Errorf("just written: got %q, want none", got)
	}
	f.AccessKeySecret += "x"
	if got := f.Stamp(); got != "" {
		t.Errorf("missing: got %q, want none", got)
	}
	old := cred.Files{AccessKeyID: "/proc/version", AccessKeySecret: "/bin/sh"}
	if a, b := old.Stamp(), old.Stamp(); a != b {
		t.Errorf("got %q, then %q", a, b)
	}
}

func TestEqual(t *testing.T) {
	a := cred.Credentials{AccessKeyID: "i", AccessKeySecret: hidden.New("s"), SecurityToken: hidden.New("t")}
	b := a
	b.Expires = time.Now()
	if !a.Equal(b) {
		t.Error("an expiry makes a difference")
	}
	for _, change := range []func(c *cred.Credentials){
		func(c *cred.Credentials) { c.AccessKeyID = "x" },
		func(c *cred.Credentials) { c.AccessKeySecret = hidden.New("x") },
		func(c *cred.Credentials) { c.SecurityToken = hidden.Text{} },
	} {
		b := a
		if change(&b); a.Equal(b) {
			t.Errorf("%v equals %v", a, b)
		}
	}
}

// Many ask while files change: for the race detector.
func TestSourceConcurrently(t *testing.T) {
	k := volume(t, "0", "s")
	s := cred.New(k.Files)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				get := s.Get
				if i == 0 {
					get = s.Refresh
				}
				// A Refresh may meet a volume between its two states.
				if _, err := get(t.Context()); err != nil && i != 0 {
					t.Errorf("get: %v", err)
					return
				}
				s.State()
			}
		})
	}
	for i := range 100 {
		k.update(t, fmt.Sprint(i+1), "s")
	}
	close(stop)
	wg.Wait()
	want(t, "in the end", s.Get, "100")
}

func BenchmarkGet(b *testing.B) {
	dir := b.TempDir()
	young := cred.Files{AccessKeyID: write(b, dir+"/id", "id"), AccessKeySecret: write(b, dir+"/secret", "secret")}
	b.Run("cached", func(b *testing.B) {
		s := cred.New(&fake{stamp: "a"})
		for b.Loop() {
			_, _ = s.Get(b.Context())
		}
	})
	b.Run("stamp", func(b *testing.B) {
		old := cred.Files{AccessKeyID: "/bin/sh", AccessKeySecret: "/bin/sh"}
		for b.Loop() {
			old.Stamp()
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			_, _ = young.Fetch(b.Context())
		}
	})
}
