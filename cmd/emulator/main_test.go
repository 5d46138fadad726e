package main_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	sls "github.com/aliyun/aliyun-log-go-sdk"
	"google.golang.org/protobuf/proto"
)

// build returns the path of the binary.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "sealtail-emulator")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// ready is the line that is printed.
type ready struct {
	SLS, KMS, Control, Address, Host, Region, Account string
	CAFile                                            string `json:"ca_file"`
	AccessKeyID                                       string `json:"access_key_id"`
	AccessKeySecret                                   string `json:"access_key_secret"`
	CMKs, Roles                                       map[string]string
}

// start runs the binary, which ends with the test, and well.
func start(t *testing.T, bin string, args ...string) (r ready) {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("ends with %v", err)
		}
		if _, err := os.Stat(r.CAFile); r.CAFile != "" && !os.IsNotExist(err) {
			t.Errorf("the CA file is left: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return r
}

// dial returns a client that connects to the emulator whatever the host, and
// believes its CA alone.
func (r ready) dial(t *testing.T) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if r.CAFile != "" {
		ca, err := os.ReadFile(r.CAFile)
		if err != nil || !roots.AppendCertsFromPEM(ca) {
			t.Fatalf("%s: %v", r.CAFile, err)
		}
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.Address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func TestServe(t *testing.T) {
	bin := build(t)
	for name, flags := range map[string][]string{"http": nil, "https": {"--tls"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			wire := filepath.Join(dir, "wire")
			r := start(t, bin, append(flags, "--project", "prod", "--cmk", "k=Aliyun_SM4", "--role", "sls", "--data", dir, "--wire", wire)...)
			if r.CMKs["k"] != "acs:kms:cn-hangzhou:"+r.Account+":key/k" || r.Roles["sls"] != "acs:ram::"+r.Account+":role/sls" {
				t.Errorf("got %+v", r)
			}
			if !strings.HasPrefix(r.SLS, name+"://127.0.0.1:") || r.KMS != r.SLS || r.Control != r.SLS+"/control" {
				t.Errorf("got %+v", r)
			}
			c := r.dial(t)
			_, port, err := net.SplitHostPort(r.Address)
			if err != nil {
				t.Fatal(err)
			}
			for i, endpoint := range []string{r.SLS, name + "://" + r.Host + ":" + port, name + "://" + r.Region + ".log.aliyuncs.com", name + "://localhost"} {
				s := (&sls.Client{Endpoint: endpoint, RetryTimeOut: time.Minute, HTTPClient: c, Region: r.Region, AuthVersion: sls.AuthV4}).
					WithCredentialsProvider(sls.NewStaticCredentialsProvider(r.AccessKeyID, r.AccessKeySecret, ""))
				store := "audit-" + string(rune('0'+i))
				if err := s.CreateLogStoreV2("prod", &sls.LogStore{Name: store, TTL: 1, ShardCount: 1, EncryptConf: &sls.EncryptConf{
					Enable: true, EncryptType: "m4", UserCmkInfo: &sls.EncryptUserCmkConf{CmkKeyId: "k", Arn: r.Roles["sls"], RegionId: r.Region},
				}}); err != nil {
					t.Fatalf("%s: %v", endpoint, err)
				}
				if err := s.PutLogs("prod", store, &sls.LogGroup{Logs: []*sls.Log{{
					Time: proto.Uint32(uint32(time.Now().Unix())), Contents: []*sls.LogContent{{Key: proto.String("k"), Value: proto.String("a-canary")}},
				}}}); err != nil {
					t.Fatalf("%s: %v", endpoint, err)
				}
			}
			for _, url := range []string{
				r.Control + "/state", name + "://kms." + r.Region + ".aliyuncs.com/control/state", name + "://kst-1.cryptoservice.kms.aliyuncs.com/control/counters",
			} {
				resp, err := c.Get(url)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%s: %d %s %v", url, resp.StatusCode, b, err)
				}
			}
			if b, err := os.ReadFile(filepath.Join(dir, "prod.audit-0.0")); err != nil || len(b) == 0 || strings.Contains(string(b), "a-canary") {
				t.Errorf("at rest: %d bytes, %v", len(b), err)
			}
			if b, err := os.ReadFile(wire); err != nil || !strings.Contains(string(b), "POST /logstores/audit-0 HTTP/") {
				t.Errorf("wire: %d bytes, %v", len(b), err)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	bin := build(t)
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"--listen 0.0.0.0:0", 64, "not a loopback address"},
		{"--listen :0", 64, "not a loopback address"},
		{"--listen 192.0.2.1:80", 64, "not a loopback address"},
		{"--listen localhost:0", 64, "not a loopback address"},
		{"--listen nowhere", 64, "no address"},
		{"--what", 64, "--help"},
		{"more", 64, "unexpected argument"},
		{"--cmk k=RSA", 1, "spec of a key"},
		{"--help", 0, "Usage: sealtail-emulator"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			cmd := exec.Command(bin, strings.Fields(tt.args)...)
			out, _ := cmd.CombinedOutput() // its exit code is looked at
			if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.says) {
				t.Errorf("got %d %q, want %d %q", code, out, tt.code, tt.says)
			}
		})
	}
}
