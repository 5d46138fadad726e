package trust_test

import (
	"context"
	_ "embed"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/internal/trust"
)

// otherCA signed nothing here. Other packages' tests read its file as well.
//
//go:embed testdata/other.pem
var otherCA string

// A body tells whether it was closed.
type body struct {
	*strings.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

// The file is followed, and what it held last holds while it cannot be read;
// connections are kept while it says the same.
func TestTransport(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	var opened atomic.Int32
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	own := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	file := filepath.Join(t.TempDir(), "ca.pem")
	const missing = "-"
	tr := trust.Transport(server.Client().Transport.(*http.Transport).Clone(), file)
	defer tr.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	for _, step := range []struct {
		name, holds string
		want        string // in the error; "" = it is trusted
		check       string // what Check says
		kept        bool   // the connection of the step before is used again
	}{
		{"not there", missing, "open " + file + ": no such file", "no such file", false},
		{"no certificate", "garbage", file + " holds no certificate in PEM", "no certificate", false},
		{"another's", otherCA, "its authority is not in ca_file " + file, "", false},
		{"the server's", own, "", "", false},
		{"the same", own, "", "", true},
		{"half written", own[:40], "", "no certificate", true},
		{"gone", missing, "", "no such file", true},
		{"another's again", otherCA, "its authority is not in ca_file " + file, "", false},
		{"both", otherCA + own, "", "", false},
	} {
		if step.holds == missing {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(file, []byte(step.holds), 0o600); err != nil {
			t.Fatal(err)
		}
		var b *body
		var err error
		// Where the server is slow to be done with a request, its connection may
		// not be kept.
		for tries, kept := 0, false; tries == 0 || step.kept && !kept && tries < 10; tries++ {
			b = &body{Reader: strings.NewReader("x")}
			before := opened.Load()
			req, rerr := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, b)
			if rerr != nil {
				t.Fatal(rerr)
			}
			var resp *http.Response
			if resp, err = tr.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
			if kept = opened.Load() == before; !kept && tries == 9 {
				t.Errorf("%s: each request opens a connection", step.name)
			}
		}
		switch e := trust.Explain(err, file); {
		case step.want == "" && err != nil:
			t.Errorf("%s: got %v", step.name, err)
		case step.want != "" && (e == nil || e.Key != "route.ca_file" || !strings.Contains(e.Error(), step.want) || e.Fix == ""):
			t.Errorf("%s: got %v, want %q", step.name, err, step.want)
		}
		if !b.closed {
			t.Errorf("%s: the request's body is left open", step.name)
		}
		if err := trust.Check(file); (err == nil) != (step.check == "") || err != nil && !strings.Contains(err.Error(), step.check) {
			t.Errorf("%s: Check says %v, want %q", step.name, err, step.check)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trust.Check(file); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a FIFO: got %v", err)
	}
	if err := trust.Check(""); err != nil {
		t.Errorf("no file: %v", err)
	}
	plain := new(http.Transport)
	if trust.Transport(plain, "") != http.RoundTripper(plain) {
		t.Error("without a file the transport is another")
	}
}

// A file on a disk that hangs is waited for as long as the request may last, and
// a second where there is what was read last; it is read once at a time.
func TestFileHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(file, []byte(otherCA), 0o600); err != nil {
			t.Fatal(err)
		}
		errDial := errors.New("dialed") // it was read, or what was read last holds
		tr := trust.Transport(&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errDial }}, file)
		var reads atomic.Int32
		hangs := make(chan struct{})
		trust.BeforeRead(tr, func() { reads.Add(1); <-hangs })
		request := func(want error, after time.Duration) {
			t.Helper()
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			b := &body{Reader: strings.NewReader("x")}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://kms.test", b)
			if err != nil {
				t.Fatal(err)
			}
			_, err = tr.RoundTrip(req)
			if !errors.Is(err, want) || time.Since(began) != after || !b.closed {
				t.Errorf("got %v after %v, want %v after %v; body closed: %v", err, time.Since(began), want, after, b.closed)
			}
			if e := trust.Explain(err, file); (e != nil) != (want != errDial) || e != nil && (e.Key != "route.ca_file" || !strings.Contains(e.Error(), file)) {
				t.Errorf("explained as %v", e)
			}
		}
		for range 3 {
			request(context.DeadlineExceeded, 3*time.Second)
		}
		if got := reads.Load(); got != 1 {
			t.Errorf("read %d times at once", got)
		}
		close(hangs)
		synctest.Wait()
		request(errDial, 0)
		hangs = make(chan struct{})
		for range 3 {
			request(errDial, time.Second)
		}
		if got := reads.Load(); got != 3 {
			t.Errorf("read %d times in all, want 3", got)
		}
		close(hangs)
		synctest.Wait()
		request(errDial, 0)
	})
}
