package trust_test

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealtail/internal/trust"
)

// otherCA signed nothing here.
const otherCA = `-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUBh09F4s44/TGHCeQlbjakqD+7mwwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTI1MjA1MzMwWhgPMjEyNjExMDEyMDUz
MzBaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
sPQc3WE8CY7qH9z/WjsCFPDOIF++xw28DLYjSpA+6frr7KKGFXWvpHcFLypfBOug
LLBBLEbcw+elw96HCSuMQ6NTMFEwHQYDVR0OBBYEFFf/D3z5Jrv2HIw1UEWHOBnT
hfSFMB8GA1UdIwQYMBaAFFf/D3z5Jrv2HIw1UEWHOBnThfSFMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAPhj0v/0Oq0ThLD+RLxm3Hl33Yw3yCa5
D6zykAB2mfwPAiEAmMy8P7PCZ1hAppyAZn54M5WXgqZWe7cVvVwPF6wZ8r4=
-----END CERTIFICATE-----
`

// A body tells whether it was closed.
type body struct {
	*strings.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

// The file is followed, and what it held last holds while it cannot be read.
func TestTransport(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
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
	}{
		{"not there", missing, "open " + file + ": no such file", "no such file"},
		{"no certificate", "garbage", file + " holds no certificate in PEM", "no certificate"},
		{"another's", otherCA, "its authority is not in ca_file " + file, ""},
		{"the server's", own, "", ""},
		{"the same", own, "", ""},
		{"half written", own[:40], "", "no certificate"},
		{"gone", missing, "", "no such file"},
		{"another's again", otherCA, "its authority is not in ca_file " + file, ""},
		{"both", otherCA + own, "", ""},
	} {
		if step.holds == missing {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(file, []byte(step.holds), 0o600); err != nil {
			t.Fatal(err)
		}
		b := &body{Reader: strings.NewReader("x")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, b)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
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
	if err := trust.Check(""); err != nil {
		t.Errorf("no file: %v", err)
	}
	plain := new(http.Transport)
	if trust.Transport(plain, "") != http.RoundTripper(plain) {
		t.Error("without a file the transport is another")
	}
}
