package sls_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/sink"
	"sealtail/sink/sls"
)

const byok = `{"encrypt_conf":{"enable":true,"encrypt_type":"m4","user_cmk_info":{"cmk_key_id":"key-1","arn":"acs:ram::1:role/r","region_id":"cn-hangzhou"}}}`

func TestCompare(t *testing.T) {
	service := sls.Encryption{Type: "default"}
	sm4 := sls.Encryption{Type: "sm4"}
	own := sls.Encryption{Type: "m4", CMK: "key-1", RoleARN: "acs:ram::1:role/r", Region: "cn-hangzhou"}
	for _, c := range []struct {
		name, answer string
		want         sls.Encryption
		differs      []string // a part of each
		notes        int
	}{
		{"equal", matching, service, nil, 0},
		{"empty user_cmk_info", `{"encrypt_conf":{"enable":true,"encrypt_type":"default","user_cmk_info":{}}}`, service, nil, 0},
		{"enable absent", `{"encrypt_conf":{"encrypt_type":"default","user_cmk_info":{}}}`, service, nil, 1},
		{"enable null", `{"encrypt_conf":{"enable":null,"encrypt_type":"default"}}`, service, nil, 1},
		{"enable false", `{"encrypt_conf":{"enable":false,"encrypt_type":"default"}}`, service, []string{"disabled"}, 0},
		{"absent", `{"logstoreName":"audit"}`, service, []string{"not encrypted"}, 0},
		{"null", `{"encrypt_conf":null}`, service, []string{"not encrypted"}, 0},
		{"empty", `{"encrypt_conf":{}}`, service, []string{"not encrypted"}, 0},
		{"type absent", `{"encrypt_conf":{"enable":true}}`, service, []string{"encrypt_type is not set"}, 0},
		{"m4 for sm4", `{"encrypt_conf":{"enable":true,"encrypt_type":"m4"}}`, sm4, nil, 0},
		{"sm4 for m4", strings.Replace(byok, "m4", "sm4", 1), own, nil, 0},
		{"default for sm4", matching, sm4, []string{`encrypt_type is "default", configured is "sm4"`}, 0},
		{"sm4_gcm for sm4", `{"encrypt_conf":{"enable":true,"encrypt_type":"sm4_gcm"}}`, sm4, []string{"encrypt_type"}, 0},
		{"unknown type", `{"encrypt_conf":{"enable":true,"encrypt_type":"zuc"}}`, sls.Encryption{Type: "zuc"}, nil, 1},
		{"BYOK", byok, own, nil, 0},
		{"BYOK for service", `{"encrypt_conf":{"enable":true,"encrypt_type":"default","user_cmk_info":{"cmk_key_id":"key-1","arn":"a","region_id":"r"}}}`, service, []string{"cmk_key_id", "arn", "region_id"}, 0},
		{"service for BYOK", `{"encrypt_conf":{"enable":true,"encrypt_type":"m4"}}`, own, []string{"cmk_key_id is the service's key", "arn", "region_id"}, 0},
		{"other key", strings.Replace(byok, "key-1", "key-2", 1), own, []string{`"key-2", configured is "key-1"`}, 0},
		{"other role", strings.Replace(byok, "role/r", "role/s", 1), own, []string{"arn"}, 0},
		{"other region", strings.Replace(byok, "cn-hangzhou", "cn-beijing", 1), own, []string{"region_id"}, 0},
		{"role and region absent", `{"encrypt_conf":{"enable":true,"encrypt_type":"m4","user_cmk_info":{"cmk_key_id":"key-1"}}}`, own, nil, 2},
		{"all of it", `{"encrypt_conf":{"enable":false,"encrypt_type":"default","user_cmk_info":{"cmk_key_id":"k","arn":"a","region_id":"r"}}}`, own, []string{"disabled", "encrypt_type", "cmk_key_id", "arn", "region_id"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, logstore: func() (int, string) { return 200, c.answer }}
				client, err := sls.New(options(&keys{}))
				if err != nil {
					t.Fatal(err)
				}
				client.SetTransport(inProcess{f})
				l, err := client.Logstore(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				v := c.want.Compare(l)
				if len(v.Differs) != len(c.differs) || len(v.Notes) != c.notes {
					t.Fatalf("got %+v, want %q and %d notes", v, c.differs, c.notes)
				}
				for i, part := range c.differs {
					if !strings.Contains(v.Differs[i], part) {
						t.Errorf("got %q, want %q in it", v.Differs[i], part)
					}
				}
				// The Store says the same.
				o := storeOptions()
				o.Encryption = c.want
				told := 0
				o.Tell = func(string) { told++ }
				s, _ := newStore(t, f, o)
				for range 3 {
					if err := s.Put(t.Context(), envelopes(1, 100)); (err != nil) != (len(c.differs) > 0) {
						t.Errorf("put: got %v", err)
					} else if err != nil {
						if e := asError(t, err); e.Class != sls.Drift || !strings.Contains(e.Error(), c.differs[0]) {
							t.Errorf("put: got %v", err)
						}
					}
				}
				if told != c.notes || len(f.got) > 0 && len(c.differs) > 0 {
					t.Errorf("told %d times, want %d; %d posts", told, c.notes, len(f.got))
				}
			})
		})
	}
}

// TestHourly ships for a day and counts the comparisons.
func TestHourly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newStore(t, f, storeOptions())
		for range 24 * 60 {
			if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if len(f.checks) < 16 || len(f.checks) > 36 {
			t.Errorf("got %d comparisons in a day", len(f.checks))
		}
		for i := 1; i < len(f.checks); i++ {
			if d := f.checks[i].Sub(f.checks[i-1]); d < 30*time.Minute || d > 92*time.Minute {
				t.Errorf("got %v between two comparisons", d)
			}
		}
	})
}

// TestDriftPauses has encryption disabled for an hour while somebody tries each
// second: each answer says when the Logstore is compared again.
func TestDriftPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newStore(t, f, storeOptions())
		if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		f.logstore = func() (int, string) {
			return 200, `{"encrypt_conf":{"enable":false,"encrypt_type":"default"}}`
		}
		f.checks = nil
		from, next := time.Now(), time.Time{}
		for time.Since(from) < time.Hour {
			e := asError(t, s.Put(t.Context(), envelopes(1, 100)))
			if e.Class != sls.Drift {
				t.Fatalf("got %v", e)
			}
			if n := len(f.checks); n > 1 && f.checks[n-1] == time.Now() && time.Since(next) >= time.Second {
				t.Errorf("compared at %v, said %v", time.Now(), next)
			}
			if next = e.NextTry(); !next.After(time.Now()) || !strings.Contains(e.Error(), "compared again at "+next.UTC().Format(time.RFC3339)) {
				t.Fatalf("next try %v: %v", next, e)
			}
			time.Sleep(time.Second)
		}
		if len(f.got) != 1 {
			t.Errorf("got %d posts, want 1", len(f.got))
		}
		for i := 1; i < len(f.checks); i++ {
			if d := f.checks[i].Sub(f.checks[i-1]); d < 20*time.Second || d > 41*time.Second {
				t.Errorf("got %v between two comparisons", d)
			}
		}
		if st := s.State(); st.Class != sls.Drift || st.Since != from {
			t.Errorf("got state %+v, want since %v", st, from)
		}
		// A quota on such questions is kept to, and told.
		f.logstore = func() (int, string) { return 403, `{"errorCode":"MetaOperationQpsLimitExceeded","errorMessage":"x"}` }
		time.Sleep(time.Minute)
		f.checks = nil
		for range 3 {
			e := asError(t, s.Put(t.Context(), envelopes(1, 100)))
			if e.Class != sls.Drift || !strings.Contains(e.Error(), "MetaOperationQpsLimitExceeded") || time.Until(e.NextTry()) < time.Minute {
				t.Errorf("got %v", e)
			}
			time.Sleep(time.Until(e.NextTry()))
		}
		if len(f.checks) != 3 {
			t.Errorf("got %d comparisons, want 3", len(f.checks))
		}
		f.logstore = nil
		if err := s.Put(t.Context(), envelopes(1, 100)); err != nil || s.State().Class != "" {
			t.Errorf("got %v, state %+v", err, s.State())
		}
	})
}

// TestDriftMended has somebody mend drift at any time: the sink goes on within
// 40 s, and compares no more often than it says.
func TestDriftMended(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{logstore: func() (int, string) { return 200, `{"logstoreName":"audit"}` }}
			s, _ := newStore(t, f, storeOptions())
			var mended time.Time
			go func() {
				time.Sleep(10*time.Minute + rand.N(time.Minute))
				f.mu.Lock()
				defer f.mu.Unlock()
				mended, f.logstore = time.Now(), nil
			}()
			began := time.Now()
			if err := sink.New(sink.Options{InFlight: 2, MaxRequest: 100}, &queue{envs: envelopes(2, 100)}, s).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(mended); d > 40*time.Second {
				t.Errorf("went on after %v", d)
			}
			if n := len(f.checks); n > 2+int(time.Since(began)/(20*time.Second)) {
				t.Errorf("got %d comparisons in %v", n, time.Since(began))
			}
		})
	}
}

// TestCheckFails has every comparison fail: before the first verdict nothing
// is shipped, after it for 24 h.
func TestCheckFails(t *testing.T) {
	for _, answer := range []struct {
		status int
		body   string
		class  sls.Class
	}{
		{500, `{"errorCode":"InternalServerError","errorMessage":"x"}`, sls.Transient},
		{401, `{"errorCode":"Unauthorized","errorMessage":"denied by sts or ram, action: log:GetLogStore, resource: acs:log:x"}`, sls.Denied},
		{403, `{"errorCode":"MetaOperationQpsLimitExceeded","errorMessage":"x"}`, sls.Throttled},
		{502, `<html>`, sls.Transient},
		{200, `<html>`, sls.Unknown},
		{200, `{"encrypt_conf":{"enable":"yes"}}`, sls.Unknown},
		{200, `{"encrypt_conf":[]}`, sls.Unknown},
	} {
		t.Run(fmt.Sprint(answer.status, answer.body), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broken := func() (int, string) { return answer.status, answer.body }
				f := &fake{logstore: broken}
				s, _ := newStore(t, f, storeOptions())
				for range 3 {
					e := asError(t, s.Put(t.Context(), envelopes(1, 100)))
					if e.Class != answer.class || !strings.Contains(e.Error(), "nothing is shipped") || !strings.Contains(e.Error(), "get logstore") {
						t.Errorf("no verdict: got %v", e)
					}
				}
				if len(f.got) != 0 {
					t.Errorf("no verdict: got %d posts", len(f.got))
				}
				f.logstore = nil
				if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
					t.Fatal(err)
				}
				f.logstore, f.checks = broken, nil
				from := time.Now()
				for time.Since(from) < 24*time.Hour-5*time.Minute {
					if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
						t.Fatalf("after %v: %v", time.Since(from), err)
					}
					time.Sleep(3 * time.Minute)
				}
				if n := len(f.checks); n < 24*60/12 || n > 24*60/3 { // twice where each is tried with fresh credentials
					t.Errorf("got %d comparisons in a day of failures", n)
				}
				time.Sleep(15 * time.Minute)
				e := asError(t, s.Put(t.Context(), envelopes(1, 100)))
				if e.Class != answer.class || !strings.Contains(e.Error(), "24h") {
					t.Errorf("after a day: got %v", e)
				}
				f.logstore = nil
				if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestRecreated has the Logstore deleted, and one without encryption come in
// its place within the hour: nothing is sent to it, whichever request met the
// gap.
func TestRecreated(t *testing.T) {
	for _, met := range []string{"put", "get"} {
		t.Run(met, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				s, _ := newStore(t, f, storeOptions())
				if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
					t.Fatal(err)
				}
				f.logstore = func() (int, string) { return 404, `{"errorCode":"LogStoreNotExist","errorMessage":"x"}` }
				f.answer = refuse(refusal{404, "LogStoreNotExist", "", false}, 0)
				if met == "get" {
					time.Sleep(2 * time.Hour)
				}
				for range 5 {
					if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Class != sls.Absent {
						t.Fatalf("got %v", e)
					}
					time.Sleep(time.Second)
				}
				f.answer, f.got = nil, nil
				f.logstore = func() (int, string) { return 200, `{"logstoreName":"audit"}` }
				if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Class != sls.Drift || len(f.got) != 0 {
					t.Errorf("got %v, %d posts", e, len(f.got))
				}
				f.logstore = nil
				time.Sleep(2 * time.Minute)
				if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// hanging has the question about the Logstore hang.
type hanging struct {
	inProcess
	hang *bool
}

func (h hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	if *h.hang && r.Method == "GET" {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return h.inProcess.RoundTrip(r)
}

// TestCheckHangs has no answer to a comparison while the last one still holds.
func TestCheckHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t}
		c := client(t, options(&keys{}))
		hang := false
		c.SetTransport(hanging{inProcess{f}, &hang})
		s, err := sls.NewStore(c, storeOptions())
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			began := time.Now()
			if err := s.Put(t.Context(), envelopes(1, 100)); err != nil || time.Since(began) > 5*time.Second {
				t.Fatalf("got %v after %v", err, time.Since(began))
			}
			hang = true
			time.Sleep(5 * time.Minute)
		}
	})
}
