package sls_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/emul"
	"sealtail/internal/hidden"
	"sealtail/sink"
	"sealtail/sink/sls"
)

// root signs with the emulator's access key that may do everything.
type root struct{ s *emul.Server }

func (r root) AccessKey(context.Context, bool) (string, hidden.Text, hidden.Text, error) {
	id, secret := r.s.Root()
	return id, hidden.New(secret), hidden.Text{}, nil
}

type lasting struct{ id, secret string }

func (l lasting) AccessKey(context.Context, bool) (string, hidden.Text, hidden.Text, error) {
	return l.id, hidden.New(l.secret), hidden.Text{}, nil
}

// emulator returns an emulator with a project, a CMK key-1 and a role by which
// SLS uses it, and its Encryption.
func emulator(t *testing.T, o emul.Options) (*emul.Server, sls.Encryption) {
	t.Helper()
	s := emul.New(o)
	t.Cleanup(func() { s.Close() })
	s.AddProject("prod-logs")
	if _, err := s.SetKey(emul.Key{ID: "key-1"}); err != nil {
		t.Fatal(err)
	}
	user, _ := emul.ManagedPolicy("AliyunKMSCryptoUserAccess")
	read, _ := emul.ManagedPolicy("AliyunKMSReadOnlyAccess")
	arn := s.SetRole(emul.Role{Name: "sls", Trust: emul.Trust("log.aliyuncs.com"), Policies: []emul.Policy{user, read}})
	return s, sls.Encryption{Type: "m4", CMK: "key-1", RoleARN: arn, Region: "cn-hangzhou"}
}

// reach returns a Client of the emulator: over TLS, or without a network.
func reach(t *testing.T, s *emul.Server, k sls.Credentials, overTLS bool) *sls.Client {
	t.Helper()
	if k == nil {
		k = root{s}
	}
	o := options(k)
	if overTLS {
		o = server(t, s.SLS(), nil)
		o.Credentials = k
	}
	c := client(t, o)
	if !overTLS {
		c.SetTransport(s.Transport())
	}
	return c
}

func ship(t *testing.T, c *sls.Client, e sls.Encryption) *sls.Store {
	t.Helper()
	o := storeOptions()
	o.Encryption = e
	s, err := sls.NewStore(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pull returns what is in the Logstore, by seq, and the stubs.
func pull(t *testing.T, c *sls.Client, r sls.Range) (envs map[int][][]byte, stubs [][]byte) {
	t.Helper()
	envs = map[int][][]byte{}
	err := c.Pull(t.Context(), r, func(it *sls.Item) error {
		if it.Err != nil || it.Topic != "app" || it.Source != "host1" || it.Project != "prod-logs" || it.Logstore != "audit" {
			t.Errorf("got %+v", it)
		}
		b := bytes.Clone(it.Sealed)
		d := describe
		if it.Stub {
			stubs = append(stubs, b)
			d = describeStub
		} else {
			envs[int(it.Fields.Seq)] = append(envs[int(it.Fields.Seq)], b)
		}
		if want, err := d(b); err != nil || it.Fields != want {
			t.Errorf("got fields %+v, want %+v", it.Fields, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return envs, stubs
}

func TestRoundTrip(t *testing.T) {
	var wire bytes.Buffer
	s, e := emulator(t, emul.Options{Wire: &wire})
	c := reach(t, s, nil, true)
	out, err := c.Provision(t.Context(), sls.Spec{Encryption: e, Shards: 3, AutoSplit: true})
	if err != nil || !out.Created || len(out.Notes) > 0 {
		t.Fatalf("got %+v, %v", out, err)
	}
	st := ship(t, c, e)
	envs := append(envelopes(40, 200_000), envelope(40, 737280))
	for i := 0; i < len(envs); i += 11 {
		if err := st.Put(t.Context(), envs[i:min(i+11, len(envs))]); err != nil {
			t.Fatal(err)
		}
	}
	stub, _ := stubOf(envelope(99, 8))
	if err := st.PutStub(t.Context(), stub, "InvalidKey"); err != nil {
		t.Fatal(err)
	}
	got, stubs := pull(t, c, sls.Range{})
	for i, env := range envs {
		if len(got[i]) != 1 || !bytes.Equal(got[i][0], env) {
			t.Errorf("envelope %d: got it %d times, or changed", i, len(got[i]))
		}
	}
	if len(got) != len(envs) || len(stubs) != 1 || !bytes.Equal(stubs[0], stub) {
		t.Errorf("got %d envelopes, stubs %q", len(got), stubs)
	}
	now := time.Now()
	for _, r := range []sls.Range{{To: now.Add(-time.Hour)}, {From: now.Add(time.Hour)}, {From: now.Add(time.Hour), To: now}} {
		if got, _ := pull(t, c, r); len(got) > 0 {
			t.Errorf("%v: got %d envelopes", r, len(got))
		}
	}
	if got, _ := pull(t, c, sls.Range{From: now.Add(-time.Hour), To: now.Add(time.Hour)}); len(got) != len(envs) {
		t.Errorf("got %d envelopes", len(got))
	}
	// Encrypted again at rest; and no secret of the access key on the wire.
	var rest bytes.Buffer
	if err := s.AtRest(&rest, "", ""); err != nil {
		t.Fatal(err)
	}
	if rest.Len() < 1<<20 || bytes.Contains(rest.Bytes(), []byte(base64.StdEncoding.EncodeToString(envs[1][:30]))) {
		t.Errorf("at rest: %d bytes, or not encrypted", rest.Len())
	}
	_, secret := s.Root()
	if wire.Len() < 1<<20 || bytes.Contains(wire.Bytes(), []byte(secret)) {
		t.Errorf("wire: %d bytes, or the secret in it", wire.Len())
	}
	for _, r := range s.Requests(0) {
		if r.Operation == "GetProject" {
			t.Error("the project was asked about")
		}
	}
}

// TestPullStops ends a pull by yield and by ctx.
func TestPullStops(t *testing.T) {
	s, _ := emulator(t, emul.Options{})
	e := sls.Encryption{Type: "default"}
	c := reach(t, s, nil, false)
	if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	if err := ship(t, c, e).Put(t.Context(), envelopes(20, 1000)); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	n := 0
	if err := c.Pull(t.Context(), sls.Range{}, func(*sls.Item) error { n++; return stop }); err != stop || n != 1 {
		t.Errorf("got %v after %d items", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Pull(ctx, sls.Range{}, func(*sls.Item) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPullWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := emulator(t, emul.Options{})
		e := sls.Encryption{Type: "default"}
		c := reach(t, s, nil, false)
		if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
			t.Fatal(err)
		}
		if err := ship(t, c, e).Put(t.Context(), envelopes(20, 1000)); err != nil {
			t.Fatal(err)
		}
		for _, f := range []emul.Fault{
			{Operation: "ListShards", Code: "ShardReadQuotaExceed", Count: 30},
			{Operation: "GetCursor", Code: "ServerBusy", Count: 8},
			{Operation: "PullLogs", Cut: true, Count: 2},
			{Operation: "PullLogs", HTML: true, Count: 2},
		} {
			s.Inject(f)
		}
		if got, _ := pull(t, c, sls.Range{}); len(got) != 20 {
			t.Errorf("got %d envelopes", len(got))
		}
		s.Inject(emul.Fault{Operation: "PullLogs", Code: "ServerBusy"})
		err := c.Pull(t.Context(), sls.Range{}, func(*sls.Item) error { return nil })
		if e := asError(t, err); e.Class != sls.Transient {
			t.Errorf("got %v", err)
		}
	})
}

// TestEncryptionTable creates, reads back and holds Logstores of each kind
// against changes of each field.
func TestEncryptionTable(t *testing.T) {
	for _, kind := range []string{"default", "m4", "sm4", "aes_gcm"} {
		for _, own := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s own %v", kind, own), func(t *testing.T) {
				s, e := emulator(t, emul.Options{})
				conf := emul.EncryptConf{Enable: true, EncryptType: kind}
				if own {
					conf.UserCMKInfo = &emul.UserCMKInfo{CMKKeyID: e.CMK, ARN: e.RoleARN, RegionID: e.Region}
					e.Type = kind
				} else {
					e = sls.Encryption{Type: kind}
				}
				c := reach(t, s, nil, false)
				for _, created := range []bool{true, false} {
					out, err := c.Provision(t.Context(), sls.Spec{Encryption: e})
					if err != nil || out.Created != created || len(out.Notes) > 0 {
						t.Fatalf("got %+v, %v; want created %v", out, err, created)
					}
				}
				if l, _ := s.Logstore("prod-logs", "audit"); l.EncryptConf == nil || !l.EncryptConf.Enable || l.EncryptConf.EncryptType != kind || l.EnableModify {
					t.Fatalf("got %+v", l)
				}
				if err := ship(t, c, e).Put(t.Context(), envelopes(2, 100)); err != nil {
					t.Fatal(err)
				}
				if got, _ := pull(t, c, sls.Range{}); len(got) != 2 {
					t.Errorf("got %d envelopes", len(got))
				}

				drifts := map[string]*emul.EncryptConf{"not encrypted": nil}
				change := func(what string, f func(*emul.EncryptConf)) {
					d := conf
					if conf.UserCMKInfo != nil {
						info := *conf.UserCMKInfo
						d.UserCMKInfo = &info
					}
					f(&d)
					drifts[what] = &d
				}
				change("disabled", func(d *emul.EncryptConf) { d.Enable = false })
				change("encrypt_type", func(d *emul.EncryptConf) { d.EncryptType = "aes_cbc" })
				if own {
					change("cmk_key_id", func(d *emul.EncryptConf) { d.UserCMKInfo.CMKKeyID = "key-2" })
					change("arn", func(d *emul.EncryptConf) { d.UserCMKInfo.ARN += "x" })
					change("region_id", func(d *emul.EncryptConf) { d.UserCMKInfo.RegionID = "cn-beijing" })
					change("the service's key", func(d *emul.EncryptConf) { d.UserCMKInfo = nil })
				} else {
					change("cmk_key_id", func(d *emul.EncryptConf) {
						d.UserCMKInfo = &emul.UserCMKInfo{CMKKeyID: "key-1", ARN: "a", RegionID: "r"}
					})
				}
				for what, d := range drifts {
					if err := s.ForceEncryption("prod-logs", "audit", d); err != nil {
						t.Fatal(err)
					}
					_, err := c.Provision(t.Context(), sls.Spec{Encryption: e})
					var mismatch *sls.MismatchError
					if !errors.As(err, &mismatch) || mismatch.Created || !strings.Contains(err.Error(), what) {
						t.Errorf("%s: provision: got %v", what, err)
					}
					if got := asError(t, ship(t, c, e).Put(t.Context(), envelopes(1, 100))); got.Class != sls.Drift || !strings.Contains(got.Error(), what) {
						t.Errorf("%s: put: got %v", what, got)
					}
				}
				if n := s.Counters()["sls.PutLogs"]; n != 1 {
					t.Errorf("got %d PutLogs, want 1", n)
				}
				if n := s.Counters()["sls.CreateLogStore"] + s.Counters()["sls.CreateLogstore"]; n != 1 {
					t.Errorf("got %d CreateLogstore, want 1: %v", n, s.Counters())
				}
			})
		}
	}
}

func TestProvision(t *testing.T) {
	e := sls.Encryption{Type: "default"}
	for _, c := range []struct {
		name    string
		quirks  emul.Quirks
		fault   *emul.Fault
		spec    sls.Spec
		want    string // in the error
		created bool
		notes   int
		there   bool // afterwards
	}{
		{name: "plain", created: true, there: true},
		{name: "delayed", quirks: emul.Quirks{CreateDelay: emul.Duration(time.Minute)}, created: true, there: true},
		{name: "delayed for too long", quirks: emul.Quirks{CreateDelay: emul.Duration(time.Hour)}, want: "LogStoreNotExist", there: true},
		{name: "no enableModify", quirks: emul.Quirks{UnknownKeys: []string{"enableModify"}}, created: true, there: true},
		{name: "no encrypt_conf", quirks: emul.Quirks{UnknownKeys: []string{"encrypt_conf"}}, want: "redundant key"},
		{name: "enable is not told", quirks: emul.Quirks{OmitEnable: true}, created: true, notes: 1, there: true},
		{name: "answer lost", fault: &emul.Fault{Operation: "CreateLog*", Cut: true, After: true, Count: 1}, created: true, there: true},
		{name: "not carried out", fault: &emul.Fault{Operation: "CreateLog*", Cut: true, Count: 1}, want: "create logstore"},
		{name: "quota", fault: &emul.Fault{Operation: "CreateLog*", Code: "ProjectQuotaExceed"}, want: "ProjectQuotaExceed"},
		{name: "somebody was faster", fault: &emul.Fault{Operation: "CreateLog*", Code: "LogstoreAlreadyExist", After: true}, there: true},
		{name: "unavailable meanwhile", fault: &emul.Fault{Operation: "GetLog*", Code: "ServerBusy", Skip: 1, Count: 5}, created: true, there: true},
		{name: "denied", fault: &emul.Fault{Operation: "GetLog*", Code: "Unauthorized", Message: "denied by sts or ram, action: log:GetLogStore, resource: x"}, want: "log:GetLogStore"},
		{name: "bad ttl", spec: sls.Spec{TTL: 3651}, want: "ttl"},
		{name: "bad shards", spec: sls.Spec{Shards: 257}, want: "shards"},
		{name: "bad max shards", spec: sls.Spec{Shards: 3, MaxShards: 2, AutoSplit: true}, want: "max shards"},
		{name: "no encryption", spec: sls.Spec{Encryption: sls.Encryption{CMK: "x"}}, want: "type is not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := emulator(t, emul.Options{Quirks: c.quirks})
				if c.fault != nil {
					s.Inject(*c.fault)
				}
				if c.spec.Encryption == (sls.Encryption{}) {
					c.spec.Encryption = e
				}
				out, err := reach(t, s, nil, false).Provision(t.Context(), c.spec)
				if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q", err, c.want)
				}
				if err == nil && (out.Created != c.created || len(out.Notes) != c.notes) {
					t.Errorf("got %+v", out)
				}
				l, there := s.Logstore("prod-logs", "audit")
				if there != c.there || there && (l.EncryptConf == nil || !l.EncryptConf.Enable || l.EnableModify) {
					t.Errorf("got there %v, %+v", there, l)
				}
			})
		})
	}
	t.Run("no project", func(t *testing.T) {
		s := emul.New(emul.Options{})
		_, err := reach(t, s, nil, false).Provision(t.Context(), sls.Spec{Encryption: e})
		if err == nil || asError(t, err).Code != "ProjectNotExist" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("other settings", func(t *testing.T) {
		s, _ := emulator(t, emul.Options{})
		c := reach(t, s, nil, false)
		if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e, TTL: 30}); err != nil {
			t.Fatal(err)
		}
		out, err := c.Provision(t.Context(), sls.Spec{Encryption: e, TTL: 90, AutoSplit: true})
		if err != nil || len(out.Notes) != 2 || !strings.Contains(out.Notes[0], "ttl is 30, configured is 90") {
			t.Errorf("got %+v, %v", out, err)
		}
	})
}

// TestCMKOff has the Logstore's CMK out of use in each way, with each answer.
func TestCMKOff(t *testing.T) {
	answers := []emul.Error{
		{}, {Status: 403, Code: "KmsKeyDisabled", Message: "x"}, {Status: 500, Code: "InternalServerError", Message: "kms: key disabled"},
		{Status: 400, Code: "ParameterInvalid", Message: "the cmk cannot be used"}, {Status: 400, Code: "PostBodyInvalid", Message: "Encrypt failed"},
		{Status: 400, Code: "PostBodyInvalid", Message: "The post data is invalid, no."},
		{Status: 403, Code: "WhoKnows", Message: "no"}, {Status: 500, Code: "InternalServerError", Message: "no"},
	}
	for _, answer := range answers {
		t.Run(fmt.Sprint(answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, e := emulator(t, emul.Options{Quirks: emul.Quirks{CMKInvalid: answer}})
				c := reach(t, s, nil, false)
				if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
					t.Fatal(err)
				}
				o := storeOptions()
				o.Encryption = e
				state := emul.Enabled
				o.KeyState = func(context.Context) (string, error) { return state, nil }
				st, err := sls.NewStore(c, o)
				if err != nil {
					t.Fatal(err)
				}
				envs := envelopes(20, 100)
				for i, off := range []string{emul.Disabled, emul.PendingDeletion, "role"} {
					if err := st.Put(t.Context(), envs[4*i:4*i+2]); err != nil {
						t.Fatal(err)
					}
					role := emul.Role{Name: "sls", Trust: emul.Trust("log.aliyuncs.com"), Policies: []emul.Policy{emul.Allow("kms:*")}}
					if off == "role" {
						s.DeleteRole("sls")
					} else {
						state = off
						if err := s.SetKeyState("key-1", off); err != nil {
							t.Fatal(err)
						}
					}
					for range 10 {
						got := asError(t, st.Put(t.Context(), envs[4*i+2:4*i+4]))
						if got.Class != sls.CMK && (off != "role" || !strings.Contains(got.Message, "no")) {
							t.Fatalf("%s: got %v", off, got)
						}
						time.Sleep(20 * time.Second)
					}
					if got := asError(t, c.Pull(t.Context(), sls.Range{}, func(*sls.Item) error { return nil })); !strings.Contains(answer.Message, "no") && got.Class != sls.CMK {
						t.Errorf("%s: pull: got %v", off, got)
					}
					state = emul.Enabled
					s.SetRole(role)
					if err := s.SetKeyState("key-1", emul.Enabled); err != nil {
						t.Fatal(err)
					}
					if err := st.Put(t.Context(), envs[4*i+2:4*i+4]); err != nil {
						t.Fatalf("%s: afterwards: %v", off, err)
					}
				}
				got, stubs := pull(t, c, sls.Range{})
				if len(got) != 12 || len(stubs) != 0 {
					t.Errorf("got %d envelopes, %d stubs", len(got), len(stubs))
				}
			})
		})
	}
}

func TestAnswerLost(t *testing.T) {
	s, _ := emulator(t, emul.Options{})
	e := sls.Encryption{Type: "default"}
	c := reach(t, s, nil, true)
	if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	s.Inject(emul.Fault{Operation: "PutLogs", Cut: true, After: true, Count: 1})
	st := ship(t, c, e)
	envs := envelopes(3, 5000)
	if got := asError(t, st.Put(t.Context(), envs)); got.Class != sls.Network {
		t.Errorf("got %v", got)
	}
	if err := st.Put(t.Context(), envs); err != nil {
		t.Fatal(err)
	}
	got, _ := pull(t, c, sls.Range{})
	for i, env := range envs {
		if len(got[i]) != 2 || !bytes.Equal(got[i][0], env) || !bytes.Equal(got[i][1], env) {
			t.Errorf("envelope %d: got it %d times, or changed", i, len(got[i]))
		}
	}
}

// temporary is an access key of STS that is renewed when a fresh one is asked
// for.
type temporary struct {
	s *emul.Server
	n int
}

func (k *temporary) AccessKey(_ context.Context, fresh bool) (string, hidden.Text, hidden.Text, error) {
	if fresh {
		k.n++
		k.issue()
	}
	return "STS", hidden.New("secret"), hidden.New(fmt.Sprintf("token-%d-of-sts", k.n)), nil
}

func (k *temporary) issue() {
	k.s.SetCredential(emul.Credential{
		AccessKeyID: "STS", AccessKeySecret: "secret", SecurityToken: fmt.Sprintf("token-%d-of-sts", k.n),
		Expires: k.s.Now().Add(time.Hour), Policies: nil,
	})
}

func TestTemporaryKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := emulator(t, emul.Options{})
		k := &temporary{s: s}
		k.issue()
		e := sls.Encryption{Type: "default"}
		c := reach(t, s, k, false)
		if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
			t.Fatal(err)
		}
		st := ship(t, c, e)
		for range 24 * 6 {
			if err := st.Put(t.Context(), envelopes(1, 100)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		if k.n < 20 || k.n > 24 {
			t.Errorf("got %d keys in a day of one an hour", k.n)
		}
	})
}

// TestConcurrent ships with several requests at a time while some fail.
func TestConcurrent(t *testing.T) {
	s, _ := emulator(t, emul.Options{})
	e := sls.Encryption{Type: "default"}
	c := reach(t, s, nil, true)
	if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []emul.Fault{
		{Operation: "PutLogs", Code: "ServerBusy", Skip: 3, Count: 2}, {Operation: "PutLogs", Code: "PostBodyTooLarge", Skip: 2, Count: 2},
		{Operation: "PutLogs", Code: "SignatureNotMatch", Skip: 5, Count: 1},
	} {
		s.Inject(f)
	}
	q := &queue{envs: envelopes(100, 2000)}
	k := sink.New(sink.Options{InFlight: 4, MaxRequest: 9000, RetryMax: time.Millisecond}, q, ship(t, c, e))
	if err := k.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _ := pull(t, c, sls.Range{})
	for i := range 100 {
		if len(got[i]) != 1 {
			t.Errorf("envelope %d: got it %d times", i, len(got[i]))
		}
	}
}

// TestServerLimits ships to a server that takes little and no zstd.
func TestServerLimits(t *testing.T) {
	s, _ := emulator(t, emul.Options{Quirks: emul.Quirks{NoZstd: true, MaxBody: 300_000}})
	e := sls.Encryption{Type: "default"}
	c := reach(t, s, nil, false)
	if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	if err := ship(t, c, e).Put(t.Context(), envelopes(40, 50_000)); err != nil {
		t.Fatal(err)
	}
	if got, _ := pull(t, c, sls.Range{}); len(got) != 40 {
		t.Errorf("got %d envelopes", len(got))
	}
}

// TestClocks has the service's clock elsewhere: beyond 15 minutes requests are
// refused, and the error tells by how much.
func TestClocks(t *testing.T) {
	s, _ := emulator(t, emul.Options{})
	e := sls.Encryption{Type: "default"}
	c := reach(t, s, nil, false)
	if _, err := c.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	st := ship(t, c, e)
	s.SetClock(14 * time.Minute)
	if err := st.Put(t.Context(), envelopes(1, 100)); err != nil {
		t.Fatal(err)
	}
	s.SetClock(-2 * time.Hour)
	got := asError(t, st.Put(t.Context(), envelopes(1, 100)))
	if got.Class != sls.Clock || !strings.Contains(got.Error(), "clock: it differs from the service's by ") || got.Skew > -119*time.Minute {
		t.Errorf("got %v, skew %v", got, got.Skew)
	}
}

// TestPolicies gives each identity its policy and nothing else.
func TestPolicies(t *testing.T) {
	s, e := emulator(t, emul.Options{})
	s.DeleteRole("sls")
	byName := map[string]sls.Policy{}
	for _, p := range sls.Policies(sls.PolicyOptions{
		Region: "cn-hangzhou", Project: "prod-logs", Logstore: "audit", CMK: e.CMK, RoleARN: e.RoleARN, DataKeyCMKs: []string{"key-2"},
	}) {
		if byName[p.Name] = p; p.For == "" || p.Managed != (p.Text == "") {
			t.Errorf("got %+v", p)
		}
	}
	if len(byName) != 7 || !byName["AliyunKMSReadOnlyAccess"].Managed || !byName["AliyunKMSCryptoUserAccess"].Managed {
		t.Fatalf("got %v", byName)
	}
	policy := func(name string) (p emul.Policy) {
		t.Helper()
		if err := p.UnmarshalJSON([]byte(byName[name].Text)); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, byName[name].Text)
		}
		return p
	}
	as := func(name string) *sls.Client {
		s.SetCredential(emul.Credential{AccessKeyID: name, AccessKeySecret: "secret-" + name, Policies: []emul.Policy{policy("sealtail-" + name)}})
		return reach(t, s, lasting{name, "secret-" + name}, false)
	}
	s.SetRole(emul.Role{Name: "sls", Trust: policy("trust"), Policies: []emul.Policy{policy("sealtail-logstore-cmk")}})
	denied := func(what string, err error) {
		t.Helper()
		if err == nil || asError(t, err).Class != sls.Denied {
			t.Errorf("%s: got %v, want it denied", what, err)
		}
	}
	nothing := func(*sls.Item) error { return nil }
	provisioner, agent, reader := as("provision"), as("agent"), as("reader")

	_, err := agent.Provision(t.Context(), sls.Spec{Encryption: e})
	denied("agent provisions", err)
	if _, err := provisioner.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Errorf("provisioner: %v", err)
	}
	if err := ship(t, agent, e).Put(t.Context(), envelopes(2, 100)); err != nil {
		t.Errorf("agent: %v", err)
	}
	denied("agent reads", agent.Pull(t.Context(), sls.Range{}, nothing))
	denied("provisioner reads", provisioner.Pull(t.Context(), sls.Range{}, nothing))
	denied("provisioner writes", ship(t, provisioner, e).Put(t.Context(), envelopes(1, 100)))
	if got, _ := pull(t, reader, sls.Range{}); len(got) != 2 {
		t.Errorf("reader: got %d envelopes", len(got))
	}
	_, err = reader.Logstore(t.Context())
	denied("reader asks about the Logstore", err)

	for name, want := range map[string]string{
		"trust":                 `"log.aliyuncs.com"`,
		"sealtail-logstore-cmk": `"acs:kms:cn-hangzhou:` + s.Account() + `:key/key-1"`,
		"sealtail-agent":        `"acs:kms:cn-hangzhou:` + s.Account() + `:key/key-2"`,
		"sealtail-provision":    `"` + e.RoleARN + `"`,
	} {
		if !strings.Contains(byName[name].Text, want) {
			t.Errorf("%s: want %s in\n%s", name, want, byName[name].Text)
		}
	}
	if strings.Contains(byName["sealtail-agent"].Text, "Decrypt") || !strings.Contains(byName["sealtail-logstore-cmk"].Note, "not tried") {
		t.Error("the agent may decrypt, or a policy's note is gone")
	}
	var names []string
	for _, p := range sls.Policies(sls.PolicyOptions{Region: "r", Project: "p", Logstore: "l"}) {
		names = append(names, p.Name)
		if strings.Contains(p.Text, "kms:") || strings.Contains(p.Text, "PassRole") || !strings.Contains(p.Text, `"acs:log:r:*:project/p/logstore/l"`) {
			t.Errorf("with the service's key: got\n%s", p.Text)
		}
	}
	if want := []string{"sealtail-provision", "sealtail-agent", "sealtail-reader"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// BenchmarkPut ships full requests over TLS to a server that reads them.
func BenchmarkPut(b *testing.B) {
	for _, tls := range []bool{true, false} {
		b.Run(fmt.Sprintf("tls=%v", tls), func(b *testing.B) {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("x-log-requestid", "REQ1")
				if r.Method == "GET" {
					w.Write([]byte(matching))
					return
				}
				buf := make([]byte, 64<<10)
				for {
					if _, err := r.Body.Read(buf); err != nil {
						return
					}
				}
			})
			o := options(&keys{})
			srv := httptest.NewUnstartedServer(h)
			if tls {
				srv.StartTLS()
				o.Endpoint, o.CAFile = "https://example.com", certificate(b, srv)
			} else {
				srv.Start()
				o.Endpoint = "http://example.com"
			}
			defer srv.Close()
			o.DialAddress = srv.Listener.Addr().String()
			c, err := sls.New(o)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			s, err := sls.NewStore(c, storeOptions())
			if err != nil {
				b.Fatal(err)
			}
			envs := envelopes(3, 737280)
			b.SetBytes(3 * 737280)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Put(b.Context(), envs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestPullStandsStill has a cursor that never reaches the end.
func TestPullStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, options(&keys{}))
		c.SetTransport(inProcess{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("x-log-requestid", "REQ1")
			switch q := r.URL.Query(); {
			case q.Get("type") == "logs":
				w.Header().Set("x-log-cursor", q.Get("cursor"))
				w.Header().Set("x-log-bodyrawsize", "0")
			case q.Get("type") == "cursor":
				fmt.Fprintf(w, `{"cursor":%q}`, "at-"+q.Get("from"))
			default:
				w.Write([]byte(`[{"shardID":0}]`))
			}
		})})
		err := c.Pull(t.Context(), sls.Range{}, func(*sls.Item) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "stands still") {
			t.Errorf("got %v", err)
		}
	})
}

// TestTryPut tells who may write, and leaves nothing.
func TestTryPut(t *testing.T) {
	s, e := emulator(t, emul.Options{})
	admin := reach(t, s, nil, false)
	if _, err := admin.Provision(t.Context(), sls.Spec{Encryption: e}); err != nil {
		t.Fatal(err)
	}
	s.SetCredential(emul.Credential{AccessKeyID: "W", AccessKeySecret: "very-secret", Policies: []emul.Policy{emul.Allow("log:PostLogStoreLogs")}})
	s.SetCredential(emul.Credential{AccessKeyID: "R", AccessKeySecret: "very-secret", Policies: []emul.Policy{emul.Allow("log:Get*")}})
	writer, other := reach(t, s, lasting{"W", "very-secret"}, false), reach(t, s, lasting{"R", "very-secret"}, false)
	if err := writer.TryPut(t.Context()); err != nil {
		t.Errorf("who may write: got %v", err)
	}
	if e := asError(t, other.TryPut(t.Context())); e.Class != sls.Denied || !strings.Contains(e.Message, "log:PostLogStoreLogs") {
		t.Errorf("who may not: got %v", e)
	}
	if err := s.SetKeyState("key-1", emul.Disabled); err != nil {
		t.Fatal(err)
	}
	if e := asError(t, writer.TryPut(t.Context())); e.Class != sls.CMK {
		t.Errorf("CMK disabled: got %v", e)
	}
	if err := s.SetKeyState("key-1", emul.Enabled); err != nil {
		t.Fatal(err)
	}
	s.Inject(emul.Fault{Operation: "PutLogs", Code: "PostBodyInvalid", Count: 1})
	if e := asError(t, writer.TryPut(t.Context())); e.Class != sls.Content {
		t.Errorf("refused for its content: got %v", e)
	}
	if got, stubs := pull(t, admin, sls.Range{}); len(got)+len(stubs) > 0 {
		t.Errorf("got %d envelopes and %d stubs", len(got), len(stubs))
	}
	var rest bytes.Buffer
	if err := s.AtRest(&rest, "prod-logs", "audit"); err != nil || rest.Len() > 0 {
		t.Errorf("got %d bytes at rest, %v", rest.Len(), err)
	}
}
