package trust_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"sealtail/internal/trust"
)

// handshake returns why a client refuses a server's certificate.
func handshake(t *testing.T, template *x509.Certificate, host string, trusted bool) error {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.IsCA, template.BasicConstraintsValid = big.NewInt(1), true, true
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if trusted {
		roots.AddCert(cert)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if conn, err := l.Accept(); err == nil {
			conn.(*tls.Conn).HandshakeContext(t.Context()) // fails as the client's does
			conn.Close()
		}
	}()
	defer func() { l.Close(); <-served }()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: host})
	if err == nil {
		conn.Close()
	}
	return err
}

func TestExplain(t *testing.T) {
	const ca = "/etc/sealtail/ca.pem"
	now := time.Now()
	tests := []struct {
		name          string
		from, to      time.Time
		names         []string
		subject, host string
		trusted       bool
		ca            string
		want, fix     string
	}{
		{"not in the CA file", now.Add(-time.Hour), now.Add(time.Hour), []string{"kms.test"}, "Gate", "kms.test", false, ca,
			`certificate for kms.test, issued by "CN=Gate", is refused: its authority is not in ca_file ` + ca, "into ca_file"},
		{"none of the system's", now.Add(-time.Hour), now.Add(time.Hour), []string{"kms.test"}, "Gate", "kms.test", false, "",
			"the route has no ca_file", "name in ca_file"},
		{"another host's", now.Add(-time.Hour), now.Add(time.Hour), []string{"a.test", "b.test"}, "Gate", "kms.test", true, ca,
			`certificate for a.test, b.test, issued by "CN=Gate", is refused: it is not for "kms.test"`, "endpoint and dial_address"},
		{"expired", now.Add(-time.Hour), time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), []string{"kms.test"}, "Gate", "kms.test", true, ca,
			"it expired on 2020-01-02 03:04:05 UTC", "clock"},
		{"of a time to come", time.Date(2120, 1, 2, 3, 4, 5, 0, time.UTC), now.AddDate(200, 0, 0), []string{"kms.test"}, "Gate", "kms.test", true, ca,
			"it is not valid before 2120-01-02 03:04:05 UTC", "clock"},
		{"of many names", now.Add(-time.Hour), now.Add(time.Hour), []string{"a", "b", "c", "d", "e", "f"}, "Gate", "f", false, ca,
			"for a, b, c, d and 2 more, issued", "ca_file"},
		{"that would steer a terminal", now.Add(-time.Hour), now.Add(time.Hour), []string{"kms.test"}, "G\x1b[2J" + strings.Repeat("x", 300), "kms.test", false, ca,
			"xxx...", "ca_file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := handshake(t, &x509.Certificate{NotBefore: tt.from, NotAfter: tt.to, DNSNames: tt.names, Subject: pkix.Name{CommonName: tt.subject}}, tt.host, tt.trusted)
			got := trust.Explain(fmt.Errorf("dial: %w", err), tt.ca)
			if got == nil {
				t.Fatalf("not of a certificate: %v", err)
			}
			key := "" // a clock's
			switch {
			case strings.Contains(tt.fix, "ca_file"):
				key = "route.ca_file"
			case strings.Contains(tt.fix, "endpoint"):
				key = "endpoint"
			}
			if got.Key != key {
				t.Errorf("got key %q, want %q", got.Key, key)
			}
			if !strings.Contains(got.Error(), tt.want) || !strings.Contains(got.Fix, tt.fix) {
				t.Errorf("got %q, fix %q; want %q, fix %q", got, got.Fix, tt.want, tt.fix)
			}
			if len(got.Error()) > 600 || strings.Contains(got.Error(), "\x1b") {
				t.Errorf("got %q", got)
			}
			if !errors.Is(got, err) {
				t.Error("the cause is not wrapped")
			}
		})
	}
	if got := trust.Explain(errors.New("connection refused"), ca); got != nil {
		t.Errorf("got %v for another error", got)
	}
}
