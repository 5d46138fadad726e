package seal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/conf"
	"sealtail/seal"
)

// docs/KEYS.md shows the state machine's table as it is.
func TestKeysTableIsInTheDocs(t *testing.T) {
	var columns, rows []string
	cells := make(map[string]string)
	for _, s := range seal.Steps() {
		if !slices.Contains(rows, s.From) {
			rows = append(rows, s.From)
		}
		if !slices.Contains(columns, s.Cause) {
			columns = append(columns, s.Cause)
		}
		cell := s.Next
		if s.Do != "" {
			cell += ", *" + s.Do + "*"
		}
		cells[s.From+s.Cause] = cell
	}
	var want strings.Builder
	fmt.Fprintf(&want, "| | %s |\n|%s\n", strings.Join(rows, " | "), strings.Repeat("---|", len(rows)+1))
	for _, c := range columns {
		fmt.Fprintf(&want, "| **%s**", c)
		for _, r := range rows {
			cell := cells[r+c]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(&want, " | %s", cell)
		}
		want.WriteString(" |\n")
	}
	wantInDoc(t, want.String())
}

// wantInDoc wants docs/KEYS.md to hold this paragraph.
func wantInDoc(t *testing.T, text string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/KEYS.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "\n\n"+text+"\n") {
		t.Errorf("docs/KEYS.md does not hold this:\n%s", text)
	}
}

// A step that is not in the table is a bug, and not taken for one to init.
func TestKeysNoOtherSteps(t *testing.T) {
	if taken := seal.Stray(); len(taken) > 0 {
		t.Errorf("taken: %q", taken)
	}
}

// A zero KeyOptions means what conf has for defaults.
func TestKeyDefaults(t *testing.T) {
	defaults := reflect.ValueOf(seal.KeyDefaults())
	for i := range defaults.NumField() {
		name := defaults.Type().Field(i).Name
		if name == "Log" {
			continue
		}
		f, ok := reflect.TypeFor[conf.Key]().FieldByName(name)
		if !ok {
			f, ok = reflect.TypeFor[conf.Key]().FieldByName("DEK" + name)
		}
		want := f.Tag.Get("default")
		if d, err := time.ParseDuration(want); err == nil {
			want = d.String()
		}
		want = strings.Replace(want, "64GiB", strconv.Itoa(64<<30), 1)
		if got := fmt.Sprint(defaults.Field(i)); !ok || got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// One test for each step of the table: each answer in each phase, and time.
func TestKeysSteps(t *testing.T) {
	const s, m, ms = time.Second, time.Minute, time.Millisecond
	bad := func(err error) act { return act{err: err, takes: s} }
	good := act{takes: s}
	// The call whose answer is tried begins at asks.
	after := func(asks time.Duration, before []act, a act) []act {
		a.from = asks
		return append(before, a)
	}
	atInit := func(a act) ([]act, time.Duration) { return []act{a}, 0 }
	refreshing := func(a act) ([]act, time.Duration) { return after(5*m, []act{{}}, a), 5 * m }
	degraded := func(err error, wait time.Duration) func(act) ([]act, time.Duration) {
		return func(a act) ([]act, time.Duration) {
			return after(5*m+wait, []act{{}, {from: 5 * m, err: err}}, a), 5*m + wait
		}
	}
	paused := func(err error, wait time.Duration) func(act) ([]act, time.Duration) {
		return func(a act) ([]act, time.Duration) { return after(wait, []act{{err: err}}, a), wait }
	}
	const first, doubled, spread = 250 * ms, 500 * ms, 30*s + 500*ms // of an outage, at half their ceilings; throttled
	tested := make(map[string]bool)
	for _, tt := range []struct {
		from   string
		cause  string
		answer act
		life   func(act) ([]act, time.Duration)
		o      seal.KeyOptions
		phase  seal.Phase
		reason seal.Class
		key    uint32        // that seals afterwards; 0 = none
		next   time.Duration // call after the answer
	}{
		{"init", "a data key", good, atInit, seal.KeyOptions{}, seal.Ready, 0, 1, 5 * m},
		{"init", "outage", bad(errOut), atInit, seal.KeyOptions{}, seal.Paused, seal.Outage, 0, first},
		{"init", "outage", bad(errUnknown), atInit, seal.KeyOptions{}, seal.Paused, seal.Outage, 0, first},
		{"init", "outage", bad(errRefused), atInit, seal.KeyOptions{}, seal.Paused, seal.Credentials, 0, first},
		{"init", "throttled", bad(errThrottled), atInit, seal.KeyOptions{}, seal.Paused, seal.Outage, 0, spread},
		{"init", "misfit", bad(errMisfit), atInit, seal.KeyOptions{}, seal.Paused, seal.Misfit, 0, 60 * s},
		{"init", "revoked, first", bad(errRevoked), atInit, seal.KeyOptions{}, seal.Paused, seal.Revoked, 0, 10 * s},

		{"refreshing", "a data key", good, refreshing, seal.KeyOptions{}, seal.Ready, 0, 1, 5 * m},
		{"refreshing", "a data key", good, refreshing, seal.KeyOptions{Rotate: m}, seal.Ready, 0, 2, 5 * m},
		{"refreshing", "outage", bad(errOut), refreshing, seal.KeyOptions{}, seal.Degraded, seal.Outage, 1, first},
		{"refreshing", "outage", bad(errUnknown), refreshing, seal.KeyOptions{}, seal.Degraded, seal.Outage, 1, first},
		{"refreshing", "outage", bad(errRefused), refreshing, seal.KeyOptions{}, seal.Degraded, seal.Credentials, 1, first},
		{"refreshing", "throttled", bad(errThrottled), refreshing, seal.KeyOptions{}, seal.Degraded, seal.Outage, 1, spread},
		{"refreshing", "misfit", bad(errMisfit), refreshing, seal.KeyOptions{}, seal.Degraded, seal.Misfit, 1, 60 * s},
		{"refreshing", "revoked, first", bad(errRevoked), refreshing, seal.KeyOptions{}, seal.Degraded, seal.Revoked, 1, 10 * s},

		{"degraded", "a data key", good, degraded(errOut, first), seal.KeyOptions{}, seal.Ready, 0, 1, 5 * m},
		{"degraded", "a data key", good, degraded(errMisfit, 60*s), seal.KeyOptions{Rotate: m}, seal.Ready, 0, 2, 5 * m},
		{"degraded", "a data key", good, degraded(errRevoked, 10*s), seal.KeyOptions{}, seal.Ready, 0, 1, 5 * m},
		{"degraded", "outage", bad(errOut), degraded(errOut, first), seal.KeyOptions{}, seal.Degraded, seal.Outage, 1, doubled},
		{"degraded", "outage", bad(errUnknown), degraded(errOut, first), seal.KeyOptions{}, seal.Degraded, seal.Outage, 1, doubled},
		{"degraded", "outage", bad(errRefused), degraded(errOut, first), seal.KeyOptions{}, seal.Degraded, seal.Credentials, 1, doubled},
		{"degraded", "throttled", bad(errThrottled), degraded(errOut, first), seal.KeyOptions{}, seal.Degraded, seal.Outage, 1, spread},
		{"degraded", "misfit", bad(errMisfit), degraded(errOut, first), seal.KeyOptions{}, seal.Degraded, seal.Misfit, 1, 60 * s},
		{"degraded", "revoked, first", bad(errRevoked), degraded(errOut, first), seal.KeyOptions{}, seal.Degraded, seal.Revoked, 1, 10 * s},
		{"degraded", "revoked, confirmed", bad(errRevoked), degraded(errRevoked, 10*s), seal.KeyOptions{}, seal.Paused, seal.Revoked, 0, 60 * s},
		{"degraded", "revoked, first", bad(errRefused), degraded(errRefused, first), seal.KeyOptions{CredentialsGrace: s + first}, seal.Degraded, seal.Credentials, 1, 10 * s},
		{"degraded", "outage", bad(errRefused), degraded(errRefused, first), seal.KeyOptions{CredentialsGrace: s + first + 1}, seal.Degraded, seal.Credentials, 1, doubled},
		{"degraded", "revoked, confirmed", bad(errRefused), degraded(errRevoked, 10*s), seal.KeyOptions{CredentialsGrace: -1}, seal.Paused, seal.Credentials, 0, 60 * s},

		{"paused", "a data key", good, paused(errOut, first), seal.KeyOptions{}, seal.Ready, 0, 1, 5 * m},
		{"paused", "a data key", good, paused(errRevoked, 10*s), seal.KeyOptions{}, seal.Ready, 0, 1, 5 * m},
		{"paused", "a data key", good, paused(errMisfit, 60*s), seal.KeyOptions{}, seal.Ready, 0, 1, 5 * m},
		{"paused", "outage", bad(errOut), paused(errOut, first), seal.KeyOptions{}, seal.Paused, seal.Outage, 0, doubled},
		{"paused", "outage", bad(errUnknown), paused(errRevoked, 10*s), seal.KeyOptions{}, seal.Paused, seal.Outage, 0, doubled},
		{"paused", "outage", bad(errRefused), paused(errOut, first), seal.KeyOptions{}, seal.Paused, seal.Credentials, 0, doubled},
		{"paused", "throttled", bad(errThrottled), paused(errOut, first), seal.KeyOptions{}, seal.Paused, seal.Outage, 0, spread},
		{"paused", "misfit", bad(errMisfit), paused(errOut, first), seal.KeyOptions{}, seal.Paused, seal.Misfit, 0, 60 * s},
		{"paused", "revoked, first", bad(errRevoked), paused(errOut, first), seal.KeyOptions{}, seal.Paused, seal.Revoked, 0, 10 * s},
		{"paused", "revoked, confirmed", bad(errRevoked), paused(errRevoked, 10*s), seal.KeyOptions{}, seal.Paused, seal.Revoked, 0, 60 * s},
	} {
		tested[tt.from+": "+tt.cause], tested[strings.Replace(tt.from, "refreshing", "ready", 1)+": a call begins"] = true, true
		t.Run(fmt.Sprintf("%s/%s/%v", tt.from, tt.cause, tt.answer.err), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script, asks := tt.life(tt.answer)
				kms := newFake(t, script...)
				ks := seal.NewKeys(tt.o, kms, seal.AES256GCM, kms.context)
				ks.SetRandom(middle)
				run(t, ks)
				time.Sleep(asks + s/2)
				synctest.Wait()
				if got := ks.State(); got.Phase.String() != tt.from || !got.Next.IsZero() {
					t.Fatalf("before the answer: got %s, next call at %v, want %s in a call", got.Phase, got.Next, tt.from)
				}
				time.Sleep(s / 2)
				synctest.Wait()
				got, key := ks.State(), atHand(ks)
				if got.Phase != tt.phase || got.Reason != tt.reason || key != tt.key || time.Until(got.Next) != tt.next {
					t.Errorf("got %s(%s) with key %d, next call in %v, want %s(%s) with key %d, next call in %v",
						got.Phase, got.Reason, key, time.Until(got.Next), tt.phase, tt.reason, tt.key, tt.next)
				}
			})
		})
	}

	// Steps of time and use: at which moment the data key goes, and to where.
	for _, tt := range []struct {
		from   string
		cause  string
		o      seal.KeyOptions
		script []act
		until  time.Duration // in from
		takes  int           // then
		phase  seal.Phase
		reason seal.Class
	}{
		{"ready", "too old", seal.KeyOptions{HardAge: 2 * m}, []act{{}, {from: 1, takes: s}}, 2 * m, 0, seal.Init, 0},
		{"degraded", "too old", seal.KeyOptions{HardAge: 6 * m, Grace: 10 * m}, []act{{}, {from: 1, err: errOut}}, 16 * m, 0, seal.Paused, seal.Outage},
		{"degraded", "too old", seal.KeyOptions{HardAge: 6 * m, Grace: -1}, []act{{}, {from: 1, err: errOut}}, 6 * m, 0, seal.Paused, seal.Outage},
		{"degraded", "too old", seal.KeyOptions{HardAge: 6 * m, Grace: 10 * m}, []act{{}, {from: 1, err: errMisfit}}, 6 * m, 0, seal.Paused, seal.Misfit},
		{"ready", "used up", seal.KeyOptions{MaxBytes: 1000}, []act{{}, {from: 1, takes: s}}, m, 1500, seal.Init, 0},
		{"refreshing", "used up", seal.KeyOptions{MaxBytes: 1000}, []act{{}, {from: 1, takes: 4 * s}}, 5*m + s, 1500, seal.Init, 0},
		{"degraded", "used up", seal.KeyOptions{MaxBytes: 1000}, []act{{}, {from: 1, err: errOut}}, 6 * m, 1500, seal.Paused, seal.Outage},
	} {
		tested[tt.from+": "+tt.cause] = true
		t.Run(fmt.Sprintf("%s/%s/%v", tt.from, tt.cause, tt.reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := newFake(t, tt.script...)
				ks := seal.NewKeys(tt.o, kms, seal.AES256GCM, kms.context)
				ks.SetRandom(middle)
				run(t, ks)
				if k, err := ks.Take(t.Context(), 1); err != nil { // used, so that its bounds count
					t.Fatal(err)
				} else {
					k.Release()
				}
				time.Sleep(tt.until - 1)
				synctest.Wait()
				if got := ks.State().Phase; got.String() != tt.from {
					t.Fatalf("before: got %s, want %s", got, tt.from)
				}
				if tt.takes == 0 {
					time.Sleep(time.Nanosecond)
				} else if k, err := ks.Take(ended, tt.takes); err == nil {
					t.Errorf("got key %d for %d bytes", serial(k), tt.takes)
				}
				synctest.Wait()
				if got := ks.State(); got.Phase != tt.phase || got.Reason != tt.reason || got.KeyID != "" {
					t.Errorf("got %s(%s) with key %q, want %s(%s) without", got.Phase, got.Reason, got.KeyID, tt.phase, tt.reason)
				}
			})
		})
	}

	for _, step := range seal.Steps() {
		if name := step.From + ": " + step.Cause; !tested[name] {
			t.Errorf("no test of %s", name)
		}
	}
}

// A thousand agents that start at once, with a key service that throttles, and
// is then out for 20 minutes, call once each, and then never in a burst: chance
// alone makes a second's calls more than their mean. docs/KEYS.md has the bounds.
func TestKeysFleet(t *testing.T) {
	const agents = 1000
	type span struct {
		name     string
		from, to time.Duration
	}
	const m = time.Minute
	spans := []span{
		{"the first second", 0, time.Second},
		{"the rest of the first 2 min", time.Second, 2 * m},
		{"until the outage", 2 * m, 15 * m},
		{"in the outage", 15 * m, 35 * m},
		{"in the 2 min after it", 35 * m, 37 * m},
		{"later", 37 * m, 60 * m},
	}
	fleets := []struct {
		quota int           // calls a second
		keys  time.Duration // until when all have a data key
		total int           // calls until then
		most  []int         // calls in any second of a span
	}{
		{quota: 100, keys: m, total: 2 * agents, most: []int{agents, 40, 30, 120, 110, 30}},
		{quota: 17, keys: 2 * m, total: 3 * agents, most: []int{agents, 40, 30, 120, 110, 30}}, // the least for a thousand
	}
	words := strings.NewReplacer("1000", "1,000", "2000", "2,000", "3000", "3,000")
	doc := fmt.Sprintf("Of %d agents that start at once, with a quota of %d calls a second, all have a data key within %.0f min, after at most %d calls;\n"+
		"with a quota of %d, the least by this rule, within %.0f min, after at most %d. Calls in any second, with an outage of %.0f min (`TestKeysFleet`):\n\n"+
		"| at most | quota %d | quota %d |\n|---|---|---|\n",
		agents, fleets[0].quota, fleets[0].keys.Minutes(), fleets[0].total, fleets[1].quota, fleets[1].keys.Minutes(), fleets[1].total,
		(spans[3].to - spans[3].from).Minutes(), fleets[0].quota, fleets[1].quota)
	for i, s := range spans {
		doc += fmt.Sprintf("| %s | %d | %d |\n", s.name, fleets[0].most[i], fleets[1].most[i])
	}
	wantInDoc(t, words.Replace(doc))
	for _, f := range fleets {
		t.Run(fmt.Sprintf("quota %d", f.quota), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fleet := &fleetKMS{start: time.Now(), quota: f.quota, calls: make([]int, 3601)}
				fleet.out = func(at time.Duration) bool { return spans[3].from <= at && at < spans[3].to }
				all := fleet.agents(t, agents)
				time.Sleep(f.keys)
				allReady(t, all)
				time.Sleep(spans[len(spans)-1].to - f.keys)
				synctest.Wait()
				fleet.mu.Lock()
				defer fleet.mu.Unlock()
				total := 0
				for _, n := range fleet.calls[:int(f.keys.Seconds())] {
					total += n
				}
				t.Logf("%d calls until all have a data key", total)
				if total > f.total {
					t.Errorf("%d calls until all have a data key, want at most %d", total, f.total)
				}
				for i, s := range spans {
					peak := fleet.peak(s.from, s.to)
					t.Logf("%s: at most %d calls a second", s.name, peak)
					if peak > f.most[i] {
						t.Errorf("%s: %d calls in a second, want at most %d", s.name, peak, f.most[i])
					}
				}
			})
		})
	}
}

// A thousand agents that start at once while the key service is out, as when
// power returns, call it often at first; they are spread when it is back.
func TestKeysFleetStartsInAnOutage(t *testing.T) {
	const (
		agents, quota = 1000, 17
		m             = time.Minute
		out, keys     = 5 * m, 3 * m
		first, later  = 3200, 120 // calls in the first second, and in any from the second minute on
	)
	wantInDoc(t, fmt.Sprintf("When they start in an outage they call up to %.1f times each in the first second, but from the second minute on at most %d times a second\n"+
		"together; %.0f min after it all have a data key, with a quota of %d (`TestKeysFleetStartsInAnOutage`).", float64(first)/agents, later, keys.Minutes(), quota))
	synctest.Test(t, func(t *testing.T) {
		fleet := &fleetKMS{start: time.Now(), quota: quota, calls: make([]int, 3601)}
		fleet.out = func(at time.Duration) bool { return at < out }
		all := fleet.agents(t, agents)
		time.Sleep(out + keys)
		allReady(t, all)
		fleet.mu.Lock()
		defer fleet.mu.Unlock()
		if peak := fleet.peak(0, time.Second); peak > first {
			t.Errorf("in the first second: %d calls, want at most %d", peak, first)
		}
		peak := fleet.peak(m, out+keys)
		t.Logf("calls a second: %d at first, at most %d later", fleet.calls[0], peak)
		if peak > later {
			t.Errorf("later: %d calls in a second, want at most %d", peak, later)
		}
	})
}

func allReady(t *testing.T, all []*seal.Keys) {
	t.Helper()
	synctest.Wait()
	for i, ks := range all {
		if ks.State().KeyID == "" {
			t.Fatalf("agent %d has no data key", i)
		}
	}
}

// A fleetKMS is one key service for many agents: it throttles above quota
// calls in a second.
type fleetKMS struct {
	start time.Time
	quota int
	out   func(at time.Duration) bool

	mu    sync.Mutex
	calls []int // in each second since start
}

func (f *fleetKMS) Generate(context.Context, []byte) (seal.DataKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := time.Since(f.start)
	n := &f.calls[int(at.Seconds())]
	*n++
	switch {
	case f.out(at):
		return seal.DataKey{}, errOut
	case *n > f.quota:
		return seal.DataKey{}, errThrottled
	}
	return seal.DataKey{Plain: seal.NewSecret(32), Recipients: []seal.Recipient{{Type: 5, KeyID: []byte("cmk"), Wrapped: []byte("w")}}}, nil
}

// agents starts n of them, each with a chance of its own.
func (f *fleetKMS) agents(t *testing.T, n uint64) (all []*seal.Keys) {
	t.Helper()
	for i := range n {
		ks := seal.NewKeys(seal.KeyOptions{}, f, seal.AES256GCM, []byte{0, 0})
		ks.SetRandom(rand.New(rand.NewPCG(i, 1)).Float64)
		all = append(all, ks)
		run(t, ks)
	}
	return all
}

// peak is the most calls in a second; f.mu is held.
func (f *fleetKMS) peak(from, to time.Duration) int {
	return slices.Max(f.calls[int(from.Seconds()):int(to.Seconds())])
}
