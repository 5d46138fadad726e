package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A cloudTour is act two: the same host, and a Logstore of an emulator.
//
//	DIR/host/{logs, sealtail.toml, access-key.*, state}
//	DIR/office/{reader.toml, access-key.*, signers}
//	DIR/cloud/data, what SLS keeps
type cloudTour struct {
	*tour
	emulator *emulator
}

func (t *cloudTour) steps() []step {
	return []step{t.cloud, t.provision, t.rights, t.follow, t.look, t.revoke, t.lock, t.prove}
}

// Two CMKs: one wraps data keys, the other is the Logstore's own.
const (
	dataCMK  = "data"
	storeCMK = "store"
)

func (t *cloudTour) cloud(ctx context.Context) error {
	t.title("Cloud: Log Service and KMS, emulated on this machine")
	for _, dir := range []string{"host", "office", "cloud/data"} {
		if err := os.MkdirAll(t.path(dir), 0o700); err != nil {
			return err
		}
	}
	args := []string{"--tls", "--project", "demo-logs", "--cmk", dataCMK + "=Aliyun_SM4", "--cmk", storeCMK + "=Aliyun_SM4",
		"--role", "sls", "--data", t.path("cloud/data")}
	t.command("sealtail-emulator", args...)
	var err error
	if t.emulator, err = startEmulator(filepath.Join(t.bin, "sealtail-emulator"), args...); err != nil {
		return err
	}
	t.say("Two master keys (CMKs): %q wraps the agent's data keys; %q is the Logstore's own, used by SLS.", dataCMK, storeCMK)
	return nil
}

const cloudConfig = `[agent]
state_dir = "DIR/host/state"
host = "demo-host"

[key.kms]
provider = "alikms"
endpoint = "https://kms.cn-hangzhou.aliyuncs.com"
key_id = "DATA_CMK"
credentials = { type = "file", access_key_id_file = "DIR/host/access-key.id", access_key_secret_file = "DIR/host/access-key.secret" }
route = { ca_file = "CA", dial_address = "ADDRESS" }  # the emulator
refresh = "2s"            # short, for a short tour
confirm = "2s"
retry_max = "2s"
retry_revoked = "2s"

[sink.logstore]
type = "sls"
endpoint = "https://cn-hangzhou.log.aliyuncs.com"
region = "cn-hangzhou"
project = "demo-logs"
logstore = "audit"
encryption = { type = "m4", cmk_key_id = "store", arn = "ROLE", region_id = "cn-hangzhou" }
credentials = { type = "file", access_key_id_file = "DIR/host/access-key.id", access_key_secret_file = "DIR/host/access-key.secret" }
route = { ca_file = "CA", dial_address = "ADDRESS" }
retry_max = "2s"

[[stream]]
name = "web"
include = ["DIR/host/logs/web/*.log*"]
suite = "aes-256-gcm"
key = "kms"
sink = "logstore"
batch = { max_age = "200ms" }

[[stream]]
name = "audit"
include = ["DIR/host/logs/audit/*.log*"]
suite = "sm4-gcm"
key = "kms"
sink = "logstore"
batch = { max_age = "200ms" }
`

const readerConfig = `[reader]
credentials = { type = "file", access_key_id_file = "DIR/office/access-key.id", access_key_secret_file = "DIR/office/access-key.secret" }

[key.kms]
provider = "alikms"
endpoint = "https://kms.cn-hangzhou.aliyuncs.com"
key_id = "DATA_CMK"
route = { ca_file = "CA", dial_address = "ADDRESS" }

[sink.logstore]
type = "sls"
endpoint = "https://cn-hangzhou.log.aliyuncs.com"
region = "cn-hangzhou"
project = "demo-logs"
logstore = "audit"
route = { ca_file = "CA", dial_address = "ADDRESS" }
`

// provision writes the configs and creates the Logstore.
func (t *cloudTour) provision(ctx context.Context) error {
	t.title("Provision: a Logstore that SLS encrypts with SM4 under its own CMK (BYOK)")
	e := t.emulator
	fill := strings.NewReplacer("DIR", t.dir, "DATA_CMK", e.CMKs[dataCMK], "CA", e.CAFile, "ADDRESS", e.Address, "ROLE", e.Roles["sls"])
	for name, text := range map[string]string{"host/sealtail.toml": cloudConfig, "office/reader.toml": readerConfig} {
		if err := os.WriteFile(t.path(name), []byte(fill.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	sink := cloudConfig[strings.Index(cloudConfig, "[sink"):strings.Index(cloudConfig, "\n[[stream")]
	t.show(fill.Replace(sink))
	var err error
	if t.web, err = t.logs.create("web/access.log"); err != nil {
		return err
	}
	if t.audit, err = t.logs.create("audit/audit.log"); err != nil {
		return err
	}
	args := []string{"provision", "-c", t.agent.config, "--env"}
	t.command("sealtail", args...)
	cmd := exec.CommandContext(ctx, filepath.Join(t.bin, "sealtail"), args...)
	cmd.Env = append(os.Environ(), "ALIBABA_CLOUD_ACCESS_KEY_ID="+e.AccessKeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET="+e.AccessKeySecret)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("sealtail provision: %w\n%s", err, out)
	}
	t.show(string(out))
	return nil
}

// rights gives agent and reader an access key each that may do what it must.
func (t *cloudTour) rights(ctx context.Context) error {
	t.title("Rights: the agent may not decrypt, the reader may not write")
	printed, err := t.do(ctx, "sealtail", "provision", "-c", t.agent.config, "--print-policies")
	if err != nil {
		return err
	}
	policies := policiesOf(printed)
	for _, who := range []struct{ name, dir string }{{"agent", "host"}, {"reader", "office"}} {
		policy, secret := policies["sealtail-"+who.name], "secret-of-the-"+who.name
		if policy == "" {
			return fmt.Errorf("no policy for the %s is printed", who.name)
		}
		body := fmt.Sprintf(`{"access_key_secret": %q, "policies": [%s]}`, secret, policy)
		if _, err := t.emulator.control(ctx, "PUT", "credentials/DEMO-"+who.name, body); err != nil {
			return err
		}
		for ext, text := range map[string]string{"id": "DEMO-" + who.name, "secret": secret} {
			if err := os.WriteFile(t.path(who.dir+"/access-key."+ext), []byte(text), 0o600); err != nil {
				return err
			}
		}
		actions := regexp.MustCompile(`"((?:log|kms):[A-Za-z*]+)"`).FindAllStringSubmatch(policy, -1)
		var names []string
		for _, a := range actions {
			if !slices.Contains(names, a[1]) {
				names = append(names, a[1])
			}
		}
		t.say("%-7s %s", who.name, strings.Join(names, ", "))
	}
	checked, err := t.do(ctx, "sealtail", "check", "-c", t.agent.config, "--online")
	if err != nil {
		return err
	}
	if i := strings.Index(checked, "\nkey kms\n"); i >= 0 {
		checked = checked[i+1:]
	}
	t.show(checked)
	signers, _, err := t.quiet(ctx, "sealtail", "identity", "-c", t.agent.config)
	if err != nil {
		return err
	}
	return os.WriteFile(t.path("office/signers"), []byte(signers), 0o600)
}

// policiesOf reads what provision --print-policies prints, by name.
func policiesOf(text string) map[string]string {
	ps, name := make(map[string]string), ""
	for line := range strings.Lines(text) {
		switch said, about := strings.CutPrefix(line, "# "); {
		case !about:
			ps[name] += line
		case strings.Contains(said, ": for "):
			name, _, _ = strings.Cut(said, ":")
		}
	}
	return ps
}

// look shows one log as a reader gets it, and the bytes that SLS keeps.
func (t *cloudTour) look(ctx context.Context) error {
	t.title("Look: what the Logstore holds")
	args := append([]string{"inspect"}, t.inputs...)
	inspected, err := t.do(ctx, "sealtail-reader", args...)
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(inspected, "\n\n")
	t.show(first)
	rest, err := t.emulator.control(ctx, "GET", "atrest?project=demo-logs&logstore=audit", "")
	if err != nil {
		return err
	}
	if len(rest) < 64 {
		return errors.New("nothing lies at rest")
	}
	t.say("Whoever reads the Logstore sees no more than that. Its disks hold even less, for SLS encrypted it again:")
	t.show(hex.Dump(rest[:64]))
	// demo-host is in clear in each log as it is sent.
	if bytes.Contains(rest, []byte("demo-host")) {
		return errors.New("what lies at rest is not encrypted again")
	}
	return nil
}

// state changes the state of a CMK, as a person would in the KMS's console.
func (t *cloudTour) state(ctx context.Context, cmk, state string) error {
	fmt.Printf("  $ curl -X PUT -d '%q' CONTROL/keys/%s/state\n", state, cmk)
	_, err := t.emulator.control(ctx, "PUT", "keys/"+cmk+"/state", fmt.Sprintf("%q", state))
	return err
}

// revoke takes the data key's CMK away for a while.
func (t *cloudTour) revoke(ctx context.Context) error {
	t.title("Disable the data key's CMK: sealing pauses, the files buffer and rotate")
	from := t.agent.logSize()
	if err := t.state(ctx, dataCMK, "Disabled"); err != nil {
		return err
	}
	said, err := t.agent.says(ctx, "sealing paused", from)
	if err != nil {
		return err
	}
	t.say("The agent's log:")
	t.show(said)
	before := t.logs.written()
	for range 2 {
		if err := errors.Join(t.web.grow(1000), t.audit.grow(1000)); err != nil {
			return err
		}
		if err := t.rotateBoth("rotated during the pause"); err != nil {
			return err
		}
	}
	t.say("%d lines were written just now, and both files rotated twice; all wait in the files.", t.logs.written()-before)
	if err := t.state(ctx, dataCMK, "Enabled"); err != nil {
		return err
	}
	return t.arrived(ctx)
}

// lock takes the Logstore's own CMK away for a while.
func (t *cloudTour) lock(ctx context.Context) error {
	t.title("Disable the Logstore's CMK: all its reads and writes fail, the spool buffers")
	from := t.agent.logSize()
	if err := t.state(ctx, storeCMK, "Disabled"); err != nil {
		return err
	}
	t.command("sealtail-reader", append([]string{"verify"}, t.inputs...)...)
	if _, said, err := t.quiet(ctx, "sealtail-reader", append([]string{"verify"}, t.inputs...)...); err == nil {
		return errors.New("the Logstore can be read without its CMK")
	} else {
		t.show(said)
	}
	kept, _, err := t.spooled(ctx)
	if err != nil {
		return err
	}
	const lines = 4000
	if err := errors.Join(t.web.grow(lines/2), t.audit.grow(lines/2)); err != nil {
		return err
	}
	t.web.fate, t.audit.fate = "grown while the Logstore was locked", "grown while the Logstore was locked"
	said, err := t.agent.says(ctx, "store refused", from)
	if err != nil {
		return err
	}
	t.say("The agent's log:")
	t.show(said)
	var spool string
	if err := waitFor(ctx, "the spool to fill", func() (bool, error) {
		var n int
		var err error
		n, spool, err = t.spooled(ctx)
		return n >= kept+2, errors.Join(err, t.agent.alive()) // of each stream one
	}); err != nil {
		return err
	}
	t.say("%d lines were written just now. They are sealed, and wait in the spool:", lines)
	t.command("sealtail-reader", "verify", "--spool", t.path("host/state"))
	t.show(lastLines(spool, 1))
	if err := t.state(ctx, storeCMK, "Enabled"); err != nil {
		return err
	}
	return t.arrived(ctx)
}

// spooled returns how many envelopes the spools hold, and what the reader says
// of them.
func (t *cloudTour) spooled(ctx context.Context) (n int, said string, err error) {
	said, errs, err := t.quiet(ctx, "sealtail-reader", "verify", "--spool", t.path("host/state"))
	if err != nil && !strings.Contains(errs, "nothing to verify") {
		return 0, "", fmt.Errorf("sealtail-reader verify --spool: %w\n%s", err, said+errs)
	}
	for _, stream := range regexp.MustCompile(`(?m)^stream .*: (\d+) envelopes?$`).FindAllStringSubmatch(said, -1) {
		of, err := strconv.Atoi(stream[1])
		if err != nil {
			return 0, "", err
		}
		n += of
	}
	return n, said, nil
}

// prove stops the agent, verifies, opens and counts.
func (t *cloudTour) prove(ctx context.Context) error {
	t.title("Prove: stop, verify, open by KMS, count")
	if err := t.stopAndCount(ctx, 4); err != nil {
		return err
	}
	rest, err := t.emulator.control(ctx, "GET", "atrest", "")
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.path("cloud/atrest"), rest, 0o600); err != nil {
		return err
	}
	if err := t.inClear("host/state", "agent.log", "cloud"); err != nil {
		return err
	}
	t.say("No line is in clear in state or log of the agent, or at rest in the Logstore.")
	return nil
}
