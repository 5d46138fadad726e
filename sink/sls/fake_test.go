package sls_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/aliyun/aliyun-log-go-sdk"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"sealtail/internal/hidden"
	"sealtail/sink/sls"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An envelope of these tests is its seq and a filler; a stub begins with "stub".
func envelope(seq, size int) []byte {
	b := make([]byte, max(size, 8))
	rand.NewChaCha8([32]byte{byte(seq), byte(seq >> 8)}).Read(b) // never fails
	binary.BigEndian.PutUint64(b, uint64(seq))
	return b
}

func envelopes(n, size int) (envs [][]byte) {
	for i := range n {
		envs = append(envs, envelope(i, size))
	}
	return envs
}

func describe(b []byte) (sls.Carrier, error) {
	if len(b) < 8 {
		return sls.Carrier{}, errors.New("too short")
	}
	return sls.Carrier{
		StreamID: [16]byte{1, 2}, Epoch: 7, Seq: binary.BigEndian.Uint64(b), DEKID: [16]byte{3}, First: 100, Last: 200,
	}, nil
}

func describeStub(b []byte) (sls.Carrier, error) { return describe(b[4:]) }

func stubOf(env []byte) ([]byte, error) { return append([]byte("stub"), env[:8]...), nil }

// keys are credentials that remember what they were asked for.
type keys struct {
	mu    sync.Mutex
	fresh int
	err   error
	gone  error // of looking anew
}

const secret, token = "topsecretsecret", "token-of-sts-0123456789"

func (k *keys) AccessKey(_ context.Context, fresh bool) (string, hidden.Text, hidden.Text, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if fresh {
		if k.gone != nil {
			return "", hidden.Text{}, hidden.Text{}, k.gone
		}
		k.fresh++
	}
	return "AK" + strconv.Itoa(k.fresh), hidden.New(secret), hidden.New(token), k.err
}

// A sent is one POST that the fake service got.
type sent struct {
	group  *api.LogGroup
	plain  bool
	raw    int
	seqs   []int
	sealed [][]byte
	stub   bool
	at     time.Time
	key    string // id of the access key
}

// A fake is a service whose answers are scripted. It decodes with the SDK.
type fake struct {
	t *testing.T

	mu       sync.Mutex
	answer   func(s *sent) *refusal // to a POST; nil = taken
	logstore func() (int, string)   // to a GET of the Logstore
	checks   []time.Time            // when that was asked for
	stray    func(http.ResponseWriter)
	got      []*sent       // all POSTs
	stored   []int         // seqs of envelopes taken, in order
	stubs    []int         // of stubs
	date     time.Duration // the service's clock, ahead
}

type refusal struct {
	status        int
	code, message string
	html          bool
}

const matching = `{"logstoreName":"audit","encrypt_conf":{"enable":true,"encrypt_type":"default"}}`

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("x-log-requestid", "REQ1")
	w.Header().Set("Date", time.Now().Add(f.date).UTC().Format(http.TimeFormat))
	switch {
	case r.Host != "prod-logs.sls.test":
		f.t.Errorf("got host %s", r.Host)
	case r.Method == "GET" && r.URL.Path == "/logstores/audit":
		f.checks = append(f.checks, time.Now())
		status, body := http.StatusOK, matching
		if f.logstore != nil {
			status, body = f.logstore()
		}
		w.WriteHeader(status)
		io.WriteString(w, strings.Replace(body, `{"encrypt_conf"`, `{"logstoreName":"audit","encrypt_conf"`, 1))
	case r.Method == "POST" && r.URL.Path == "/logstores/audit/shards/lb":
		s := f.read(r)
		f.got = append(f.got, s)
		var no *refusal
		if f.answer != nil {
			no = f.answer(s)
		}
		if f.stray != nil {
			f.stray(w)
			return
		}
		if no == nil && s.stub {
			f.stubs = append(f.stubs, s.seqs...)
			return
		}
		if no == nil {
			f.stored = append(f.stored, s.seqs...)
			return
		}
		w.WriteHeader(no.status)
		if no.html {
			io.WriteString(w, "<html>Bad Gateway</html>")
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"errorCode": no.code, "errorMessage": no.message})
	default:
		f.t.Errorf("got %s %s", r.Method, r.URL)
	}
}

func (f *fake) read(r *http.Request) *sent {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	s := &sent{at: time.Now(), plain: r.Header.Get("x-log-compresstype") == ""}
	s.key, _, _ = strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "SLS4-HMAC-SHA256 Credential="), "/")
	if !s.plain {
		if b, err = decoder.DecodeAll(b, nil); err != nil {
			f.t.Error(err)
		}
	}
	if s.raw = len(b); r.Header.Get("x-log-bodyrawsize") != strconv.Itoa(len(b)) {
		f.t.Errorf("got raw size %s, want %d", r.Header.Get("x-log-bodyrawsize"), len(b))
	}
	s.group = &api.LogGroup{}
	if err := s.group.Unmarshal(b); err != nil {
		f.t.Error(err)
	}
	for _, l := range s.group.Logs {
		for _, c := range l.Contents {
			switch c.GetKey() {
			case "_v":
				s.stub = c.GetValue() == "SE1P"
			case "_seq":
				n, err := strconv.Atoi(c.GetValue())
				if err != nil {
					f.t.Error(err)
				}
				s.seqs = append(s.seqs, n)
			case "_env":
				b, err := base64.StdEncoding.DecodeString(c.GetValue())
				if err != nil {
					f.t.Error(err)
				}
				s.sealed = append(s.sealed, b)
			}
		}
	}
	return s
}

// decoder is made outside of the bubbles of synctest, so that all may use it.
var decoder = func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return d
}()

// inProcess serves requests without a network.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	r.Host = r.URL.Host
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

func options(k sls.Credentials) sls.Options {
	return sls.Options{
		Endpoint: "https://sls.test", Region: "cn-hangzhou", Project: "prod-logs", Logstore: "audit", Credentials: k,
	}
}

func storeOptions() sls.StoreOptions {
	return sls.StoreOptions{
		Topic: "app", Source: "host1", Describe: describe, Stub: stubOf, DescribeStub: describeStub,
		Encryption: sls.Encryption{Type: "default"},
	}
}

// newStore returns a Store over f without a network.
func newStore(t *testing.T, f *fake, o sls.StoreOptions) (*sls.Store, *keys) {
	t.Helper()
	f.t = t
	k := &keys{}
	c, err := sls.New(options(k))
	if err != nil {
		t.Fatal(err)
	}
	c.SetTransport(inProcess{f})
	s, err := sls.NewStore(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

// refuse answers the first n POSTs, all if n is 0, with r.
func refuse(r refusal, n int) func(*sent) *refusal {
	i := 0
	return func(*sent) *refusal {
		if i++; n > 0 && i > n {
			return nil
		}
		return &r
	}
}

func asError(t *testing.T, err error) *sls.Error {
	t.Helper()
	var e *sls.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *sls.Error", err)
	}
	return e
}

func seqs(n int) (s []int) {
	for i := range n {
		s = append(s, i)
	}
	return s
}
