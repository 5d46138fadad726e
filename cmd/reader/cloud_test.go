package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/aliyun/aliyun-log-go-sdk"
	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"

	"sealtail/conf"
	"sealtail/emul"
	"sealtail/internal/cloud"
	"sealtail/seal"
	"sealtail/sink/sls"
)

const slsEndpoint = "http://cn-hangzhou.log.aliyuncs.com" // by way of $CLOUD

// serveCloud gives a story an emulator of Log Service and KMS, with the
// address $CLOUD: a project prod-logs, a CMK data for data keys, another, and
// an access key READER that has the rights of a reader and no others.
func serveCloud(t *testing.T, e *testscript.Env) {
	s := emul.New(emul.Options{})
	server := httptest.NewServer(s)
	e.Defer(func() { server.Close(); s.Close() })
	s.AddProject("prod-logs")
	for _, id := range []string{"data", "another"} {
		if _, err := s.SetKey(emul.Key{ID: id, Spec: emul.SM4}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range sls.Policies(sls.PolicyOptions{
		Region: s.Region(), Project: "prod-logs", Logstore: "audit", Account: s.Account(), DataKeyCMKs: []string{"data"},
	}) {
		if p.Name != "sealtail-reader" {
			continue
		}
		var policy emul.Policy
		if err := json.Unmarshal([]byte(p.Text), &policy); err != nil {
			t.Fatal(err)
		}
		s.SetCredential(emul.Credential{AccessKeyID: "READER", AccessKeySecret: "readers-secret", Policies: []emul.Policy{policy}})
	}
	id, secret := s.Root()
	e.Setenv("CLOUD", server.Listener.Addr().String())
	e.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", id) // of the stories' own commands
	e.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret)
}

// control is the command "control METHOD PATH [BODY]": a request of the
// emulator's control API.
func control() {
	req, err := http.NewRequest(os.Args[1], "http://"+os.Getenv("CLOUD")+"/control/"+os.Args[2], strings.NewReader(strings.Join(os.Args[3:], "")))
	exitOn(err)
	resp, err := http.DefaultClient.Do(req)
	exitOn(err)
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		exitOn(errors.New(resp.Status))
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// shipped is the command "shipped SUITE": it makes a host's envelopes for the
// Logstore prod-logs/audit, 0.env to 5.env, the last of them FINAL, other.env
// for prod-logs/other, and signers.
func shipped() {
	suite, err := seal.ParseSuite(os.Args[1])
	exitOn(err)
	kms, err := cloud.KMS(conf.Key{Endpoint: "http://" + os.Getenv("CLOUD"), KeyID: "data", Credentials: conf.Credentials{Type: "env"}})
	exitOn(err)
	host, err := seal.NewIdentity()
	exitOn(err)
	enc, err := zstd.NewWriter(nil)
	exitOn(err)
	exitOn(os.WriteFile("signers", []byte(host.SignerLine("host-1", suite)+"\n"), 0o600))
	for logstore, n := range map[string]int{"audit": 6, "other": 1} {
		encoded, err := seal.EncodeContext(seal.Context{"project": "prod-logs", "logstore": logstore})
		exitOn(err)
		keys := seal.NewKeys(seal.KeyOptions{}, kms, suite, encoded)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { keys.Run(ctx) })
		m := &maker{ctx: ctx, host: host, keys: keys, suite: suite, context: encoded, zstd: enc}
		m.chain(nil, began)
		offset := int64(0)
		for i := range n {
			b := m.batch()
			b.Add(lineChunk(m.at(i), &offset, fmt.Sprintf("line %d of %s", i, logstore)))
			name, kind := fmt.Sprintf("%d.env", i), seal.Flags(0)
			if i == n-1 {
				kind = seal.Final
			}
			if logstore == "other" {
				name = "other.env"
			}
			m.write(name, m.seal(kind, b))
		}
		cancel()
		running.Wait()
		exitOn(m.err)
	}
}

// ship is the command "ship FILE [FIELD=VALUE]...": it puts an envelope, or
// whatever the file holds, into the Logstore as an agent does, but for the
// fields of the log: sid, ep, seq, dek, t0, t1, topic. why=TEXT ships its stub;
// from=FILE takes the fields of another envelope; raw=KEY ships a log with just
// that key.
func ship() {
	b, err := os.ReadFile(os.Args[1])
	exitOn(err)
	fields := make(map[string]string)
	for _, f := range os.Args[2:] {
		k, v, _ := strings.Cut(f, "=")
		fields[k] = v
	}
	client, err := cloud.Logstore(conf.Sink{
		Endpoint: slsEndpoint, Region: "cn-hangzhou", Project: "prod-logs", Logstore: "audit",
		Credentials: conf.Credentials{Type: "env"}, Route: conf.Route{DialAddress: os.Getenv("CLOUD")},
	}, "test")
	exitOn(err)
	encryption := sls.Encryption{Type: "default"}
	_, err = client.Provision(context.Background(), sls.Spec{Encryption: encryption})
	exitOn(err)
	if key, ok := fields["raw"]; ok {
		exitOn(shipRaw(key, string(b)))
		return
	}
	of := b
	if name, ok := fields["from"]; ok {
		of, err = os.ReadFile(name)
		exitOn(err)
	}
	e, err := seal.Parse(of)
	exitOn(err)
	c := sls.Carrier{StreamID: e.StreamID, Epoch: e.Epoch, Seq: e.Seq, DEKID: e.DEKID, First: e.First / 1e9, Last: e.Last / 1e9}
	topic := "audit"
	for k, v := range fields {
		n, nerr := strconv.ParseInt(v, 10, 64)
		switch k {
		case "sid":
			_, nerr = hex.Decode(c.StreamID[:], []byte(v))
		case "dek":
			_, nerr = hex.Decode(c.DEKID[:], []byte(v))
		case "ep":
			c.Epoch = uint64(n)
		case "seq":
			c.Seq = uint64(n)
		case "t0":
			c.First = n
		case "t1":
			c.Last = n
		case "topic":
			topic, nerr = v, nil
		default:
			nerr = nil
		}
		exitOn(nerr)
	}
	describe := func([]byte) (sls.Carrier, error) { return c, nil }
	store, err := sls.NewStore(client, sls.StoreOptions{
		Topic: topic, Source: "host-1", Describe: describe, DescribeStub: describe, Encryption: encryption,
		Stub: func([]byte) ([]byte, error) { return e.Stub(), nil },
	})
	exitOn(err)
	if why, ok := fields["why"]; ok {
		exitOn(store.PutStub(context.Background(), e.Stub(), why))
		return
	}
	exitOn(store.Put(context.Background(), [][]byte{b}))
}

func shipRaw(key, value string) error {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, os.Getenv("CLOUD"))
	}
	c := (&api.Client{
		Endpoint: slsEndpoint, Region: "cn-hangzhou", AuthVersion: api.AuthV4,
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dial}},
	}).WithCredentialsProvider(
		api.NewStaticCredentialsProvider(os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"), os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"), ""))
	topic, source, now := "audit", "host-1", uint32(time.Now().Unix())
	return c.PutLogs("prod-logs", "audit", &api.LogGroup{
		Topic: &topic, Source: &source,
		Logs: []*api.Log{{Time: &now, Contents: []*api.LogContent{{Key: &key, Value: &value}}}},
	})
}
