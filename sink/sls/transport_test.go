package sls_test

import (
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
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealtail/internal/hidden"
	"sealtail/sink/sls"
)

func TestNewChecks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*sls.Options)
		want   string // in the error
	}{
		"good":               {func(*sls.Options) {}, ""},
		"port":               {func(o *sls.Options) { o.Endpoint = "https://sls.test:8443/" }, ""},
		"no scheme":          {func(o *sls.Options) { o.Endpoint = "cn-hangzhou.log.aliyuncs.com" }, "endpoint"},
		"other scheme":       {func(o *sls.Options) { o.Endpoint = "ftp://sls.test" }, "https://"},
		"path":               {func(o *sls.Options) { o.Endpoint = "https://sls.test/x" }, "path"},
		"user":               {func(o *sls.Options) { o.Endpoint = "https://a:b@sls.test" }, "endpoint"},
		"http, name":         {func(o *sls.Options) { o.Endpoint = "http://sls.test" }, "loopback"},
		"http, localhost":    {func(o *sls.Options) { o.Endpoint = "http://localhost:1" }, ""},
		"http, dials a name": {func(o *sls.Options) { o.Endpoint, o.DialAddress = "http://127.0.0.1", "sls.test" }, "loopback"},
		"http, zone":         {func(o *sls.Options) { o.Endpoint, o.DialAddress = "http://127.0.0.1", "[fe80::1%lo]:80" }, "loopback"},
		"http, loopback":     {func(o *sls.Options) { o.Endpoint, o.DialAddress = "http://sls.test", "127.0.0.1:80" }, ""},
		"http, loopback 6":   {func(o *sls.Options) { o.Endpoint, o.DialAddress = "http://sls.test", "[::1]:80" }, ""},
		"http, other":        {func(o *sls.Options) { o.Endpoint = "http://192.0.2.1" }, "loopback"},
		"http, dials other":  {func(o *sls.Options) { o.Endpoint, o.DialAddress = "http://127.0.0.1", "192.0.2.1:80" }, "loopback"},
		"http, proxy":        {func(o *sls.Options) { o.Endpoint, o.Proxy = "http://127.0.0.1", hidden.New("http://127.0.0.1:3128") }, "proxy"},
		"http, proxy of env": {func(o *sls.Options) { o.Endpoint, o.ProxyFromEnvironment = "http://127.0.0.1", true }, "proxy"},
		"proxy and address":  {func(o *sls.Options) { o.DialAddress, o.Proxy = "127.0.0.1", hidden.New("http://127.0.0.1:3128") }, "exclude"},
		"proxy":              {func(o *sls.Options) { o.Proxy = hidden.New("http://user:hunter2@") }, "proxy"},
		"region":             {func(o *sls.Options) { o.Region = "" }, "region"},
		"project":            {func(o *sls.Options) { o.Project = "evil.example/" }, "project"},
		"empty project":      {func(o *sls.Options) { o.Project = "" }, "project"},
		"logstore":           {func(o *sls.Options) { o.Logstore = "a/../b" }, "logstore"},
		"credentials":        {func(o *sls.Options) { o.Credentials = nil }, "credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(&keys{})
			c.change(&o)
			_, err := sls.New(o)
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got the proxy's password: %v", err)
			}
		})
	}
}

// server serves h over TLS as *.example.com, and returns options to reach it.
func server(t *testing.T, h http.Handler, change func(*httptest.Server)) sls.Options {
	t.Helper()
	srv := httptest.NewUnstartedServer(h) // its certificate is for example.com and *.example.com
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{}
	if change != nil {
		change(srv)
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	o := options(&keys{})
	o.Endpoint = "https://example.com"
	o.DialAddress = srv.Listener.Addr().String()
	o.CAFile = certificate(t, srv)
	return o
}

// certificate returns a file of srv's.
func certificate(t testing.TB, srv *httptest.Server) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func client(t *testing.T, o sls.Options) *sls.Client {
	t.Helper()
	c, err := sls.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var answering = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-log-requestid", "REQ1")
	io.WriteString(w, matching)
})

func TestTLS(t *testing.T) {
	const other = "../../internal/trust/testdata/other.pem" // signed nothing here
	for name, c := range map[string]struct {
		server func(*httptest.Server)
		client func(*sls.Options)
		want   string // in the error
		class  sls.Class
	}{
		"own CA":       {nil, nil, "", ""},
		"system's CAs": {nil, func(o *sls.Options) { o.CAFile = "" }, "the route has no ca_file; name in ca_file", sls.Untrusted},
		"other CA":     {nil, func(o *sls.Options) { o.CAFile = other }, "its authority is not in ca_file " + other, sls.Untrusted},
		"no CA file":   {nil, func(o *sls.Options) { o.CAFile = "/nowhere/ca.pem" }, "open /nowhere/ca.pem: no such file or directory; put a file", sls.Untrusted},
		"other name":   {nil, func(o *sls.Options) { o.Endpoint = "https://sls.test" }, `it is not for "prod-logs.sls.test"; see whether endpoint`, sls.Untrusted},
		"TLS 1.1": {func(s *httptest.Server) {
			s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, nil, "protocol version", sls.Network},
		"TLS 1.2": {func(s *httptest.Server) { s.TLS.MaxVersion = tls.VersionTLS12 }, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := server(t, answering, c.server)
			if c.client != nil {
				c.client(&o)
			}
			_, err := client(t, o).Logstore(t.Context())
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && asError(t, err).Class != c.class {
				t.Errorf("got class %q", asError(t, err).Class)
			}
		})
	}
}

// TestHTTPEndsOnLoopback connects over http to this host by its name.
func TestHTTPEndsOnLoopback(t *testing.T) {
	srv := httptest.NewServer(answering)
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	o := options(&keys{})
	o.Endpoint = "http://sls.test"
	o.DialAddress = net.JoinHostPort("localhost", port)
	if _, err := client(t, o).Logstore(t.Context()); err != nil {
		t.Errorf("localhost: %v", err)
	}
}

func TestProxies(t *testing.T) {
	// The test binary has no proxy in its environment when net/http looks;
	// what counts is that a proxy is used only where it is asked for.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	o := server(t, answering, nil)
	if _, err := client(t, o).Logstore(t.Context()); err != nil {
		t.Errorf("the environment's proxy was used: %v", err)
	}
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.Host
		http.Error(w, "no", http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	o.Proxy, o.DialAddress = hidden.New(proxy.URL), ""
	_, err := client(t, o).Logstore(t.Context())
	if err == nil || asked != "CONNECT prod-logs.example.com:443" {
		t.Errorf("got %v, the proxy was asked for %q", err, asked)
	}
}

func TestCancel(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"no answer": func(http.ResponseWriter) {},
		"half an answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{}, 100)
			o := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer(w)
				arrived <- struct{}{}
				<-r.Context().Done()
			}), nil)
			c := client(t, o)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-arrived; cancel() }()
			if _, err := c.Logstore(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: got %v", err)
			}
			// On a busy machine the time may be up before the request has arrived.
			for o.Timeout = 50 * time.Millisecond; len(arrived) == 0; o.Timeout *= 2 {
				_, err := client(t, o).Logstore(t.Context())
				if e := asError(t, err); e.Class != sls.Network || !strings.Contains(e.Error(), fmt.Sprint("within ", o.Timeout)) {
					t.Fatalf("timed out: got %v", err)
				}
			}
		})
	}
}

func TestAnswerIsBounded(t *testing.T) {
	for _, status := range []int{200, 500} {
		o := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			b := make([]byte, 1<<20)
			for range 64 {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}), nil)
		_, err := client(t, o).Logstore(t.Context())
		if err == nil {
			t.Errorf("status %d: no error", status)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	hits := 0
	o := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.Redirect(w, r, "https://prod-logs.example.com/elsewhere", http.StatusTemporaryRedirect)
	}), nil)
	_, err := client(t, o).Logstore(t.Context())
	if e := asError(t, err); hits != 1 || e.Status != 307 || e.Class != sls.Unknown {
		t.Errorf("got %v after %d requests", err, hits)
	}
}

// TestSilent has the SDK log nothing to the standard output.
func TestSilent(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	o := server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "x", 500) }), nil)
	client(t, o).Logstore(t.Context())
	os.Stdout = stdout
	w.Close()
	if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
		t.Errorf("got %q, %v", b, err)
	}
}
