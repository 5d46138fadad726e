package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/aliyun/aliyun-log-go-sdk"
	"github.com/klauspost/compress/zstd"

	"sealtail/reader"
	"sealtail/sink/sls"
)

// trusting returns a transport that trusts one CA.
func trusting(t testing.TB, ca []byte) *http.Transport {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("no CA")
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
}

// From provision to the reader: every line is opened once, and each party does
// with its access key what it was given for.
func TestCloud(t *testing.T) {
	t.Parallel()
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, cloudOptions{suite: suite, stream: quickStream})
			out := c.run("sealtail", "check", "-c", c.path("sealtail.toml"), "--online")
			if !strings.Contains(out, "denied, as it should be") || !strings.Contains(out, "encrypted as configured") {
				t.Errorf("check --online says %q", out)
			}
			denied := c.count("kms.Decrypt")
			var l ledger
			w := l.writer(t, c.path("logs", "a.log"))
			for range 500 {
				w.line()
			}
			c.start()
			for i := range 4000 {
				w.line()
				if i%1000 == 999 {
					w.rotate(fmt.Sprint(i / 1000))
				}
			}
			c.until("all to be opened", func() bool { return len(c.open()) >= l.total() })
			c.kill()
			w.line()
			c.start()
			c.until("all to be opened", func() bool { return len(c.open()) >= l.total() })
			c.stop()
			l.check(t, c.whole())
			l.check(t, c.printed(c.run("sealtail-reader", "open", "--format", "json", "--signers", c.path("signers"), "-c", c.path("reader.toml"))))
			if out := c.run("sealtail-reader", "verify", "--signers", c.path("signers"), "-c", c.path("reader.toml")); !strings.Contains(out, "anchored") {
				t.Errorf("verify says %q, want anchored", out)
			}
			may := []string{"GetLogStore", "PutLogs", "GenerateDataKey", "DescribeKey"}
			for _, r := range c.requests() {
				if r.AccessKeyID == "agent-1" && !slices.Contains(may, r.Operation) {
					if denied--; r.Operation != "Decrypt" || r.Status != http.StatusForbidden || denied < 0 {
						t.Errorf("the agent did %s: %d", r.Operation, r.Status)
					}
				}
			}
		})
	}
}

// While the data key's CMK is disabled nothing is sealed and the files buffer;
// what was spooled ships.
func TestDataKeyCMKDisabled(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream, key: quickCMK})
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	w.line()
	c.start()
	c.until("the first line", func() bool { return len(c.open()) == 1 })
	c.state("data", "Disabled")
	c.until("the pause", func() bool { return c.logged("sealing paused") > 0 })
	if c.logged("Rejected.Disabled") == 0 {
		t.Error("the log does not say why")
	}
	for i := range 5000 {
		w.line()
		if i%1000 == 0 {
			w.rotate(fmt.Sprint(i))
		}
	}
	c.state("data", "Enabled")
	c.until("the rest", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
	pauses := 0
	c.each(sls.Range{}, func(r *reader.Record) {
		if r.Event == "pause" {
			pauses++
		}
	})
	if pauses == 0 {
		t.Error("no pause event was sealed")
	}
}

// While the Logstore's CMK is disabled all reads and writes fail, sealing goes
// on, and the spool buffers, across a restart too.
func TestH76_LogstoreCMKDisabled(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream, key: quickCMK})
	c.edit(shipAll, shipSoon)
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	w.line()
	c.start()
	c.until("the first line", func() bool { return len(c.open()) == 1 })
	c.state("store", "Disabled")
	disabled := time.Now()
	for range 2000 {
		w.line()
	}
	c.until("the refusal", func() bool { return c.logged("the Logstore's own CMK is not usable") > 0 })
	err := c.logstore.Pull(t.Context(), sls.Range{}, func(*sls.Item) error { return nil })
	if e, ok := errors.AsType[*sls.Error](err); !ok || e.Class != sls.CMK {
		t.Errorf("a read fails with %v, want class %s", err, sls.CMK)
	}
	if _, errs, code := c.try("sealtail", "check", "-c", c.path("sealtail.toml"), "--online"); code != 1 || !strings.Contains(errs, "the Logstore's CMK is Disabled") {
		t.Errorf("check --online ends with %d: %s", code, errs)
	}
	c.stop()
	if n := c.taken(disabled); n > 0 {
		t.Errorf("the Logstore took %d requests", n)
	}
	if c.logged(`"unshipped_bytes": 0}`) > 0 {
		t.Error("nothing was left in the spool")
	}
	c.edit(shipSoon, shipAll)
	c.start()
	for range 100 {
		w.line()
	}
	c.until("the refusal", func() bool { return c.logged("the Logstore's own CMK is not usable") > 1 })
	c.state("store", "Enabled")
	c.until("the rest", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
	if c.logged(`"unshipped_bytes": 0}`) != 1 {
		t.Error("something was left in the spool")
	}
}

// To a Logstore that is encrypted in another way nothing is shipped.
func TestDrift(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream})
	conf := fmt.Sprintf(`{"enable":true,"encrypt_type":"%%s","user_cmk_info":{"cmk_key_id":"store","arn":%q,"region_id":%q}}`, c.emulator.Roles["sls"], region)
	path := "projects/" + project + "/logstores/" + logstore + "/encryption"
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	for _, drift := range []struct{ conf, says string }{
		{"null", "the Logstore is not encrypted"},
		{fmt.Sprintf(conf, "default"), `encrypt_type is \"default\", configured is \"m4\"`},
		{strings.Replace(fmt.Sprintf(conf, "m4"), `"store"`, `"data"`, 1), `cmk_key_id is \"data\", configured is \"store\"`},
		{strings.Replace(fmt.Sprintf(conf, "m4"), "true", "false", 1), "the Logstore's encryption is disabled"},
	} {
		c.ask("PUT", path, drift.conf)
		c.start()
		w.line()
		c.until(drift.says, func() bool { return c.logged(drift.says) > 0 })
		c.kill()
	}
	if n := c.count("sls.PutLogs"); n > 0 {
		t.Errorf("%d requests with envelopes were sent", n)
	}
	c.ask("PUT", path, fmt.Sprintf(conf, "sm4")) // as m4
	c.start()
	c.until("all", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
}

// Run never creates a Logstore; it waits for one.
func TestLogstoreAbsent(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream, absent: true})
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	for range 100 {
		w.line()
	}
	c.start()
	c.until("that it is not there", func() bool { return c.logged("LogStoreNotExist") > 0 })
	if c.logged("sealtail provision") == 0 {
		t.Error("the log does not say what to do")
	}
	if n := c.count("sls.CreateLogStore"); n > 0 {
		t.Errorf("run asked for it %d times", n)
	}
	c.run("sealtail", "provision", "-c", c.path("provision.toml"))
	c.until("all", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
}

// A Logstore that is deleted under the agent is waited for. To one that comes
// in its place without encryption nothing is shipped.
func TestLogstoreDeleted(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream})
	c.edit(shipAll, shipSoon)
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	c.start()
	for range 100 {
		w.line()
	}
	c.until("the first lines", func() bool { return len(c.open()) == l.total() })
	first := c.open()
	admin := c.admin()
	if err := admin.DeleteLogStore(project, logstore); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		w.line()
	}
	c.until("that it is gone", func() bool { return c.logged("LogStoreNotExist") > 0 })
	if err := admin.CreateLogStoreV2(project, &api.LogStore{Name: logstore, TTL: 1, ShardCount: 2}); err != nil {
		t.Fatal(err)
	}
	created := time.Now()
	c.until("that another is there", func() bool { return c.logged("the Logstore is not encrypted") > 0 })
	if n := c.taken(created); n > 0 {
		t.Errorf("%d requests were taken by a Logstore that is not encrypted", n)
	}
	if err := admin.DeleteLogStore(project, logstore); err != nil {
		t.Fatal(err)
	}
	c.run("sealtail", "provision", "-c", c.path("provision.toml"))
	c.stop() // the agent would look again within 40 s; at its start it does so at once
	c.edit(shipSoon, shipAll)
	c.start()
	c.until("the rest", func() bool { return len(first)+len(c.open()) >= l.total() })
	c.stop()
	l.check(t, append(first, c.open()...))
}

// While a clock is wrong by an hour nothing is lost, and sealing goes on.
func TestH77_Clock(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream, key: quickCMK})
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	w.line()
	c.start()
	c.until("the first line", func() bool { return len(c.open()) == 1 })
	c.ask("PUT", "clock", `"1h"`)
	for range 100 {
		w.line()
	}
	c.until("both refusals", func() bool {
		return c.logged("RequestTimeExpired") > 0 && c.logged("data key not refreshed, sealing goes on") > 0
	})
	c.ask("PUT", "clock", `"0s"`)
	c.until("all", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
}

// A request that was carried out though its answer was lost is sent again: the
// Logstore holds an envelope twice, the reader opens it once.
func TestH71_AnswerLost(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream})
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	c.ask("POST", "faults", `{"operation":"PutLogs","cut":true,"after":true,"count":2}`)
	c.ask("POST", "faults", `{"operation":"PutLogs","status":504,"html":true,"after":true,"count":2}`)
	c.start()
	for range 1000 {
		w.line()
	}
	c.until("all", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
	copies := 0
	for f := range c.report.All {
		if f.Kind == reader.Duplicate {
			copies++
		}
	}
	if copies == 0 {
		t.Error("there is no duplicate to drop")
	}
}

// What passes by itself, and what somebody has to mend, loses nothing.
func TestTroubles(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{stream: quickStream, key: quickCMK})
	policy := c.policies()["sealtail-agent"]
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	c.start()
	for i, trouble := range []struct{ name, fault, says string }{
		{"throttled", `{"service":"sls","operation":"PutLogs","code":"WriteQuotaExceed","count":2}`, "WriteQuotaExceed"},
		{"out of shards' quota", `{"service":"sls","operation":"PutLogs","code":"ShardWriteQuotaExceed","count":2}`, "ShardWriteQuotaExceed"},
		{"5xx", `{"service":"sls","operation":"PutLogs","code":"InternalServerError","count":2}`, "InternalServerError"},
		{"a proxy's page", `{"service":"sls","operation":"PutLogs","status":502,"html":true,"count":2}`, "502"},
		{"no answer", `{"service":"sls","operation":"PutLogs","cut":true,"count":2}`, "EOF"},
		{"KMS throttled", `{"operation":"GenerateDataKey","code":"Rejected.Throttling","count":2}`, "Rejected.Throttling"},
		{"KMS 5xx", `{"operation":"GenerateDataKey","status":503,"html":true,"count":2}`, "503"},
		{"KMS cut", `{"operation":"GenerateDataKey","cut":true,"count":2}`, "GenerateDataKey: "},
	} {
		c.ask("POST", "faults", trouble.fault)
		for range 50 {
			w.line()
		}
		c.until(trouble.name, func() bool { w.line(); return c.logged(trouble.says) > 0 })
		if i == 4 {
			// New access keys in the files: the old one is refused from now on.
			c.ask("PUT", "credentials/agent-1", fmt.Sprintf(`{"access_key_secret":"secret-of-agent-1","disabled":true,"policies":[%s]}`, policy))
			c.until("the refusal", func() bool { w.line(); return c.logged("Unauthorized") > 0 && c.logged("Forbidden.AccessKey") > 0 })
			c.accessKey("agent", "agent-2", policy)
		}
	}
	c.until("all", func() bool { return len(c.open()) >= l.total() })
	c.stop()
	l.check(t, c.whole())
}

// A line is neither in what was sent nor in what lies at rest, whatever layer
// is taken off.
func TestCanaryInTheCloud(t *testing.T) {
	t.Parallel()
	const canary = "canary-7f3a9c51e2"
	forms := []string{canary, "Y2FuYXJ5LTdmM2E5YzUxZTI", "NhbmFyeS03ZjNhOWM1MWUy", "jYW5hcnktN2YzYTljNTFlM", "63616e6172792d37663361396335316532"}
	dir := t.TempDir()
	wire, data := filepath.Join(dir, "wire"), filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	c := newCloud(t, cloudOptions{stream: quickStream, flags: []string{"--wire", wire, "--data", data}})
	name := c.path("logs", "a.log")
	if err := os.WriteFile(name, []byte(strings.Repeat(canary+"\n", 3)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.until("the canary", func() bool { return len(c.open()) == 3 })
	c.kill()
	search := func(where string, b []byte) {
		for _, form := range forms {
			if bytes.Contains(b, []byte(form)) {
				t.Errorf("%s holds the canary", where)
			}
		}
	}
	shown := 0 // requests that show what may be shown
	for _, body := range bodies(t, wire) {
		search("the wire", body)
		if bytes.Contains(body, []byte("host-1")) && bytes.Contains(body, []byte("SE1")) {
			shown++
		}
	}
	if shown == 0 {
		t.Error("the search of the wire finds no envelope either")
	}
	atRest := c.ask("GET", "atrest?project="+project+"&logstore="+logstore, "")
	search("the data at rest", atRest)
	if len(atRest) == 0 || bytes.Contains(atRest, []byte("host-1")) {
		t.Errorf("%d bytes at rest, which show the host's name: they are not encrypted", len(atRest))
	}
	filesSearched := 0
	for _, root := range []string{dir, c.dir} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path == name {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			filesSearched++
			search(path, b)
			return nil
		})
	}
	if filesSearched < 10 {
		t.Errorf("only %d files were searched", filesSearched)
	}
}

// bodies returns the requests of a wire file, each uncompressed.
func bodies(t *testing.T, name string) (all [][]byte) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpack, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpack.Close()
	for in := bufio.NewReader(f); ; {
		req, err := http.ReadRequest(in)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err == nil {
			_, err = in.Discard(len("\r\n")) // behind each body
		}
		if err == nil && req.Header.Get("x-log-compresstype") == "zstd" {
			body, err = unpack.DecodeAll(body, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Appendf(body, "%v %v", req.URL, req.Header))
	}
}

// Provision touches no Logstore that is encrypted in another way.
func TestProvisionRefuses(t *testing.T) {
	t.Parallel()
	c := newCloud(t, cloudOptions{encryption: `{ type = "default" }`})
	before := c.ask("GET", "state", "")
	o := cloudOptions{suite: "sm4-gcm", encryption: fmt.Sprintf(`{ type = "m4", cmk_key_id = "store", arn = %q, region_id = %q }`, c.emulator.Roles["sls"], region)}
	c.config("other.toml", "provision", o)
	out, errs, code := c.try("sealtail", "provision", "-c", c.path("other.toml"))
	if code != 1 || out != "" {
		t.Errorf("got exit %d, %q", code, out)
	}
	for _, says := range []string{`encrypt_type is "default", configured is "m4"`, `cmk_key_id is the service's key, configured is "store"`, "hint: the service never changes"} {
		if !strings.Contains(errs, says) {
			t.Errorf("it does not say %s: %s", says, errs)
		}
	}
	if after := c.ask("GET", "state", ""); !bytes.Equal(before, after) {
		t.Errorf("it changed something:\n%s\n%s", before, after)
	}
	if out := c.run("sealtail", "provision", "-c", c.path("provision.toml")); !strings.Contains(out, "was there") {
		t.Errorf("again: %q", out)
	}
}
