package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealtail/conf"
	"sealtail/cred"
	"sealtail/internal/trust"
	"sealtail/seal"
	"sealtail/sink/sls"
)

// A reload tells the fault of each route, the key's first, with what mends it.
func TestRouteFaults(t *testing.T) {
	good := filepath.Join(t.TempDir(), "ca.pem")
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(good, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	const key, sink = "key.kms.route.ca_file: open /nowhere/key.pem", "sink.audit.route.ca_file: open /nowhere/sink.pem"
	for _, tt := range []struct {
		key, sink string
		want      []string
	}{
		{"", "", nil},
		{good, good, nil},
		{"/nowhere/key.pem", good, []string{key}},
		{"", "/nowhere/sink.pem", []string{sink}},
		{"/nowhere/key.pem", "/nowhere/sink.pem", []string{key, sink}},
	} {
		cfg := &conf.Config{
			File:  "m.toml",
			Keys:  map[string]conf.Key{"kms": {Route: conf.Route{CAFile: tt.key}}},
			Sinks: map[string]conf.Sink{"audit": {Route: conf.Route{CAFile: tt.sink}}},
		}
		faults := routeFaults(cfg, conf.Stream{Key: "kms", Sink: "audit"})
		if len(faults) != len(tt.want) {
			t.Fatalf("got %v, want %v", faults, tt.want)
		}
		for i, f := range faults {
			if !strings.HasPrefix(f.Error(), "m.toml: "+tt.want[i]) || !strings.HasPrefix(f.Fix, "put a file of certificates") {
				t.Errorf("got %v; %s, want %s and a fix", f, f.Fix, tt.want[i])
			}
		}
	}
}

// Each error is put down to the key of the configuration that is to be mended.
func TestFaultsNameTheirKey(t *testing.T) {
	cfg, err := conf.Parse("m.toml", []byte(`
[agent]
state_dir = "/var/lib/m"
[key.kms]
provider = "alikms"
endpoint = "https://kms.cn-hangzhou.aliyuncs.com"
key_id = "data"
credentials = { type = "systemd" }
[key.far]
provider = "alikms"
endpoint = "https://kms.cn-hangzhou.aliyuncs.com"
key_id = "data"
credentials = { type = "env" }
route = { ca_file = "/etc/ca.pem", proxy = "http://proxy:3128" }
[sink.audit]
type = "sls"
endpoint = "https://cn-hangzhou.log.aliyuncs.com"
region = "cn-hangzhou"
project = "prod-logs"
logstore = "audit"
credentials = { type = "file", access_key_id_file = "/etc/id", access_key_secret_file = "/etc/secret" }
route = { dial_address = "10.0.0.1:443" }
encryption = { type = "m4", cmk_key_id = "store", arn = "acs:ram::1234567890123456:role/sls", region_id = "cn-hangzhou" }
[[stream]]
name = "app"
include = ["/var/log/*.log"]
suite = "sm4-gcm"
key = "kms"
sink = "audit"
[[stream]]
name = "b"
include = ["/var/log/*.b"]
suite = "sm4-gcm"
key = "far"
sink = "audit"
`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	kms := func(class seal.Class, code string, err error) error {
		return fmt.Errorf("generate: %w", &seal.KMSError{Class: class, Code: code, Err: err})
	}
	logstore := func(class sls.Class, code, message string) error {
		return &sls.Error{Class: class, Op: "put", Status: 400, Code: code, Message: message, Hint: "hint"}
	}
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	proxy := &net.OpError{Op: "proxyconnect", Net: "tcp", Err: dial}
	certificate := trust.Explain(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "")
	misnamed := trust.Explain(&tls.CertificateVerificationError{Err: x509.HostnameError{Host: "a", Certificate: new(x509.Certificate)}}, "")
	for _, c := range []struct {
		at   string // key or sink
		err  error
		key  string
		line int
	}{
		{"kms", kms(seal.Revoked, "Rejected.Disabled", nil), "key.kms.key_id", 7},
		{"kms", kms(seal.Revoked, "Forbidden.NoPermission", nil), "key.kms.key_id", 7},
		{"kms", kms(seal.Revoked, "Forbidden.KeyNotFound", nil), "key.kms.key_id", 7},
		{"kms", kms(seal.Credentials, "SignatureDoesNotMatch", nil), "key.kms.credentials", 8},
		{"kms", kms(seal.Outage, "NoCredentials", &cred.Error{Name: "/etc/id", Err: os.ErrNotExist}), "key.kms.credentials", 8},
		{"kms", kms(seal.Outage, "InvalidTimeStamp.Expired", nil), "key.kms", 4},
		{"kms", kms(seal.Outage, "Network", dial), "key.kms.endpoint", 6},
		{"kms", kms(seal.Outage, "Network", &net.DNSError{}), "key.kms.endpoint", 6},
		{"kms", kms(seal.Outage, "Certificate", certificate), "key.kms.route.ca_file", 4},
		{"kms", kms(seal.Outage, "Certificate", misnamed), "key.kms.endpoint", 6},
		{"kms", kms(seal.Outage, "ServiceUnavailableTemporary", nil), "key.kms", 4},
		{"far", kms(seal.Outage, "Network", proxy), "key.far.route.proxy", 14},
		{"far", kms(seal.Outage, "Certificate", certificate), "key.far.route.ca_file", 14},
		{"far", trust.Check("/nowhere/ca.pem"), "key.far.route.ca_file", 14},
		{"audit", trust.Check("/nowhere/ca.pem"), "sink.audit.route.ca_file", 22},
		{"audit", logstore(sls.Refused, "SignatureNotMatch", ""), "sink.audit.credentials", 21},
		{"audit", logstore(sls.Refused, "Unauthorized", "AccessKeyId not found"), "sink.audit.credentials", 21},
		{"audit", logstore(sls.Denied, "Unauthorized", "denied by sts or ram"), "sink.audit.credentials", 21},
		{"audit", logstore(sls.Denied, "ProjectForbidden", ""), "sink.audit", 15},
		{"audit", logstore(sls.Absent, "ProjectNotExist", ""), "sink.audit.project", 19},
		{"audit", logstore(sls.Absent, "LogStoreNotExist", ""), "sink.audit.logstore", 20},
		{"audit", logstore(sls.CMK, "X", ""), "sink.audit.encryption", 23},
		{"audit", logstore(sls.Clock, "RequestTimeExpired", ""), "sink.audit", 15},
		{"audit", &sls.Error{Class: sls.Transient, Status: 502}, "sink.audit", 15},
		{"audit", &sls.MismatchError{Differs: []string{"x"}}, "sink.audit.encryption", 23},
		{"audit", &sls.Error{Class: sls.Network}, "sink.audit.route.dial_address", 22},
		{"audit", &cred.Error{Name: "/etc/id", Err: os.ErrNotExist}, "sink.audit.credentials", 21},
	} {
		f := kmsFault(cfg, c.at, c.err)
		if c.at == "audit" {
			f = logstoreFault(cfg, c.at, cfg.Sinks[c.at], c.err)
		}
		if f.Key != c.key || f.Line != c.line || f.Fix == "" || f.File != "m.toml" {
			t.Errorf("%v: got %v; %s, want %s in line %d, and a fix", c.err, f, f.Fix, c.key, c.line)
		}
	}
}
