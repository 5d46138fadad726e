package sls_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealtail/emul"
	"sealtail/internal/hidden"
	"sealtail/sink"
	"sealtail/sink/sls"
)

// What a Put does about an answer.
const (
	waits     = "waits"     // returns it after one request; the next try is a probe of one envelope
	refreshes = "refreshes" // sends once more with a fresh access key, and then waits
	restamps  = "restamps"  // sends once more with times by the service's clock, and then waits
	splits    = "splits"    // sends halves; one that is too large alone is parked with a stub
	halves    = "halves"    // likewise, but a proxy may have said it: nothing is parked
	isolates  = "isolates"  // sends uncompressed, then halves; one that is refused alone is parked with a stub
)

// rowsDo says of each answer to PutLogs what it is and what is done. The first
// line that fits holds; a code without a line here is unknown.
var rowsDo = []struct {
	codes, text string // text is a part of the message
	class       sls.Class
	does        string
}{
	{"RequestTimeExpired InvalidRequestTime", "", sls.Clock, waits},
	{"InvalidHost MissingParameter InvalidContentType InvalidBodyRawSize InvalidAPIVersion InvalidDateFormat MissingContentLength", "", sls.Config, waits},
	{"InvalidSequenceId InvalidMethod NotImplemented NotSupported InvalidCursor 407", "", sls.Config, waits},
	{"LogStoreAlreadyExist LogstoreAlreadyExist LogStoreInfoInvalid LogstoreInfoInvalid", "", sls.Config, waits},
	{"PostBodyInvalid", "time is out of range", sls.Clock, restamps},
	{"PostBodyInvalid InvalidKey InvalidTimestamp InvalidEncoding PostBodyUncompressError InvalidCompressType ParameterInvalid", "", sls.Content, isolates},
	{"PostBodyTooLarge", "", sls.TooLarge, splits},
	{"413", "", sls.TooLarge, halves},
	{"ProjectQuotaExceed WriteQuotaExceed ExceedQuota ShardWriteQuotaExceed ReadQuotaExceed ShardReadQuotaExceed", "", sls.Throttled, waits},
	{"MetaOperationQpsLimitExceeded TooManyRequests 429", "", sls.Throttled, waits},
	{"Unauthorized", "denied by", sls.Denied, refreshes},
	{"Unauthorized", "does not belong to you", sls.Denied, refreshes},
	{"Unauthorized", "has been forbidden", sls.Denied, waits},
	{"InvalidAccessKeyId", "has not opened", sls.Denied, waits},
	{"Unauthorized InvalidAccessKeyId SignatureNotMatch", "", sls.Refused, refreshes},
	{"ProjectForbidden", "", sls.Denied, waits},
	{"ProjectNotExist LogStoreNotExist ShardNotExist", "", sls.Absent, waits},
	{"LogStoreWithoutShard InternalServerError RequestTimeout UnknownError ServerBusy GatewayTimeout 500 502 503 504", "", sls.Transient, waits},
	{"cut", "", sls.Network, waits},
}

// TestRows has the emulator answer with each row of its table, over TLS, and
// with what is no row: pages of proxies, no answer, codes of tomorrow.
func TestRows(t *testing.T) {
	s, _ := emulator(t, emul.Options{})
	o := server(t, s.SLS(), nil)
	e := sls.Encryption{Type: "default"}
	o.Credentials = root{s}
	if _, err := client(t, o).Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		name, code, text string
		fault            emul.Fault
	}
	var answers []answer
	for _, row := range emul.SLSErrors() {
		answers = append(answers, answer{row.Error(), row.Code, row.Message, emul.Fault{Status: row.Status, Code: row.Code, Message: row.Message}})
	}
	for _, status := range []int{500, 502, 503, 504, 429, 407, 413, 403} {
		answers = append(answers, answer{fmt.Sprintf("%d page", status), fmt.Sprint(status), "", emul.Fault{Status: status, HTML: true}})
	}
	answers = append(answers,
		answer{"cut", "cut", "", emul.Fault{Cut: true}},
		answer{"403 SomethingNew", "SomethingNew", "", emul.Fault{Status: 403, Code: "SomethingNew"}},
		answer{"400 SomethingNew", "SomethingNew", "", emul.Fault{Status: 400, Code: "SomethingNew"}},
		answer{"500 SomethingNew", "SomethingNew", "", emul.Fault{Status: 500, Code: "SomethingNew"}},
	)
	if len(answers) < 75 {
		t.Fatalf("got %d answers", len(answers))
	}
	used, seq, stubs := map[int]bool{}, 0, 0
	for _, a := range answers {
		t.Run(a.name, func(t *testing.T) {
			defer s.Clear()
			want, does := sls.Unknown, waits
			for i, r := range rowsDo {
				if strings.Contains(" "+r.codes+" ", " "+a.code+" ") && strings.Contains(a.text, r.text) {
					want, does, used[i] = r.class, r.does, true
					break
				}
			}
			a.fault.Operation = "PutLogs"
			k := &looked{s: s}
			o.Credentials = k
			r := &rowRig{T: t, s: s, keys: k, fault: a.fault, seq: &seq}
			r.c = client(t, o)
			r.store = ship(t, r.c, e)
			r.store.SetRoundEvery(0)
			switch does {
			case waits:
				r.waits(want)
			case refreshes:
				began := time.Now()
				r.once(4, 2)
				if k.fresh != 1 {
					t.Errorf("got %d look-ups of the access key, want 1", k.fresh)
				}
				r.waits(want)
				if took := time.Since(began); k.fresh > 1+int(took/(30*time.Second)) {
					t.Errorf("got %d look-ups of the access key in %v, want one in half a minute", k.fresh, took)
				}
			case restamps:
				s.SetClock(10 * time.Minute)
				r.once(4, 2)
				r.stamped(10 * time.Minute)
				s.SetClock(0)
				r.store = ship(t, r.c, e)
				r.waits(want)
			case splits:
				r.once(4, 3)
				r.parks(a.code)
				stubs++
			case halves:
				r.once(4, 3)
				id := s.Inject(r.fault)
				env := r.envelopes(1)
				for range 20 {
					if _, err := r.puts(env); asError(t, err).Class != want {
						t.Fatalf("got %v, want %s", err, want)
					}
				}
				s.Clear(id)
				if _, err := r.puts(env); err != nil {
					t.Errorf("afterwards: got %v", err)
				}
			case isolates:
				r.fault.Count = 2 // in zstd, and uncompressed
				r.once(4, 4)
				r.parks(a.code)
				stubs++
			}
		})
	}
	for i, r := range rowsDo {
		if !used[i] {
			t.Errorf("no answer is of %s %s", r.codes, r.text)
		}
	}
	got, gotStubs := pull(t, reach(t, s, nil, true), sls.Range{})
	for i := range seq {
		if len(got[i]) > 1 {
			t.Errorf("envelope %d is there %d times", i, len(got[i]))
		}
	}
	slices.SortFunc(gotStubs, bytes.Compare) // each is there several times
	gotStubs = slices.CompactFunc(gotStubs, bytes.Equal)
	if len(got)+stubs != seq || len(gotStubs) != stubs {
		t.Errorf("got %d envelopes and %d stubs of %d envelopes, of which %d were parked", len(got), len(gotStubs), seq, stubs)
	}
}

// A rowRig tries what one answer leads to.
type rowRig struct {
	*testing.T
	s     *emul.Server
	c     *sls.Client
	store *sls.Store
	keys  *looked
	fault emul.Fault
	seq   *int // of the next envelope
}

// looked is root with a count of look-ups.
type looked struct {
	s     *emul.Server
	fresh int
}

func (k *looked) AccessKey(_ context.Context, fresh bool) (string, hidden.Text, hidden.Text, error) {
	if fresh {
		k.fresh++
	}
	id, secret := k.s.Root()
	return id, hidden.New(secret), hidden.Text{}, nil
}

func (r *rowRig) envelopes(n int) (envs [][]byte) {
	for range n {
		envs = append(envs, envelope(*r.seq, 100))
		*r.seq++
	}
	return envs
}

// puts returns the requests with envelopes that a Put makes, and its error.
func (r *rowRig) puts(envs [][]byte) (puts []emul.Request, err error) {
	r.Helper()
	after := 0
	if all := r.s.Requests(0); len(all) > 0 {
		after = all[len(all)-1].N
	}
	err = r.store.Put(r.Context(), envs)
	for _, q := range r.s.Requests(after) {
		if q.Operation == "PutLogs" {
			puts = append(puts, q)
		}
	}
	return puts, err
}

// once gives the answer once, or Count times: all n envelopes are taken still.
func (r *rowRig) once(n, requests int) {
	r.Helper()
	f := r.fault
	f.Count = max(f.Count, 1)
	r.s.Inject(f)
	if got, err := r.puts(r.envelopes(n)); err != nil || len(got) != requests {
		r.Errorf("given once: got %v and %d requests, want %d", err, len(got), requests)
	}
}

// waits gives the answer until it is cleared.
func (r *rowRig) waits(class sls.Class) {
	r.Helper()
	id := r.s.Inject(r.fault)
	envs := r.envelopes(2)
	size := 0
	for try := range 4 {
		got, err := r.puts(envs)
		if e := asError(r.T, err); e.Class != class || len(got) != 1 {
			r.Fatalf("try %d: got %d requests and %s: %v, want 1 and %s", try, len(got), e.Class, err, class)
		}
		if try == 0 {
			size = got[0].Bytes
		} else if n := got[0].Bytes; n >= size {
			r.Errorf("try %d: got a request of %d bytes, want a probe of less than %d", try, n, size)
		}
	}
	r.s.Clear(id)
	if got, err := r.puts(envs); err != nil || len(got) != 2 {
		r.Errorf("afterwards: got %v and %d requests, want a probe and the rest", err, len(got))
	}
}

// parks gives the answer to one envelope for ever, while others come.
func (r *rowRig) parks(code string) {
	r.Helper()
	q := &supply{r: r, bad: r.envelopes(1)[0]}
	f := r.fault
	f.Count, f.Contains = 0, base64.StdEncoding.EncodeToString(q.bad[:30])
	defer r.s.Clear(r.s.Inject(f))
	k := sink.New(sink.Options{InFlight: 2, RetryMax: time.Millisecond, Stub: stubOf}, q, r.store)
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Minute)
	defer cancel()
	if err := k.Run(ctx); err != nil || ctx.Err() != nil {
		r.Fatalf("got %v, %v: %+v", err, ctx.Err(), k.Stats())
	}
	if q.why != code || k.Stats().Parked != 1 {
		r.Errorf("got %d parked, the last as %q, want 1 as %q", k.Stats().Parked, q.why, code)
	}
	why := ""
	if err := r.c.Pull(r.Context(), sls.Range{}, func(it *sls.Item) error {
		if it.Stub && it.Fields.Seq == binary.BigEndian.Uint64(q.bad) {
			why = it.Why
		}
		return nil
	}); err != nil || why != code {
		r.Errorf("got %v and a stub that says %q, want %q", err, why, code)
	}
}

// A supply is a queue of a bad envelope and good ones until that is parked.
type supply struct {
	r    *rowRig
	bad  []byte
	next uint64

	mu  sync.Mutex
	why string
}

func (q *supply) Next(context.Context, []byte, int) ([][]byte, uint64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch q.next++; {
	case q.next == 1:
		return [][]byte{q.bad}, q.next, nil
	case q.why != "":
		return nil, 0, io.EOF
	}
	return q.r.envelopes(1), q.next, nil
}

func (q *supply) Trim(uint64) {}

func (q *supply) Park(env []byte, why string) (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !bytes.Equal(env, q.bad) || q.why != "" {
		q.r.Errorf("parked another envelope, or twice: %s", why)
	}
	q.why = why
	return "", nil
}

// stamped wants the newest envelope to have a time by a clock that is ahead.
func (r *rowRig) stamped(ahead time.Duration) {
	r.Helper()
	var at time.Time
	if err := r.c.Pull(r.Context(), sls.Range{}, func(it *sls.Item) error {
		if it.Fields.Seq == uint64(*r.seq-1) {
			at = time.Unix(it.Time, 0)
		}
		return nil
	}); err != nil {
		r.Fatal(err)
	}
	if d := time.Until(at) - ahead; d.Abs() > time.Minute {
		r.Errorf("got a stamp %v off, want %v ahead", d, ahead)
	}
}
