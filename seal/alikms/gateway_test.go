package alikms_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"sealtail/internal/hidden"
	"sealtail/seal"
	"sealtail/seal/alikms"
)

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*alikms.Options)
		want   string // "" = fine
	}{
		{"shared gateway", func(*alikms.Options) {}, ""},
		{"with a port and a slash", func(o *alikms.Options) { o.Endpoint = "https://kms.cn-hangzhou.aliyuncs.com:443/" }, ""},
		{"loopback", func(o *alikms.Options) { o.Endpoint = "http://127.0.0.1:1" }, ""},
		{"loopback, IPv6", func(o *alikms.Options) { o.Endpoint = "http://[::1]:1" }, ""},
		{"loopback by name", func(o *alikms.Options) { o.Endpoint = "http://localhost:1" }, ""},
		{"ends on loopback", func(o *alikms.Options) {
			o.Endpoint, o.DialAddress = "http://kms.cn-hangzhou.aliyuncs.com", "127.0.0.1:1"
		}, ""},
		{"a proxy", func(o *alikms.Options) { o.Proxy = hidden.New("http://user:password@proxy:3128") }, ""},
		{"http", func(o *alikms.Options) { o.Endpoint = "http://kms.cn-hangzhou.aliyuncs.com" }, "http://"},
		{"http to an address", func(o *alikms.Options) { o.Endpoint = "http://10.0.0.1" }, "http://"},
		{"http by a proxy", func(o *alikms.Options) { o.Endpoint, o.Proxy = "http://127.0.0.1:1", hidden.New("http://127.0.0.1:2") }, "http://"},
		{"http, dialled elsewhere", func(o *alikms.Options) { o.Endpoint, o.DialAddress = "http://127.0.0.1:1", "10.0.0.1:1" }, "http://"},
		{"no scheme", func(o *alikms.Options) { o.Endpoint = "kms.cn-hangzhou.aliyuncs.com" }, "endpoint"},
		{"empty", func(o *alikms.Options) { o.Endpoint = "" }, "endpoint"},
		{"a path", func(o *alikms.Options) { o.Endpoint += "/kms" }, "endpoint"},
		{"a query", func(o *alikms.Options) { o.Endpoint += "/?a=b" }, "endpoint"},
		{"a user", func(o *alikms.Options) { o.Endpoint = "https://u:password@kms" }, "endpoint"},
		{"no credentials", func(o *alikms.Options) { o.Credentials = nil }, "credentials"},
		{"an alias allowed", func(o *alikms.Options) { o.Allow = []string{testARN, "alias/x"} }, "alias/x"},
		{"an alias's ARN allowed", func(o *alikms.Options) { o.Allow = []string{"acs:kms:r:a:alias/x"} }, "alias/x"},
		{"nothing allowed", func(o *alikms.Options) { o.Allow = []string{""} }, "id or ARN"},
		{"no CA file: there may be one later", func(o *alikms.Options) { o.CAFile = "/nowhere/ca.pem" }, ""},
		{"an FTP proxy", func(o *alikms.Options) { o.Proxy = hidden.New("ftp://user:password@proxy") }, "proxy"},
		{"a bad proxy", func(o *alikms.Options) { o.Proxy = hidden.New("http://user:password@pro xy") }, "proxy"},
		{"a proxy and a dial address", func(o *alikms.Options) { o.Proxy, o.DialAddress = hidden.New("http://proxy:1"), "10.0.0.1:443" }, "use one"},
		{"a dial address without port", func(o *alikms.Options) { o.DialAddress = "10.0.0.1" }, "dial address"},
		{"two faults, the first", func(o *alikms.Options) { o.Endpoint, o.Credentials = "", nil }, "endpoint"},
		{"two faults, the second", func(o *alikms.Options) { o.Endpoint, o.Credentials = "", nil }, "credentials"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := alikms.Options{Endpoint: "https://kms.cn-hangzhou.aliyuncs.com", Credentials: goodKeys()}
			tt.change(&o)
			_, err := alikms.New(o)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "password") {
				t.Errorf("a password is in %v", err)
			}
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	for address, ok := range map[string]bool{"127.0.0.1:80": true, "127.8.8.8:80": true, "[::1]:80": true,
		"10.0.0.1:80": false, "[2001:db8::1]:80": false, "0.0.0.0:80": false, "localhost:80": false, "": false} {
		if err := alikms.LoopbackOnly("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: got %v, want ok %v", address, err, ok)
		}
	}
}

// serveTLS serves f under its certificate for example.com and 127.0.0.1, and
// returns that as a CA file.
func serveTLS(t *testing.T, f http.Handler, config *tls.Config) (s *httptest.Server, caFile string) {
	t.Helper()
	s = httptest.NewUnstartedServer(f)
	s.TLS = config
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes
	s.StartTLS()
	t.Cleanup(s.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}
	if err := os.WriteFile(caFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, caFile
}

func TestTLS(t *testing.T) {
	f := newFake(t)
	s, ca := serveTLS(t, f, nil)
	old, oldCA := serveTLS(t, f, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	address := s.Listener.Addr().String()
	const other = "../../internal/trust/testdata/other.pem" // signed nothing here
	for _, tt := range []struct {
		name, endpoint, dial, ca string
		code, says               string // "" = it succeeds
	}{
		{"own CA", s.URL, "", ca, "", ""},
		{"the system's CAs", s.URL, "", "", "Certificate", "its authority is none of the system's, and the route has no ca_file"},
		{"a wrong CA", s.URL, "", other, "Certificate", "its authority is not in ca_file " + other},
		{"no CA file", s.URL, "", "/nowhere/ca.pem", "Certificate", "open /nowhere/ca.pem: no such file"},
		{"dial address", "https://example.com", address, ca, "", ""},
		{"dial address, wrong host", "https://example.org", address, ca, "Certificate", `for example.com, *.example.com, 127.0.0.1, ::1, issued by "O=Acme Co", is refused: it is not for "example.org"`},
		{"TLS 1.1", old.URL, "", oldCA, "Network", "protocol version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, tt.endpoint, func(o *alikms.Options) { o.DialAddress, o.CAFile = tt.dial, tt.ca })
			before := len(f.actions())
			_, err := c.Generate(t.Context(), testContext(t))
			if (tt.code == "") != (err == nil) {
				t.Fatalf("got %v, want code %q", err, tt.code)
			}
			if err != nil {
				if e := kmsError(t, err); e.Class != seal.Outage || e.Code != tt.code || !strings.Contains(e.Error(), tt.says) {
					t.Errorf("got %v, want an outage with code %s that says %q", e, tt.code, tt.says)
				}
				if len(f.actions()) != before {
					t.Error("the call was made nevertheless")
				}
			}
		})
	}
}

// What is signed is the endpoint's host, not what is dialled.
func TestDialAddressSigns(t *testing.T) {
	f := newFake(t)
	s := httptest.NewServer(f)
	defer s.Close()
	var host string
	f.set(func(_ http.ResponseWriter, r *http.Request, _ string, _ url.Values) bool { host = r.Host; return false })
	c := client(t, "http://kms.cn-hangzhou.aliyuncs.com", func(o *alikms.Options) { o.DialAddress = s.Listener.Addr().String() })
	if _, err := c.Generate(t.Context(), testContext(t)); err != nil || host != "kms.cn-hangzhou.aliyuncs.com" {
		t.Errorf("got %v, host %s", err, host)
	}
}

// The proxy is asked for a tunnel, with its password; the environment's never.
func TestProxy(t *testing.T) {
	f := newFake(t)
	s, ca := serveTLS(t, f, nil)
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
		mu.Unlock()
		up, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		down, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer down.Close()
		fmt.Fprint(down, "HTTP/1.1 200 OK\r\n\r\n")
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(up, down); up.Close() })
		wg.Go(func() { _, _ = io.Copy(down, up); down.Close() })
		wg.Wait()
	}))
	defer proxy.Close()
	c := client(t, "https://example.com", func(o *alikms.Options) {
		o.CAFile, o.Proxy = ca, hidden.New(strings.Replace(proxy.URL, "://", "://user:password@", 1))
	})
	if _, err := c.Generate(t.Context(), testContext(t)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := "[CONNECT example.com:443 Basic dXNlcjpwYXNzd29yZA==]"; fmt.Sprint(asked) != want {
		t.Errorf("got %v, want %s", asked, want)
	}
	direct := client(t, "https://example.com", func(o *alikms.Options) { o.CAFile, o.DialAddress = ca, s.Listener.Addr().String() })
	if _, err := direct.Generate(t.Context(), testContext(t)); err != nil {
		t.Errorf("without a proxy: %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	followed := newFake(t)
	other := httptest.NewServer(followed)
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFake(t)
		f.set(func(w http.ResponseWriter, r *http.Request, _ string, _ url.Values) bool {
			http.Redirect(w, r, other.URL, status)
			return true
		})
		_, err := start(t, f).Generate(t.Context(), testContext(t))
		if e := kmsError(t, err); e.Class != seal.Outage || !strings.Contains(e.Error(), "redirect") || strings.Contains(e.Error(), other.URL) {
			t.Errorf("%d: got %v", status, e)
		}
	}
	if followed.seen.Len() != 0 {
		t.Error("a redirect was followed")
	}
}

// Answers that are too long, cut off, slow, or none. All are outages, and none
// takes longer than its time.
func TestBrokenAnswers(t *testing.T) {
	good := fmt.Sprintf(`{"KeyId":%q,"Plaintext":"%s=","CiphertextBlob":"YmxvYg=="}`, testID, strings.Repeat("A", 43))
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		code   string // "" = fine
	}{
		{"good", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, good) }, ""},
		{"64 KiB", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, good, strings.Repeat(" ", 64<<10-len(good)))
		}, ""},
		{"64 KiB and a byte", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, good, strings.Repeat(" ", 64<<10-len(good)+1))
		}, "Network"},
		{"16 MiB of an error", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			_, _ = w.Write(make([]byte, 16<<20))
		}, "Network"},
		{"headers without end", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprint("x-", i), strings.Repeat("a", 1000))
			}
		}, "Network"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			fmt.Fprint(w, good[:len(good)/2])
		}, "Network"},
		{"cut off without a length", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, good[:len(good)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "Network"},
		{"torn JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, good[:len(good)/2]) }, "Answer"},
		{"two answers", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, good, good) }, "Answer"},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "Network"},
		{"no HTTP", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(conn, "SSH-2.0-x\r\n")
				conn.Close()
			}
		}, "Network"},
		{"no header in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "Timeout"},
		{"no body in time", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, good[:9])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "Timeout"},
		{"no end in time", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, good)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "Timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // else its context does not end with the connection
				tt.answer(w, r)
			}))
			defer s.Close()
			limit := time.Minute
			if tt.code == "Timeout" {
				limit = 50 * time.Millisecond
			}
			c := client(t, s.URL, func(o *alikms.Options) { o.Timeout = limit })
			d, err := c.Generate(t.Context(), testContext(t))
			if tt.code == "" {
				if err != nil || !bytes.Equal(d.Plain.Bytes(), make([]byte, 32)) {
					t.Errorf("got %x, %v", d.Plain.Bytes(), err)
				}
				return
			}
			if e := kmsError(t, err); e.Class != seal.Outage || e.Code != tt.code || d.Plain.Bytes() != nil {
				t.Errorf("got %v, want an outage with %s", e, tt.code)
			}
			if strings.Contains(err.Error(), "AAAA") || strings.Contains(err.Error(), "http://") {
				t.Errorf("too much is in %v", err)
			}
		})
	}
}

func TestContextEnds(t *testing.T) {
	f := newFake(t)
	called := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		called <- struct{}{}
		<-r.Context().Done()
	}))
	defer s.Close()
	c := client(t, s.URL)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-called; cancel() }()
	_, err := c.Generate(ctx, testContext(t))
	if e := kmsError(t, err); e.Class != seal.Outage || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", e)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Generate(ctx, testContext(t))
	if e := kmsError(t, err); e.Class != seal.Outage || e.Code != "Timeout" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: got %v", e)
	}
	if len(f.actions()) != 0 {
		t.Error("somebody called the fake")
	}
}

func TestNobodyThere(t *testing.T) {
	for _, endpoint := range []string{"http://127.0.0.1:1", "https://127.0.0.1:1", "https://nobody.invalid"} {
		c := client(t, endpoint, func(o *alikms.Options) { o.QueryParameters = true })
		_, err := c.Generate(t.Context(), testContext(t))
		if e := kmsError(t, err); e.Class != seal.Outage || strings.Contains(err.Error(), "EncryptionContext") || strings.Contains(err.Error(), "://") {
			t.Errorf("%s: got %v", endpoint, e)
		}
	}
}

// No connection outlives its call.
func TestConnectionsAreClosed(t *testing.T) {
	f := newFake(t)
	s := httptest.NewUnstartedServer(f)
	var mu sync.Mutex
	fresh := 0
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if st == http.StateNew {
			fresh++
		}
		if st == http.StateIdle {
			t.Error("a connection was kept")
		}
	}
	s.Start()
	defer s.Close()
	c := client(t, s.URL)
	for range 3 {
		if _, err := c.Generate(t.Context(), testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if fresh != 3 {
		t.Errorf("got %d connections, want 3", fresh)
	}
}

func TestConcurrently(t *testing.T) {
	f := newFake(t)
	c := start(t, f)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			context := testContext(t, "n", fmt.Sprint(i))
			for range 10 {
				d, err := c.Generate(t.Context(), context)
				if err != nil {
					t.Error(err)
					return
				}
				dek, err := c.Unwrap(t.Context(), d.Recipients[0], context)
				if err != nil || !bytes.Equal(dek.Bytes(), d.Plain.Bytes()) {
					t.Errorf("got %x, %v, want %x", dek.Bytes(), err, d.Plain.Bytes())
				}
			}
		})
	}
	wg.Wait()
}

// Neither errors nor a printed Client show the secret or the token.
func TestNothingShowsSecrets(t *testing.T) {
	f := newFake(t)
	const token = "canary-token-0123456789"
	f.tokens[testAK] = token
	k := &keys{id: testAK, secret: testSecret, token: token}
	c := start(t, f, func(o *alikms.Options) { o.Credentials = k })
	if got := fmt.Sprintf("%v %+v %#v %s", c, alikms.AccessKey(testAK, testSecret, token), alikms.AccessKey(testAK, testSecret, token), []any{c}); strings.Contains(got, "canary") {
		t.Errorf("a canary is in %s", got)
	}
	if _, err := c.Generate(t.Context(), testContext(t)); err != nil {
		t.Fatal(err)
	}
	shown(t, reflect.ValueOf(c), "client", make(map[unsafe.Pointer]bool))
	for _, message := range []string{
		"the secret is " + testSecret, "the token is " + token, "x\n" + token, strings.Repeat("blobblob", 20),
	} {
		for _, code := range []string{"Rejected.Disabled", "SignatureDoesNotMatch", "New", testSecret, strings.Repeat("c", 65)} {
			f.set(func(w http.ResponseWriter, _ *http.Request, _ string, _ url.Values) bool {
				refuse(w, 400, code, message)
				return true
			})
			_, err := c.Generate(t.Context(), testContext(t))
			e := kmsError(t, err)
			for _, s := range []string{testSecret, token, "blobblob"} {
				if strings.Contains(strings.ReplaceAll(err.Error(), e.Code, ""), s) {
					t.Errorf("%q is in %v", s, err)
				}
			}
		}
	}
	shown(t, reflect.ValueOf(c), "client", make(map[unsafe.Pointer]bool))
}

// shown finds canaries in all that v leads to, as a debugger would, but in what
// is hidden, closed over, of net/http, whose connections live on, or the test's
// own source of credentials.
func shown(t *testing.T, v reflect.Value, at string, seen map[unsafe.Pointer]bool) {
	if !v.IsValid() || v.Type() == reflect.TypeFor[hidden.Text]() || v.Type() == reflect.TypeFor[*keys]() || v.Type().PkgPath() == "net/http" {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.UnsafePointer()] {
			seen[v.UnsafePointer()] = true
			shown(t, v.Elem(), at, seen)
		}
	case reflect.Interface:
		shown(t, v.Elem(), at, seen)
	case reflect.Struct:
		for i := range v.NumField() {
			shown(t, v.Field(i), at+"."+v.Type().Field(i).Name, seen)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			shown(t, key, at+"[key]", seen)
			shown(t, v.MapIndex(key), at+"[]", seen)
		}
	case reflect.Array, reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice {
			if strings.Contains(string(v.Bytes()), "canary") {
				t.Errorf("a canary is in %s", at)
			}
			return
		}
		for i := range v.Len() {
			shown(t, v.Index(i), at+"[]", seen)
		}
	case reflect.String:
		if strings.Contains(v.String(), "canary") {
			t.Errorf("a canary is in %s", at)
		}
	}
}

// What finds secrets finds one where it lies open.
func TestShownFinds(t *testing.T) {
	type inner struct{ secret string }
	for name, v := range map[string]any{
		"a field": &inner{"canary"}, "an interface": struct{ x any }{&inner{"canary"}}, "a map": map[string]*inner{"a": {"canary"}}, "bytes": struct{ b []byte }{[]byte("a canary")},
	} {
		found := new(testing.T)
		shown(found, reflect.ValueOf(v), name, make(map[unsafe.Pointer]bool))
		if !found.Failed() {
			t.Errorf("%s: nothing is found", name)
		}
	}
}
