package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

	api "github.com/aliyun/aliyun-log-go-sdk"

	"sealtail/emul"
	"sealtail/internal/hidden"
	"sealtail/reader"
	"sealtail/seal"
	"sealtail/seal/alikms"
	"sealtail/sink/sls"
)

// A cloud is a rig whose agent ships to an emulator of Log Service and KMS over
// TLS. Agent, reader and provisioner have access keys of their own, with the
// policies that provision prints for them, and no others.
type cloud struct {
	*rig
	emulator ready
	control  *http.Client
	logstore *sls.Client    // as the reader
	kms      *alikms.Client // as the reader
	report   *reader.Report // of the last open
}

// ready is what the emulator prints.
type ready struct {
	Control, Address string
	CAFile           string `json:"ca_file"`
	ID               string `json:"access_key_id"`
	Secret           string `json:"access_key_secret"`
	CMKs, Roles      map[string]string
}

// cloudOptions say how a cloud differs from the usual one.
type cloudOptions struct {
	suite       string   // of the stream "app"; default sm4-gcm
	key, stream string   // lines for these tables
	encryption  string   // default: m4 with the CMK "store"
	flags       []string // of the emulator
	absent      bool     // do not create the Logstore
}

const (
	region   = "cn-hangzhou"
	project  = "prod-logs"
	logstore = "audit"

	quickCMK = `refresh = "1s"
confirm = "0s"
retry_max = "500ms"
retry_revoked = "500ms"`

	// How an agent stops: with all shipped, or, where the Logstore takes
	// nothing, soon.
	shipAll  = `stop = { ship_timeout = "4m" }`
	shipSoon = `stop = { ship_timeout = "1s" }`
)

// newCloud starts an emulator, writes a config of one stream, "app", over
// logs/*.log*, and creates its Logstore.
func newCloud(t testing.TB, o cloudOptions) *cloud {
	t.Helper()
	if o.suite == "" {
		o.suite = "sm4-gcm"
	}
	c := &cloud{rig: bareRig(t, o.suite)}
	c.emulate(o.flags)
	if o.encryption == "" {
		o.encryption = fmt.Sprintf(`{ type = "m4", cmk_key_id = "store", arn = %q, region_id = %q }`, c.emulator.Roles["sls"], region)
	}
	c.config("sealtail.toml", "agent", o)
	c.config("provision.toml", "provision", o)
	c.config("reader.toml", "reader", o)
	policies := c.policies()
	for name, text := range policies {
		if who, ok := strings.CutPrefix(name, "sealtail-"); ok && who != "logstore-cmk" {
			c.accessKey(who, who+"-1", text)
		}
	}
	c.ask("PUT", "roles/sls", fmt.Sprintf(`{"trust": %s, "policies": [%s]}`, or(policies["trust"], "{}"), or(policies["sealtail-logstore-cmk"], "{}")))
	c.clients()
	if !o.absent {
		c.run("sealtail", "provision", "-c", c.path("provision.toml"))
	}
	c.signers()
	return c
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// emulate starts the emulator.
func (c *cloud) emulate(flags []string) {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "sealtail-emulator"), append([]string{
		"--tls", "--region", region, "--project", project, "--cmk", "data=Aliyun_SM4", "--cmk", "store", "--role", "sls",
	}, flags...)...)
	cmd.Stderr = c.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.emulator)
	}
	if err != nil {
		c.t.Fatalf("the emulator printed %q: %v", line, err)
	}
	c.control = &http.Client{Transport: trusting(c.t, c.ca())}
	c.t.Cleanup(c.control.CloseIdleConnections)
}

func (c *cloud) ca() []byte {
	c.t.Helper()
	b, err := os.ReadFile(c.emulator.CAFile)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// config writes a config with the access key of who.
func (c *cloud) config(name, who string, o cloudOptions) {
	c.t.Helper()
	credentials := fmt.Sprintf(`{ type = "file", access_key_id_file = %q, access_key_secret_file = %q }`, c.path(who+".id"), c.path(who+".secret"))
	route := fmt.Sprintf(`{ ca_file = %q, dial_address = %q }`, c.emulator.CAFile, c.emulator.Address)
	c.write(name, fmt.Sprintf(`
[agent]
state_dir = %[1]q
host = "host-1"
%[13]s

[key.kms]
provider = "alikms"
endpoint = "https://kms.%[2]s.aliyuncs.com"
key_id = %[3]q
credentials = %[4]s
route = %[5]s
%[6]s

[sink.audit]
type = "sls"
retry_max = "500ms"
endpoint = "https://%[2]s.log.aliyuncs.com"
region = %[2]q
project = %[7]q
logstore = %[8]q
credentials = %[4]s
route = %[5]s
encryption = %[9]s

[[stream]]
name = "app"
include = [%[10]q]
suite = %[11]q
key = "kms"
sink = "audit"
%[12]s
`, c.path("state"), region, c.emulator.CMKs["data"], credentials, route, o.key, project, logstore, o.encryption, c.path("logs", "*.log*"), o.suite, o.stream, shipAll))
}

// policies returns the policies that provision prints, by name.
func (c *cloud) policies() map[string]string {
	c.t.Helper()
	ps, name := make(map[string]string), ""
	for line := range strings.Lines(c.run("sealtail", "provision", "-c", c.path("sealtail.toml"), "--print-policies")) {
		switch said, about := strings.CutPrefix(line, "# "); {
		case !about:
			ps[name] += line
		case strings.Contains(said, ": for "):
			name, _, _ = strings.Cut(said, ":")
		}
	}
	if ps["sealtail-agent"] == "" {
		c.t.Fatalf("no policy for the agent in %q", ps)
	}
	return ps
}

// accessKey makes an access key with one policy, and writes it to WHO.id and
// WHO.secret.
func (c *cloud) accessKey(who, id, policy string) {
	c.t.Helper()
	secret := "secret-of-" + id
	c.ask("PUT", "credentials/"+id, fmt.Sprintf(`{"access_key_secret": %q, "policies": [%s]}`, secret, policy))
	c.write(who+".id", id)
	c.write(who+".secret", secret)
}

// clients makes the reader's.
func (c *cloud) clients() {
	c.t.Helper()
	who := lasting{"reader-1", "secret-of-reader-1"}
	var err error
	if c.logstore, err = sls.New(sls.Options{
		Endpoint: "https://" + region + ".log.aliyuncs.com", Region: region, Project: project, Logstore: logstore,
		Credentials: who, DialAddress: c.emulator.Address, CAFile: c.emulator.CAFile,
	}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.logstore.Close)
	if c.kms, err = alikms.New(alikms.Options{
		Endpoint: "https://kms." + region + ".aliyuncs.com", Allow: []string{c.emulator.CMKs["data"]},
		Credentials: who, CAFile: c.emulator.CAFile, DialAddress: c.emulator.Address,
	}); err != nil {
		c.t.Fatal(err)
	}
}

// admin is the service's own SDK, with an access key that may do everything.
func (c *cloud) admin() *api.Client {
	c.t.Helper()
	transport := trusting(c.t, c.ca())
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, c.emulator.Address)
	}
	c.t.Cleanup(transport.CloseIdleConnections)
	return (&api.Client{
		Endpoint: "https://" + region + ".log.aliyuncs.com", Region: region, AuthVersion: api.AuthV4,
		HTTPClient: &http.Client{Transport: transport}, RequestTimeOut: time.Minute, RetryTimeOut: time.Minute,
	}).WithCredentialsProvider(api.NewStaticCredentialsProvider(c.emulator.ID, c.emulator.Secret, ""))
}

type lasting struct{ id, secret string }

func (l lasting) AccessKey(context.Context, bool) (id string, secret, token hidden.Text, err error) {
	return l.id, hidden.New(l.secret), hidden.Text{}, nil
}

func (l lasting) Get(context.Context) (id string, secret, token hidden.Text, err error) {
	return l.id, hidden.New(l.secret), hidden.Text{}, nil
}

func (l lasting) Refresh(context.Context) (id string, secret, token hidden.Text, err error) {
	return l.id, hidden.New(l.secret), hidden.Text{}, nil
}

// ask makes a request of the emulator's control API.
func (c *cloud) ask(method, path, body string) []byte {
	c.t.Helper()
	req, err := http.NewRequest(method, c.emulator.Control+"/"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.control.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s: %s %v", method, path, resp.Status, b, err)
	}
	return b
}

// state sets the state of a CMK.
func (c *cloud) state(cmk, state string) {
	c.t.Helper()
	c.ask("PUT", "keys/"+cmk+"/state", `"`+state+`"`)
}

// count returns how many requests there were of an operation, or of an
// operation and status.
func (c *cloud) count(operation string) int {
	c.t.Helper()
	counters := make(map[string]int)
	if err := json.Unmarshal(c.ask("GET", "counters", ""), &counters); err != nil {
		c.t.Fatal(err)
	}
	return counters[operation]
}

// taken returns how many requests with envelopes the Logstore took that came
// after a time.
func (c *cloud) taken(after time.Time) (n int) {
	for _, r := range c.requests() {
		if r.Operation == "PutLogs" && r.Status == http.StatusOK && r.Time.After(after) {
			n++
		}
	}
	return n
}

func (c *cloud) requests() (rs []emul.Request) {
	c.t.Helper()
	if err := json.Unmarshal(c.ask("GET", "requests", ""), &rs); err != nil {
		c.t.Fatal(err)
	}
	return rs
}

// pull writes what is in the Logstore to a file and returns its name.
func (c *cloud) pull(r sls.Range) string {
	c.t.Helper()
	name := c.path("pulled.se1")
	f, err := os.Create(name)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	err = c.logstore.Pull(c.t.Context(), r, func(i *sls.Item) error {
		if i.Err != nil || i.Stub {
			return fmt.Errorf("shard %d: stub %v, %w", i.Shard, i.Stub, i.Err)
		}
		_, err := w.Write(i.Sealed)
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return name
}

// open opens all that is in the Logstore. While the agent ships, envelopes may
// come in any order.
func (c *cloud) open() (records []opened) {
	c.t.Helper()
	c.each(sls.Range{}, func(r *reader.Record) {
		if r.Event == "" {
			content := string(r.Content)
			records = append(records, opened{Inode: r.Inode, Offset: r.Offset, Path: r.Path, Content: &content})
		}
	})
	return records
}

// whole is open where all is shipped: the chain must be whole.
func (c *cloud) whole() []opened {
	c.t.Helper()
	records := c.open()
	if code := c.report.ExitCode(false); code != reader.ExitSound {
		for f := range c.report.All {
			c.t.Log(f)
		}
		c.t.Fatalf("what was pulled ends verify with %d", code)
	}
	return records
}

// each opens what is in the Logstore, records and events.
func (c *cloud) each(span sls.Range, yield func(*reader.Record)) {
	c.t.Helper()
	name := c.pull(span)
	signers, err := os.ReadFile(c.path("signers"))
	if err != nil {
		c.t.Fatal(err)
	}
	var o reader.Options
	if o.Signers, err = seal.ParseSigners(bytes.NewReader(signers)); err != nil {
		c.t.Fatal(err)
	}
	r := reader.New(o)
	f, err := os.Open(name)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if err := r.Add(reader.Source{
		Name: name, Open: func() (reader.File, error) { return os.Open(name) },
		Destination: seal.Context{"project": project, "logstore": logstore},
	}, f); err != nil {
		c.t.Fatal(err)
	}
	c.report = r.Verify()
	if err := r.Open(c.t.Context(), []seal.Unwrapper{c.kms}, func(rec *reader.Record) error {
		yield(rec)
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}
