package sink_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"sealtail/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDrainsInOrder(t *testing.T) {
	for _, n := range []int{0, 1, 2, 9, 10, 11, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, s := newQueue(t, n), &store{t: t, ordered: true}
				k := sink.New(sink.Options{MaxRequest: 35}, q, s) // 5 envelopes of 7 bytes
				if err := k.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(s.got) != n || q.trimmed != n || s.puts != (n+4)/5 {
					t.Errorf("got %d stored, %d trimmed, %d puts; want %d, %d, %d", len(s.got), q.trimmed, s.puts, n, n, (n+4)/5)
				}
				if st := k.Stats(); st.Envelopes != uint64(n) || st.Bytes != uint64(7*n) || st.InFlight != 0 {
					t.Errorf("got stats %+v", st)
				}
			})
		})
	}
}

// TestH72_TrimsContiguously lets the requests end in any order; the fake queue
// checks what is trimmed.
func TestH72_TrimsContiguously(t *testing.T) {
	for _, flight := range []int{1, 2, 7} {
		t.Run(fmt.Sprint(flight), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, 200)
				s := &store{t: t, ordered: flight == 1}
				s.before = func() { time.Sleep(rand.N(time.Second)) }
				s.put = func(context.Context, [][]byte) error {
					if rand.N(4) == 0 {
						return errDown
					}
					return nil
				}
				k := sink.New(sink.Options{InFlight: flight, MaxRequest: 14}, q, s)
				if err := k.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(s.got) != 200 || q.trimmed != 200 || s.most != flight {
					t.Errorf("got %d stored, %d trimmed, %d at a time; want 200, 200, %d", len(s.got), q.trimmed, s.most, flight)
				}
			})
		})
	}
}

// TestHeldBack has the first of three requests hang: nothing is trimmed though
// the others are stored.
func TestHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(t, 3), &store{t: t}
		hold := make(chan struct{})
		s.put = func(_ context.Context, envs [][]byte) error {
			if string(envs[0]) == "env0000" {
				<-hold
			}
			return nil
		}
		k := sink.New(sink.Options{InFlight: 3, MaxRequest: 7}, q, s)
		ended := make(chan error)
		go func() { ended <- k.Run(t.Context()) }()
		synctest.Wait()
		if len(s.got) != 2 || q.trimmed != 0 {
			t.Errorf("while the first hangs: got %d stored, %d trimmed; want 2, 0", len(s.got), q.trimmed)
		}
		close(hold)
		if err := <-ended; err != nil || q.trimmed != 3 {
			t.Errorf("got %v, %d trimmed; want nil, 3", err, q.trimmed)
		}
	})
}

// A hungQueue hangs in Trim, as on a disk that hangs, until held is closed.
type hungQueue struct {
	*queue
	held chan struct{}
}

func (q hungQueue) Trim(upto uint64) {
	<-q.held
	q.queue.Trim(upto)
}

// A disk that hangs shows as a try that lasts, and its request as in flight.
func TestTrimHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := hungQueue{newQueue(t, 2), make(chan struct{})}
		k := sink.New(sink.Options{MaxRequest: 7}, q, &store{t: t, ordered: true})
		ended, began := make(chan error), time.Now()
		go func() { ended <- k.Run(t.Context()) }()
		time.Sleep(time.Hour)
		if s := k.Stats(); s.Envelopes != 1 || s.InFlight != 1 || s.Trying != began || time.Since(s.Turned) > time.Second {
			t.Errorf("while it hangs: got %+v", s)
		}
		close(q.held)
		if err := <-ended; err != nil || q.trimmed != 2 {
			t.Errorf("got %v, %d trimmed", err, q.trimmed)
		}
		if s := k.Stats(); s.InFlight != 0 || !s.Trying.IsZero() {
			t.Errorf("after it: got %+v", s)
		}
	})
}

func TestH68_Outage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(t, 1), &store{t: t}
		begin, tries, longest, last := time.Now(), 0, time.Duration(0), time.Now()
		s.put = func(context.Context, [][]byte) error {
			longest, last = max(longest, time.Since(last)), time.Now()
			if tries++; time.Since(begin) < 24*time.Hour {
				return errDown
			}
			return nil
		}
		k := sink.New(sink.Options{RetryMax: 10 * time.Second}, q, s)
		go func() {
			time.Sleep(time.Hour)
			if st := k.Stats(); st.Failing != errDown.Error() || st.Err != errDown || st.Parking || st.Since.Sub(begin) != 0 || st.InFlight != 1 {
				t.Errorf("within an outage: got %+v", st)
			}
		}()
		if err := k.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if longest > 10*time.Second+1 || longest < 5*time.Second {
			t.Errorf("longest wait %v, want just under RetryMax 10s", longest)
		}
		// A day at 5 s on average.
		if want := 24 * 3600 / 5; tries < want*9/10 || tries > want*11/10 {
			t.Errorf("got %d tries in a day, want about %d", tries, want)
		}
		if st := k.Stats(); st.Failing != "" || st.Err != nil || !st.Since.IsZero() || st.Retries != uint64(tries-1) {
			t.Errorf("after an outage: got %+v", st)
		}
	})
}

// numbered is a refusal whose text is another with each try.
type numbered int

func (n numbered) Error() string { return fmt.Sprint("down, request ", int(n)) }
func (n numbered) Kind() string  { return "down" }

// later is a refusal that says when another answer may come.
type later struct{ at time.Time }

func (l later) Error() string      { return "later" }
func (l later) NextTry() time.Time { return l.at }

// A store that says when it may take is asked then and not before.
func TestNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(t, 1), &store{t: t}
		began, tries := time.Now(), 0
		s.put = func(context.Context, [][]byte) error {
			if want := time.Duration(tries) * 40 * time.Second; time.Since(began) != want {
				t.Errorf("try %d after %v, want %v", tries, time.Since(began), want)
			}
			if tries++; tries == 10 {
				return nil
			}
			return fmt.Errorf("put: %w", later{time.Now().Add(40 * time.Second)})
		}
		if err := sink.New(sink.Options{RetryMax: time.Second}, q, s).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a time that has passed is no reason to hurry
		q, s := newQueue(t, 1), &store{t: t}
		began, tries := time.Now(), 0
		s.put = func(context.Context, [][]byte) error {
			if tries++; time.Since(began) > time.Minute {
				return nil
			}
			return later{began}
		}
		if err := sink.New(sink.Options{}, q, s).Run(t.Context()); err != nil || tries > 40 {
			t.Errorf("got %v after %d tries", err, tries)
		}
	})
}

// Each kind of refusal is told at once and then once a minute, and for how long
// it was when the store takes again.
func TestTellsRefusals(t *testing.T) {
	for name, refusal := range map[string]func(try int) error{
		"with a kind": func(try int) error { return numbered(try) },
		"of a file":   func(try int) error { return &fs.PathError{Op: "write", Path: fmt.Sprint(try), Err: syscall.ENOSPC} },
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testTellsRefusals(t, refusal) }) })
	}
}

func testTellsRefusals(t *testing.T, refusal func(try int) error) {
	core, logs := observer.New(zap.InfoLevel)
	q, s := newQueue(t, 4), &store{t: t}
	begin, tries := time.Now(), 0
	s.put = func(context.Context, [][]byte) error {
		tries++
		switch past := time.Since(begin); {
		case past < 5*time.Minute:
			return refusal(tries)
		case past < 10*time.Minute:
			return errDown
		}
		return nil
	}
	k := sink.New(sink.Options{InFlight: 2, MaxRequest: 7, RetryMax: time.Second, Log: zap.New(core)}, q, s)
	if err := k.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	warnings := logs.FilterMessage("store refused, will try again")
	if n := warnings.Len(); n < 8 || n > 10 {
		t.Errorf("told %d refusals in 10 min, want about 10", n)
	}
	changed := warnings.Filter(func(e observer.LoggedEntry) bool { return e.ContextMap()["error"] == errDown.Error() }).All()
	if len(changed) == 0 || changed[0].Time.Sub(begin) > 5*time.Minute+time.Second {
		t.Errorf("the change was told late: %v", changed)
	}
	taken := logs.FilterMessage("the store takes again").All()
	if len(taken) != 1 {
		t.Fatalf("told %d times that the store takes again, want 1", len(taken))
	}
	if d := taken[0].ContextMap()["refused_for"].(time.Duration); d < 10*time.Minute || d > 10*time.Minute+2*time.Second {
		t.Errorf("refused for %v, want 10m", d)
	}
}

func TestH70_Rejected(t *testing.T) {
	for _, bad := range [][]string{{"env0000"}, {"env0007"}, {"env0004", "env0005"}, {"env0001", "env0003", "env0006"}} {
		t.Run(fmt.Sprint(bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.ErrorLevel)
				q, s := newQueue(t, 8), &store{t: t, ordered: true, put: rejecting(bad...)}
				k := sink.New(sink.Options{MaxRequest: 56, Stub: stubOf, Log: zap.New(core)}, q, s)
				if err := k.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(q.parked, bad) || len(s.got) != 8-len(bad) || q.trimmed != 8 {
					t.Errorf("got %v parked, %d stored, %d trimmed; want %v, %d, 8", q.parked, len(s.got), q.trimmed, bad, 8-len(bad))
				}
				var want []string
				errs := 0
				for _, b := range bad {
					errs++
					if b == "env0003" { // stubOf refuses it
						errs++
						continue
					}
					want = append(want, "stub of "+b)
				}
				if !slices.Equal(s.stubs, want) {
					t.Errorf("got stubs %v, want %v", s.stubs, want)
				}
				if logs.Len() != errs {
					t.Errorf("got %d error logs, want %d: %v", logs.Len(), errs, logs.All())
				}
				st := k.Stats()
				if st.Parked != uint64(len(bad)) || st.Stubs != uint64(len(want)) || st.Retries != 0 {
					t.Errorf("got stats %+v", st)
				}
			})
		})
	}
}

// TestParkWaits has the disk full for the park and the store down for the stub.
func TestParkWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		q, s := newQueue(t, 2), &store{t: t, ordered: true, put: rejecting("env0000")}
		q.park = func([]byte, string) (string, error) {
			if time.Since(begin) < time.Minute {
				return "", fmt.Errorf("write: %w", syscall.ENOSPC)
			}
			return "", nil
		}
		s.stub = func([]byte) error {
			if time.Since(begin) < time.Hour {
				return errDown
			}
			return nil
		}
		k := sink.New(sink.Options{Stub: stubOf}, q, s)
		go func() {
			time.Sleep(50 * time.Second)
			if st := k.Stats(); !st.Parking || !errors.Is(st.Err, syscall.ENOSPC) {
				t.Errorf("while the disk is full: got %+v", st)
			}
			time.Sleep(10 * time.Minute)
			if st := k.Stats(); st.Parking || st.Err != errDown {
				t.Errorf("while the store is down: got %+v", st)
			}
		}()
		if err := k.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(q.parked) != 1 || len(s.stubs) != 1 || q.trimmed != 2 {
			t.Errorf("got %d parked, %d stubs, %d trimmed; want 1, 1, 2", len(q.parked), len(s.stubs), q.trimmed)
		}
	})
}

func TestStubRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(t, 2), &store{t: t, put: rejecting("env0000")}
		s.stub = func([]byte) error { return &sink.RejectedError{Why: "NoStubs"} }
		if err := sink.New(sink.Options{Stub: stubOf}, q, s).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(q.parked) != 1 || q.trimmed != 2 {
			t.Errorf("got %d parked, %d trimmed; want 1, 2", len(q.parked), q.trimmed)
		}
	})
}

func TestFinalErrors(t *testing.T) {
	boom := errors.New("failed fsync")
	t.Run("park", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q, s := newQueue(t, 3), &store{t: t, put: rejecting("env0000")}
			q.open = true
			q.park = func([]byte, string) (string, error) { return "", boom }
			err := sink.New(sink.Options{InFlight: 2, MaxRequest: 7}, q, s).Run(t.Context())
			if !errors.Is(err, boom) || q.trimmed != 0 {
				t.Errorf("got %v, trimmed %d; want %v, 0", err, q.trimmed, boom)
			}
		})
	})
	t.Run("next", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := newQueue(t, 1)
			err := sink.New(sink.Options{}, broken{q, boom}, &store{t: t}).Run(t.Context())
			if !errors.Is(err, boom) {
				t.Errorf("got %v, want %v", err, boom)
			}
		})
	})
}

// broken is a queue whose Next fails.
type broken struct {
	*queue
	err error
}

func (b broken) Next(context.Context, []byte, int) ([][]byte, uint64, error) { return nil, 0, b.err }

// TestEndsWithContext ends ctx in each state in which Run can wait.
func TestEndsWithContext(t *testing.T) {
	hang := func(ctx context.Context, _ [][]byte) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		n   int
		put func(context.Context, [][]byte) error
		s   func([]byte) error
	}{
		"next":    {0, nil, nil},
		"put":     {5, hang, nil},
		"backoff": {5, func(context.Context, [][]byte) error { return errDown }, nil},
		"stub":    {5, rejecting("env0000"), func([]byte) error { return errDown }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				q, s := newQueue(t, c.n), &store{t: t, put: c.put, stub: c.s}
				q.open = true
				k := sink.New(sink.Options{InFlight: 2, MaxRequest: 7, Stub: stubOf}, q, s)
				ended := make(chan error)
				go func() { ended <- k.Run(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("got %v, want nil", err)
				}
				if q.trimmed > 0 && c.n > 0 {
					t.Errorf("trimmed %d though the first is not acknowledged", q.trimmed)
				}
				if st := k.Stats(); st.InFlight != 0 || st.Failing != "" {
					t.Errorf("got stats %+v", st)
				}
			})
		})
	}
}

// Run goes on each second while it waits for envelopes or for a request to
// end, and a try that hangs shows.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(t, 1), &store{t: t}
		q.open = true
		hold := make(chan struct{})
		s.put = func(context.Context, [][]byte) error { <-hold; return nil }
		k := sink.New(sink.Options{}, q, s)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		began := time.Now()
		go func() { ended <- k.Run(ctx) }()
		turning := func(trying bool) {
			t.Helper()
			time.Sleep(time.Hour)
			st := k.Stats()
			if time.Since(st.Turned) > time.Second || trying != !st.Trying.IsZero() || trying && st.Trying != began {
				t.Errorf("at %v: turned %v, trying since %v", time.Now(), st.Turned, st.Trying)
			}
		}
		turning(true)
		close(hold)
		turning(false)
		cancel()
		if err := <-ended; err != nil || !k.Stats().Turned.IsZero() {
			t.Errorf("got %v, turned %v", err, k.Stats().Turned)
		}
	})
}
