package sls_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/emul"
	"sealtail/sink"
	"sealtail/sink/sls"
)

func TestPut(t *testing.T) {
	for _, n := range []int{0, 1, 2, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				s, _ := newStore(t, f, storeOptions())
				envs := envelopes(n, 1000)
				if err := s.Put(t.Context(), envs); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(f.stored, seqs(n)) || len(f.got) != min(n, 1) {
					t.Fatalf("got %v stored in %d requests", f.stored, len(f.got))
				}
				for _, s := range f.got {
					if s.plain || s.group.GetTopic() != "app" || s.group.GetSource() != "host1" {
						t.Errorf("got plain %v, topic %q, source %q", s.plain, s.group.GetTopic(), s.group.GetSource())
					}
					for i, l := range s.group.Logs {
						if int64(l.GetTime()) != time.Now().Unix() || !bytes.Equal(s.sealed[i], envs[i]) {
							t.Errorf("log %d: time %d or envelope differ", i, l.GetTime())
						}
						var keys []string
						for _, c := range l.Contents {
							keys = append(keys, c.GetKey())
						}
						if want := []string{"_v", "_sid", "_ep", "_seq", "_dek", "_t0", "_t1", "_env"}; !slices.Equal(keys, want) {
							t.Errorf("got keys %v, want %v", keys, want)
						}
					}
				}
			})
		})
	}
}

func TestPutStub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newStore(t, f, storeOptions())
		stub, _ := stubOf(envelope(3, 8))
		if err := s.PutStub(t.Context(), stub, "Bad\nreason "+strings.Repeat("x", 300)); err != nil {
			t.Fatal(err)
		}
		fields := map[string]string{}
		for _, c := range f.got[0].group.Logs[0].Contents {
			fields[c.GetKey()] = c.GetValue()
		}
		if fields["_v"] != "SE1P" || fields["_seq"] != "3" || !strings.HasPrefix(fields["_why"], "Bad reason xxx") || len(fields["_why"]) > 256 {
			t.Errorf("got %v", fields)
		}
	})
}

// TestRequests checks how envelopes are divided into requests.
func TestRequests(t *testing.T) {
	for _, c := range []struct {
		n, size int
		want    []int // envelopes in each request
	}{
		{3, 737280, []int{3}},
		{4, 737280, []int{3, 1}},
		{9, 737280, []int{3, 3, 3}},
		{4097, 8, []int{4096, 1}},
		{100, 100000, []int{23, 23, 23, 23, 8}},
	} {
		t.Run(fmt.Sprintf("%dx%d", c.n, c.size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				s, _ := newStore(t, f, storeOptions())
				if err := s.Put(t.Context(), envelopes(c.n, c.size)); err != nil {
					t.Fatal(err)
				}
				var got []int
				for _, s := range f.got {
					got = append(got, len(s.seqs))
					if s.raw > 3<<20 {
						t.Errorf("a request of %d bytes", s.raw)
					}
				}
				if !slices.Equal(got, c.want) || !slices.Equal(f.stored, seqs(c.n)) {
					t.Errorf("got requests of %v, want %v; %d stored", got, c.want, len(f.stored))
				}
			})
		})
	}
}

// errorRows are what a Put of three envelopes does about each answer, given
// for ever.
var errorRows = []struct {
	status        int
	code, message string
	class         sls.Class // of the error that Put returns
	posts         int       // until then
	fresh         int       // look-ups of credentials
}{
	{400, "RequestTimeExpired", "", sls.Clock, 1, 0},
	{400, "InvalidRequestTime", "", sls.Clock, 1, 0},
	{400, "InvalidHost", "", sls.Config, 1, 0},
	{400, "MissingParameter", "", sls.Config, 1, 0},
	{400, "InvalidContentType", "", sls.Config, 1, 0},
	{415, "InvalidContentType", "", sls.Config, 1, 0},
	{400, "MissingBodyRawSize", "", sls.Config, 1, 0},
	{400, "InvalidBodyRawSize", "", sls.Config, 1, 0},
	{400, "InvalidAPIVersion", "", sls.Config, 1, 0},
	{400, "InvalidDateFormat", "", sls.Config, 1, 0},
	{411, "MissingContentLength", "", sls.Config, 1, 0},
	// Each of 3, 1, 2, 1, 1 with zstd and without, and 3 stubs, none taken.
	{400, "InvalidCompressType", "", sls.Content, 13, 0},
	{400, "PostBodyInvalid", "protobuf", sls.Content, 13, 0},
	{400, "InvalidKey", "", sls.Content, 13, 0},
	{400, "InvalidTimestamp", "", sls.Content, 13, 0},
	{400, "InvalidEncoding", "", sls.Content, 13, 0},
	{400, "PostBodyUncompressError", "", sls.Content, 13, 0},
	{400, "ParameterInvalid", "", sls.Content, 13, 0},
	{400, "PostBodyInvalid", "The post data time is out of range.", sls.Clock, 1, 0},
	{499, "PostBodyInvalid", "The post data time is out of range.", sls.Clock, 1, 0},
	// 3, 1, 2, 1, 1.
	{413, "PostBodyTooLarge", "", sls.TooLarge, 8, 0},
	{400, "PostBodyTooLarge", "", sls.TooLarge, 8, 0},
	{400, "InvalidSequenceId", "", sls.Config, 1, 0},
	{400, "LogStoreWithoutShard", "", sls.Transient, 1, 0},
	{400, "ProjectQuotaExceed", "", sls.Throttled, 1, 0},
	{401, "SignatureNotMatch", "", sls.Refused, 2, 1},
	{401, "Unauthorized", "The security token you provided is invalid.", sls.Refused, 2, 1},
	{401, "Unauthorized", "The security token you provided has expired.", sls.Refused, 2, 1},
	{401, "Unauthorized", "AccessKeyId not found", sls.Refused, 2, 1},
	{401, "Unauthorized", "AccessKeyId is disabled", sls.Refused, 2, 1},
	{401, "Unauthorized", "The AccessKeyId is unauthorized.", sls.Refused, 2, 1},
	{401, "Unauthorized", "denied by sts or ram, action: log:PostLogStoreLogs, resource: acs:log:x", sls.Denied, 2, 1},
	{401, "Unauthorized", "The project does not belong to you.", sls.Denied, 2, 1},
	{401, "Unauthorized", "Your SLS service has been forbidden.", sls.Denied, 1, 0},
	{401, "Unauthorized", "an eighth cause", sls.Refused, 2, 1},
	{401, "InvalidAccessKeyId", "The access key id is invalid.", sls.Refused, 2, 1},
	{401, "InvalidAccessKeyId", "Your SLS service has not opened.", sls.Denied, 1, 0},
	{403, "WriteQuotaExceed", "Project write quota exceed: inflow", sls.Throttled, 1, 0},
	{403, "ExceedQuota", "", sls.Throttled, 1, 0},
	{403, "ShardWriteQuotaExceed", "", sls.Throttled, 1, 0},
	{403, "ReadQuotaExceed", "", sls.Throttled, 1, 0},
	{403, "ShardReadQuotaExceed", "", sls.Throttled, 1, 0},
	{403, "MetaOperationQpsLimitExceeded", "", sls.Throttled, 1, 0},
	{403, "ProjectForbidden", "", sls.Denied, 1, 0},
	{404, "ProjectNotExist", "", sls.Absent, 1, 0},
	{404, "LogStoreNotExist", "", sls.Absent, 1, 0},
	{404, "ShardNotExist", "", sls.Absent, 1, 0},
	{405, "InvalidMethod", "", sls.Config, 1, 0},
	{501, "NotImplemented", "", sls.Config, 1, 0},
	{501, "NotSupported", "", sls.Config, 1, 0},
	{429, "TooManyRequests", "", sls.Throttled, 1, 0},
	{500, "InternalServerError", "no avaliable shard", sls.Transient, 1, 0},
	{500, "RequestTimeout", "", sls.Transient, 1, 0},
	{500, "UnknownError", "", sls.Transient, 1, 0},
	{503, "ServerBusy", "", sls.Transient, 1, 0},
	{500, "ServerBusy", "", sls.Transient, 1, 0},
	{504, "GatewayTimeout", "", sls.Transient, 1, 0},
	{500, "", "html", sls.Transient, 1, 0},
	{502, "", "html", sls.Transient, 1, 0},
	{503, "", "html", sls.Transient, 1, 0},
	{504, "", "html", sls.Transient, 1, 0},
	{429, "", "html", sls.Throttled, 1, 0},
	{407, "", "html", sls.Config, 1, 0},
	{413, "", "html", sls.TooLarge, 5, 0},
	{403, "", "html", sls.Unknown, 1, 0},
	{201, "", "html", sls.Unknown, 1, 0},
	{403, "SomethingNew", "of which nobody knows", sls.Unknown, 1, 0},
	{400, "SomethingNew", "", sls.Unknown, 1, 0},
	{500, "SomethingNew", "", sls.Unknown, 1, 0},
	{403, "KMSKeyDisabled", "", sls.CMK, 1, 0},
	{403, "SomethingNew", "The request was rejected by KMS.", sls.CMK, 1, 0},
	{500, "InternalServerError", "cmk is not usable", sls.CMK, 1, 0},
	{400, "ParameterInvalid", "the key is disabled", sls.CMK, 1, 0},
	{400, "PostBodyInvalid", "encrypt data failed", sls.CMK, 1, 0},
	{401, "Unauthorized", "denied by sts or ram, action: kms:Decrypt, resource: acs:kms:x", sls.CMK, 1, 0},
	{403, "AccessDenied", "Your access key is disabled", sls.Unknown, 1, 0},
	{403, "SomethingNew", "logstore prod-logs/audit", sls.Unknown, 1, 0},
}

func TestErrorTable(t *testing.T) {
	for _, r := range errorRows {
		t.Run(fmt.Sprintf("%d %s %s", r.status, r.code, r.message), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				o := storeOptions()
				if r.class == sls.CMK {
					o.Encryption = sls.Encryption{Type: "m4", CMK: "key-1", RoleARN: "acs:ram::1:role/r", Region: "cn-hangzhou"}
					f.logstore = func() (int, string) { return 200, byok }
				}
				s, k := newStore(t, f, o)
				f.answer = refuse(refusal{r.status, r.code, r.message, r.message == "html"}, 0)
				err := s.Put(t.Context(), envelopes(3, 1000))
				e := asError(t, err)
				var rejected *sink.RejectedError
				if errors.As(err, &rejected) {
					t.Errorf("rejected, though nothing was ever taken: %v", err)
				}
				if e.Class != r.class || len(f.got) != r.posts || k.fresh != r.fresh {
					t.Errorf("got class %q after %d posts with %d fresh keys, want %q, %d, %d: %v", e.Class, len(f.got), k.fresh, r.class, r.posts, r.fresh, e)
				}
				if r.code != "" && (e.Code != r.code || e.Status != r.status || e.RequestID != "REQ1") {
					t.Errorf("got %d %q, request %q", e.Status, e.Code, e.RequestID)
				}
				if st := s.State(); st.Class != r.class || st.Since.IsZero() || st.Text != err.Error() {
					t.Errorf("got state %+v", st)
				}
				// The service recovers, and so does the Store.
				f.answer = nil
				for range 2 {
					if err := s.Put(t.Context(), envelopes(3, 1000)); err != nil {
						t.Fatal(err)
					}
				}
				if len(f.stored) != 6 || s.State() != (sls.State{}) {
					t.Errorf("after recovery: got %d stored, state %+v", len(f.stored), s.State())
				}
			})
		})
	}
}

// TestErrorTableComplete holds the rows against the emulator's, which are from
// the vendor's pages.
func TestErrorTableComplete(t *testing.T) {
	elsewhere := map[string]bool{ // answers to requests that this package does not make
		"GroupNotExist": true, "MachineGroupNotExist": true, "ConfigNotExist": true, "IndexConfigNotExist": true, "ConsumerGroupNotExist": true,
		"ProjectAlreadyExist": true, "IndexAlreadyExist": true, "InvalidCursor": true,
		"LogStoreAlreadyExist": true, "LogstoreAlreadyExist": true, "LogStoreInfoInvalid": true, "LogstoreInfoInvalid": true,
	}
	rows := emul.SLSErrors()
	if len(rows) < 50 {
		t.Fatalf("got %d rows", len(rows))
	}
	for _, e := range rows {
		known := elsewhere[e.Code]
		for _, r := range errorRows {
			known = known || r.status == e.Status && r.code == e.Code
		}
		if !known {
			t.Errorf("no row for %d %s", e.Status, e.Code)
		}
	}
}

func TestSplitRemembersCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newStore(t, f, storeOptions())
		f.answer = func(s *sent) *refusal {
			if s.raw > 500_000 {
				return &refusal{413, "PostBodyTooLarge", "Body size must little than 500000.", false}
			}
			return nil
		}
		for range 2 {
			f.stored = nil
			if err := s.Put(t.Context(), envelopes(20, 100_000)); err != nil {
				t.Fatal(err)
			}
			slices.Sort(f.stored)
			if !slices.Equal(f.stored, seqs(20)) {
				t.Errorf("got %v stored", f.stored)
			}
		}
		var refused int
		for _, s := range f.got {
			if s.raw > 500_000 {
				refused++
			}
		}
		if refused > 8 {
			t.Errorf("%d requests were too large, the second time too", refused)
		}
	})
}

// TestTooLargeAlone has an envelope that fits nowhere: it is rejected at the
// fifth time, but not because of what only a proxy says.
func TestTooLargeAlone(t *testing.T) {
	for _, html := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			s, _ := newStore(t, f, storeOptions())
			f.answer = func(s *sent) *refusal {
				if s.raw > 50_000 {
					return &refusal{413, "PostBodyTooLarge", "", html}
				}
				return nil
			}
			envs := [][]byte{envelope(0, 100), envelope(1, 100_000), envelope(2, 100)}
			for range 4 {
				asError(t, s.Put(t.Context(), envs))
				asError(t, s.Put(t.Context(), envs)) // too soon to count
				time.Sleep(10 * time.Second)
			}
			err := s.Put(t.Context(), envs)
			var rejected *sink.RejectedError
			if errors.As(err, &rejected) == html {
				t.Errorf("html %v: got %v", html, err)
			}
			if !slices.Equal(f.stored, []int{0, 2}) {
				t.Errorf("got %v stored, want 0 and 2", f.stored)
			}
		})
	}
}

func TestRestamp(t *testing.T) {
	for _, ahead := range []time.Duration{10 * 24 * time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{date: ahead}
			s, _ := newStore(t, f, storeOptions())
			f.answer = func(s *sent) *refusal {
				for _, l := range s.group.Logs {
					if d := time.Since(time.Unix(int64(l.GetTime()), 0)) + ahead; d > 7*24*time.Hour || d < -15*time.Minute {
						return &refusal{400, "PostBodyInvalid", "The post data time is out of range.", false}
					}
				}
				return nil
			}
			for range 3 {
				if err := s.Put(t.Context(), envelopes(2, 100)); err != nil {
					t.Fatal(err)
				}
			}
			if len(f.got) != 4 {
				t.Errorf("ahead %v: got %d posts, want 4: one refused", ahead, len(f.got))
			}
			// This host's clock is set right.
			f.date, ahead = 0, 0
			for range 2 {
				f.got = nil
				if err := s.Put(t.Context(), envelopes(2, 100)); err != nil {
					t.Fatal(err)
				}
			}
			if stamp := f.got[0].group.Logs[0].GetTime(); len(f.got) != 1 || int64(stamp) != time.Now().Unix() {
				t.Errorf("ahead %v: got %d posts and a stamp that is %v off after the clock was set right", ahead, len(f.got), time.Since(time.Unix(int64(stamp), 0)))
			}
		})
	}
}

func TestRefreshOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, k := newStore(t, f, storeOptions())
		f.answer = func(s *sent) *refusal {
			if s.key == "AK0" {
				return &refusal{401, "SignatureNotMatch", "", false}
			}
			return nil
		}
		if err := s.Put(t.Context(), envelopes(2, 100)); err != nil || k.fresh != 1 || len(f.got) != 2 {
			t.Errorf("got %v, %d fresh keys, %d posts; want nil, 1, 2", err, k.fresh, len(f.got))
		}
		// Refused for good: looked up anew twice a minute at most.
		f.answer = refuse(refusal{401, "SignatureNotMatch", "", false}, 0)
		k.fresh = 0
		for range 120 {
			asError(t, s.Put(t.Context(), envelopes(2, 100)))
			time.Sleep(5 * time.Second)
		}
		if k.fresh < 15 || k.fresh > 21 {
			t.Errorf("got %d fresh keys in 10 min, want about 20", k.fresh)
		}
	})
}

// The key is refused, and then its file goes: that is told from then on.
func TestRefusedAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, k := newStore(t, f, storeOptions())
		f.answer = refuse(refusal{401, "Unauthorized", "AccessKeyId not found", false}, 0)
		refused := asError(t, s.Put(t.Context(), envelopes(1, 100)))
		k.gone = errors.New("no such file")
		time.Sleep(30 * time.Second)
		for range 10 {
			e := asError(t, s.Put(t.Context(), envelopes(1, 100)))
			if e.Class != sls.Refused || !errors.Is(e, k.gone) || !strings.Contains(s.State().Text, "no such file") || e.Kind() == refused.Kind() {
				t.Errorf("got %v, state %+v", e, s.State())
			}
			time.Sleep(time.Second)
		}
		k.gone = nil
		if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Kind() != refused.Kind() {
			t.Errorf("got %v", e)
		}
	})
}

func TestH69_CredentialsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, k := newStore(t, f, storeOptions())
		k.err = errors.New("no such file")
		if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Class != sls.Refused || !errors.Is(e, k.err) || len(f.got) != 0 {
			t.Errorf("got %v", e)
		}
	})
}

// bad refuses the named envelopes, and no stub.
func bad(r refusal, names ...int) func(*sent) *refusal {
	return func(s *sent) *refusal {
		if s.stub {
			return nil
		}
		for _, n := range names {
			if slices.Contains(s.seqs, n) {
				return &r
			}
		}
		return nil
	}
}

// TestRejects ships through a Sink: what the service refuses for itself is
// parked with its stub, everything else is stored once.
func TestRejects(t *testing.T) {
	for _, code := range []string{"PostBodyInvalid", "InvalidKey", "InvalidEncoding", "ParameterInvalid"} {
		for _, names := range [][]int{{0}, {7}, {3, 4}, {0, 5, 9}} {
			t.Run(fmt.Sprintf("%s %v", code, names), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{}
					s, _ := newStore(t, f, storeOptions())
					f.answer = bad(refusal{400, code, "", false}, names...)
					q := &queue{envs: envelopes(10, 100)}
					k := sink.New(sink.Options{Stub: stubOf}, q, s)
					if err := k.Run(t.Context()); err != nil {
						t.Fatal(err)
					}
					want := slices.DeleteFunc(seqs(10), func(n int) bool { return slices.Contains(names, n) })
					slices.Sort(f.stored)
					if !slices.Equal(f.stored, want) || len(q.parked) != len(names) {
						t.Errorf("got %v stored, %d parked, want %v and %d", f.stored, len(q.parked), want, len(names))
					}
					slices.Sort(f.stubs)
					if st := k.Stats(); int(st.Stubs) != len(names) || !slices.Equal(slices.Compact(f.stubs), names) {
						t.Errorf("got stubs of %v, stats %+v", f.stubs, st)
					}
					if last := f.got[len(f.got)-1]; last.plain {
						t.Error("zstd is not used any more")
					}
				})
			})
		}
	}
}

// TestNothingButBad has a spool of envelopes that can never be taken, in all
// requests in flight: each is parked, in its time.
func TestNothingButBad(t *testing.T) {
	for _, n := range []int{1, 2, 3, 40} {
		for _, most := range []int{100, 2000} {
			t.Run(fmt.Sprintf("%d in requests of %d", n, most), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{answer: bad(refusal{400, "InvalidEncoding", "", false}, seqs(n)...)}
					s, _ := newStore(t, f, storeOptions())
					q := &queue{envs: envelopes(n, 100)}
					k := sink.New(sink.Options{InFlight: 2, MaxRequest: most, Stub: stubOf}, q, s)
					began := time.Now()
					go func() {
						time.Sleep(15 * time.Second)
						if e, ok := errors.AsType[*sls.Error](k.Stats().Err); !ok {
							t.Errorf("after 15 s: got %v", k.Stats().Err)
						} else if n, most := e.Alone(); n < 1 || n > 2 || most != 5 {
							t.Errorf("after 15 s: refused alone %d times of %d, want 1 or 2 of 5: %v", n, most, e)
						}
					}()
					if err := k.Run(t.Context()); err != nil {
						t.Fatal(err)
					}
					slices.Sort(f.stubs)
					if len(q.parked) != n || len(f.stored) != 0 || !slices.Equal(slices.Compact(f.stubs), seqs(n)) {
						t.Errorf("got %d parked, %v stored, stubs of %v", len(q.parked), f.stored, f.stubs)
					}
					if d := time.Since(began); d < 40*time.Second || d > time.Duration(n/2+1)*3*time.Minute {
						t.Errorf("took %v", d)
					}
				})
			})
		}
	}
}

// TestOutageLikeBadEnvelopes has a service refuse bodies for their content for
// half an hour, as an outage may, in several ways: nothing is parked, and all is
// stored afterwards.
func TestOutageLikeBadEnvelopes(t *testing.T) {
	for _, c := range []struct {
		name    string
		refuses func(s *sent, outage time.Duration) bool
	}{
		{"everything", func(*sent, time.Duration) bool { return true }},
		{"everything, every other minute", func(_ *sent, d time.Duration) bool { return d/time.Minute%2 == 0 }},
		{"everything, but for 20 s in each minute", func(_ *sent, d time.Duration) bool { return d%time.Minute < 40*time.Second }},
		{"all envelopes, and every fifth stub", func() func(s *sent, _ time.Duration) bool {
			stubs := map[int]int{}
			return func(s *sent, _ time.Duration) bool {
				if !s.stub {
					return true
				}
				stubs[s.seqs[0]]++
				return stubs[s.seqs[0]]%5 == 0
			}
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				s, _ := newStore(t, f, storeOptions())
				if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
					t.Fatal(err)
				}
				f.stored = nil
				began, tries := time.Now(), 0
				f.answer = func(s *sent) *refusal {
					if d := time.Since(began); d < 30*time.Minute && c.refuses(s, d) {
						tries++
						return &refusal{400, "PostBodyInvalid", "", false}
					}
					return nil
				}
				q := &queue{envs: envelopes(16, 100)}
				k := sink.New(sink.Options{InFlight: 2, MaxRequest: 200, Stub: stubOf}, q, slow{s})
				if err := k.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				slices.Sort(f.stored)
				if len(q.parked) != 0 || !slices.Equal(f.stored, seqs(16)) || tries < 20 {
					t.Errorf("got %d parked, %d stored, %d refused", len(q.parked), len(f.stored), tries)
				}
			})
		})
	}
}

// slow is a Store that takes a minute for what it can put at once.
type slow struct{ *sls.Store }

func (s slow) Put(ctx context.Context, envs [][]byte) error {
	err := s.Store.Put(ctx, envs)
	if err == nil {
		time.Sleep(time.Minute)
	}
	return err
}

func TestUncompressedIsRemembered(t *testing.T) {
	for _, code := range []string{"InvalidCompressType", "PostBodyUncompressError", "PostBodyInvalid", "ParameterInvalid"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			o := storeOptions()
			var told []string
			o.Tell = func(text string) { told = append(told, text) }
			s, _ := newStore(t, f, o)
			f.answer = func(s *sent) *refusal {
				if !s.plain {
					return &refusal{400, code, "", false}
				}
				return nil
			}
			for range 3 {
				if err := s.Put(t.Context(), envelopes(3, 100)); err != nil {
					t.Fatal(err)
				}
			}
			if len(f.got) != 4 || len(told) != 1 {
				t.Errorf("%s: got %d posts, told %q; want 4, once", code, len(f.got), told)
			}
			// Where the code does not say that it is zstd, that is tried again.
			f.answer = nil
			time.Sleep(61 * time.Minute)
			if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
				t.Fatal(err)
			}
			if got, want := f.got[len(f.got)-1].plain, code == "InvalidCompressType" || code == "PostBodyUncompressError"; got != want {
				t.Errorf("%s: an hour later: got plain %v, want %v", code, got, want)
			}
		})
	}
}

// TestProbe has an outage: after it one envelope goes first.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: refuse(refusal{503, "ServerBusy", "", false}, 3)}
		s, _ := newStore(t, f, storeOptions())
		for range 3 {
			asError(t, s.Put(t.Context(), envelopes(10, 1000)))
		}
		if err := s.Put(t.Context(), envelopes(10, 1000)); err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, s := range f.got {
			got = append(got, len(s.seqs))
		}
		if want := []int{10, 1, 1, 1, 9}; !slices.Equal(got, want) {
			t.Errorf("got requests of %v, want %v", got, want)
		}
	})
}

// TestPartlyTaken has the second of three requests fail: what was taken does
// not go again.
func TestPartlyTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newStore(t, f, storeOptions())
		f.answer = func(s *sent) *refusal {
			if len(f.got) == 2 {
				return &refusal{503, "ServerBusy", "", false}
			}
			return nil
		}
		envs := envelopes(9, 737280)
		asError(t, s.Put(t.Context(), envs))
		if err := s.Put(t.Context(), envs); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.stored, seqs(9)) {
			t.Errorf("got %v stored", f.stored)
		}
		// Put anew, all are sent: only a Put that failed is remembered.
		if err := s.Put(t.Context(), envs); err != nil || len(f.stored) != 18 {
			t.Errorf("got %v, %d stored", err, len(f.stored))
		}
	})
}

// TestKeyState asks the KMS where the answer does not say what is wrong.
func TestKeyState(t *testing.T) {
	for _, r := range []refusal{
		{403, "SomethingNew", "", false}, {500, "InternalServerError", "", false},
		{400, "PostBodyInvalid", "", false}, {400, "ParameterInvalid", "", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			o := storeOptions()
			o.Encryption = sls.Encryption{Type: "default", CMK: "key-1", RoleARN: "acs:ram::1:role/r", Region: "cn-hangzhou"}
			f.logstore = func() (int, string) {
				return 200, `{"encrypt_conf":{"enable":true,"encrypt_type":"default","user_cmk_info":{"cmk_key_id":"key-1","arn":"acs:ram::1:role/r","region_id":"cn-hangzhou"}}}`
			}
			state, asked := "Disabled", 0
			o.KeyState = func(context.Context) (string, error) { asked++; return state, nil }
			s, _ := newStore(t, f, o)
			if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
				t.Fatal(err)
			}
			f.answer = refuse(r, 0)
			for range 60 {
				if e := asError(t, s.Put(t.Context(), envelopes(3, 100))); e.Class != sls.CMK || !strings.Contains(e.Error(), "Disabled") {
					t.Fatalf("got %v", e)
				}
				time.Sleep(10 * time.Second)
			}
			if asked > 10 {
				t.Errorf("the KMS was asked %d times in 10 min", asked)
			}
			state = "Enabled"
			time.Sleep(time.Minute)
			if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Class == sls.CMK {
				t.Errorf("got %v", e)
			}
			f.answer = nil
			if err := s.Put(t.Context(), envelopes(1, 100)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnknownNamesTheCMK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: refuse(refusal{403, "SomethingNew", "", false}, 0)}
		o := storeOptions()
		o.Encryption = sls.Encryption{Type: "default", CMK: "key-1", RoleARN: "acs:ram::1:role/r", Region: "cn-hangzhou"}
		f.logstore = func() (int, string) {
			return 200, `{"encrypt_conf":{"enable":true,"encrypt_type":"default","user_cmk_info":{"cmk_key_id":"key-1","arn":"acs:ram::1:role/r","region_id":"cn-hangzhou"}}}`
		}
		s, _ := newStore(t, f, o)
		if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Class != sls.Unknown || !strings.Contains(e.Error(), "CMK") {
			t.Errorf("got %v", e)
		}
	})
}

func TestNoSecretInErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newStore(t, f, storeOptions())
		f.answer = refuse(refusal{401, "Unauthorized", "sign of " + secret + "\x1b[31m\n and " + secret, false}, 0)
		err := s.Put(t.Context(), envelopes(1, 100))
		if text := err.Error(); strings.Contains(text, secret) || strings.ContainsAny(text, "\x1b\n") || !strings.Contains(text, "sign of …") {
			t.Errorf("got %q", text)
		}
		for _, r := range []refusal{
			{401, "SignatureNotMatch", "signature abcdef does not match", false},
			{401, "Unauthorized", "Authorization: SLS4-HMAC-SHA256 Credential=x, Signature=abcdef", false},
			{403, "SomethingNew", "bad Signature=abcdef", false},
		} {
			f.answer = refuse(r, 0)
			if text := s.Put(t.Context(), envelopes(1, 100)).Error(); strings.Contains(text, "abcdef") {
				t.Errorf("got %q", text)
			}
		}
		if text := fmt.Sprintf("%+v %+v", s.State(), asError(t, err)); strings.Contains(text, secret) {
			t.Errorf("got %q", text)
		}
	})
}

func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, _ := newStore(t, f, storeOptions())
		ctx, cancel := context.WithCancel(t.Context())
		f.answer = func(*sent) *refusal { cancel(); return &refusal{503, "ServerBusy", "", false} }
		if err := s.Put(ctx, envelopes(1, 100)); err == nil {
			t.Error("no error")
		}
		if err := s.Put(ctx, envelopes(1, 100)); err != context.Canceled {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

func TestNewStoreChecks(t *testing.T) {
	c, err := sls.New(options(&keys{}))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*sls.StoreOptions){
		"describe":      func(o *sls.StoreOptions) { o.Describe = nil },
		"describe stub": func(o *sls.StoreOptions) { o.DescribeStub = nil },
		"topic":         func(o *sls.StoreOptions) { o.Topic = strings.Repeat("x", 129) },
		"source":        func(o *sls.StoreOptions) { o.Source = "\xff" },
		"no encryption": func(o *sls.StoreOptions) { o.Encryption = sls.Encryption{} },
		"no role":       func(o *sls.StoreOptions) { o.Encryption.CMK = "key" },
		"no CMK":        func(o *sls.StoreOptions) { o.Encryption.RoleARN = "x" },
	} {
		o := storeOptions()
		change(&o)
		if _, err := sls.NewStore(c, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// queue is a sink.Queue of envelopes.
type queue struct {
	envs   [][]byte
	parked [][]byte
	next   int
}

func (q *queue) Next(_ context.Context, _ []byte, most int) ([][]byte, uint64, error) {
	if q.next == len(q.envs) {
		return nil, 0, io.EOF
	}
	from, size := q.next, 0
	for q.next < len(q.envs) && (q.next == from || size+len(q.envs[q.next]) <= most) {
		size += len(q.envs[q.next])
		q.next++
	}
	return q.envs[from:q.next], uint64(q.next), nil
}

func (q *queue) Trim(uint64) {}

func (q *queue) Park(env []byte, _ string) (string, error) {
	q.parked = append(q.parked, env)
	return "", nil
}

var _ http.Handler = (*fake)(nil)

// TestEvidence has one envelope refused for its content, its stub taken, and
// the KMS tell of the Logstore's CMK in each way.
func TestEvidence(t *testing.T) {
	own := sls.Encryption{Type: "m4", CMK: "key-1", RoleARN: "acs:ram::1:role/r", Region: "cn-hangzhou"}
	for _, c := range []struct {
		name  string
		e     sls.Encryption
		state func(try int) (string, error)
		want  int // puts until it is rejected; 0 = it is not in 20
		says  string
	}{
		{"service's key", sls.Encryption{Type: "default"}, nil, 5, "its stub was taken behind it"},
		{"enabled", own, func(int) (string, error) { return "Enabled", nil }, 5, "its stub was taken behind it"},
		{"disabled", own, func(int) (string, error) { return "Disabled", nil }, 0, "Disabled"},
		{"disabled once", own, func(try int) (string, error) {
			if try == 3 {
				return "Disabled", nil
			}
			return "Enabled", nil
		}, 8, ""},
		{"the KMS is out of reach", own, func(int) (string, error) { return "", errors.New("no") }, 5, "its stub was taken behind it"},
		{"no KMS to ask", own, nil, 5, "its stub was taken behind it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				o := storeOptions()
				if o.Encryption = c.e; c.e.CMK != "" {
					f.logstore = func() (int, string) { return 200, byok }
				}
				try := 0
				if c.state != nil {
					o.KeyState = func(context.Context) (string, error) { return c.state(try) }
				}
				s, _ := newStore(t, f, o)
				f.answer = bad(refusal{400, "PostBodyInvalid", "The post data is invalid.", false}, 1)
				got := 0
				for got == 0 && try < 20 {
					try++
					err := s.Put(t.Context(), [][]byte{envelope(1, 100)})
					var rejected *sink.RejectedError
					if errors.As(err, &rejected) {
						got = try
					}
					if e := asError(t, err); !strings.Contains(e.Error(), c.says) {
						t.Errorf("try %d: got %v", try, e)
					}
					time.Sleep(61 * time.Second)
				}
				if got != c.want {
					t.Errorf("rejected at try %d, want %d", got, c.want)
				}
			})
		})
	}
}

// TestStrayAnswers has others than the service answer 200: nothing is stored.
func TestStrayAnswers(t *testing.T) {
	for name, stray := range map[string]func(http.ResponseWriter){
		"no request id": func(w http.ResponseWriter) { w.Header().Del("x-log-requestid") },
		"a body":        func(w http.ResponseWriter) { io.WriteString(w, "<html>Welcome</html>") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{stray: stray}
				s, _ := newStore(t, f, storeOptions())
				if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Class != sls.Network {
					t.Errorf("got %v", e)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := &fake{logstore: func() (int, string) { return 200, strings.Replace(matching, "audit", "other", 1) }}
		s, _ := newStore(t, f, storeOptions())
		if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); len(f.got) != 0 || !strings.Contains(e.Error(), "other") {
			t.Errorf("got %v after %d posts", e, len(f.got))
		}
	})
}

// TestNoCMKOfItsOwn has answers that speak of a KMS where it has no part.
func TestNoCMKOfItsOwn(t *testing.T) {
	own := sls.Encryption{Type: "m4", CMK: "key-1", RoleARN: "acs:ram::1:role/r", Region: "cn-hangzhou"}
	for _, c := range []struct {
		e    sls.Encryption
		r    refusal
		want sls.Class
	}{
		{sls.Encryption{Type: "default"}, refusal{403, "KMSKeyDisabled", "", false}, sls.Unknown},
		{sls.Encryption{Type: "default"}, refusal{500, "InternalServerError", "kms", false}, sls.Transient},
		{own, refusal{401, "Unauthorized", "denied by sts or ram, action: log:PostLogStoreLogs, resource: acs:log:x, principal: kms-shipper", false}, sls.Denied},
		{own, refusal{401, "Unauthorized", "denied by sts or ram, action: kms:Decrypt, resource: acs:kms:x", false}, sls.CMK},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{answer: refuse(c.r, 0)}
			o := storeOptions()
			if o.Encryption = c.e; c.e.CMK != "" {
				f.logstore = func() (int, string) { return 200, byok }
			}
			s, _ := newStore(t, f, o)
			if e := asError(t, s.Put(t.Context(), envelopes(1, 100))); e.Class != c.want {
				t.Errorf("got %q, want %q: %v", e.Class, c.want, e)
			}
		})
	}
}
