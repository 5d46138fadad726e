//go:build systemd

package systemd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A cloud is the emulator as a service of the machine: the key service and the
// Logstore of its agent.
type cloud struct {
	m       *machine
	control *http.Client
	URL     string `json:"control"`
	Address string
	CAFile  string `json:"ca_file"`
	ID      string `json:"access_key_id"`
	Secret  string `json:"access_key_secret"`
	CMKs    map[string]string
	Roles   map[string]string
}

// installCloud installs the older version and configures it for an emulated
// cloud.
func installCloud(t *testing.T, key string) (*machine, *cloud) {
	t.Helper()
	m := boot(t)
	m.run("dpkg", "-i", deb("sealtail", older), deb("sealtail-reader", older))
	m.run("systemd-run", "--quiet", "--unit", "emulator", "-p", "StandardOutput=file:/run/emulator.json", "/debs/sealtail-emulator",
		"--tls", "--project", "prod", "--cmk", "data", "--cmk", "store", "--role", "sls")
	c := &cloud{m: m}
	m.until("the emulator", func() bool { return json.Unmarshal([]byte(m.try("cat", "/run/emulator.json")), c) == nil })
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(m.run("cat", c.CAFile))) {
		t.Fatal("the emulator has no CA")
	}
	c.control = &http.Client{Transport: &http.Transport{DialContext: m.dial, TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	m.run("install", "-o", "sealtail", "-m", "0600", c.CAFile, "/etc/sealtail/ca.pem")
	m.sh(fmt.Sprintf(`printf %s >/etc/sealtail/id; printf %s >/etc/sealtail/secret
		chown sealtail /etc/sealtail/id /etc/sealtail/secret; chmod 0600 /etc/sealtail/id /etc/sealtail/secret
		install -d -o root -g adm -m 0750 /var/log/app`, c.ID, c.Secret))
	m.write("/etc/sealtail/sealtail.toml", fmt.Sprintf(`
[key.kms]
provider = "alikms"
endpoint = "https://kms.cn-hangzhou.aliyuncs.com"
key_id = %[1]q
credentials = %[2]s
route = %[3]s
%[4]s

[sink.logs]
type = "sls"
endpoint = "https://cn-hangzhou.log.aliyuncs.com"
region = "cn-hangzhou"
project = "prod"
logstore = "sealed"
retry_max = "500ms"
credentials = %[2]s
route = %[3]s
encryption = { type = "m4", cmk_key_id = "store", arn = %[5]q, region_id = "cn-hangzhou" }

[[stream]]
name = "app"
include = ["/var/log/app/*.log"]
suite = "sm4-gcm"
key = "kms"
sink = "logs"
`, c.CMKs["data"], `{ type = "file", access_key_id_file = "/etc/sealtail/id", access_key_secret_file = "/etc/sealtail/secret" }`,
		fmt.Sprintf(`{ ca_file = "/etc/sealtail/ca.pem", dial_address = %q }`, c.Address), key, c.Roles["sls"]))
	m.sh(`as="setpriv --reuid sealtail --regid sealtail --clear-groups"
		$as sealtail provision -c /etc/sealtail/sealtail.toml
		$as sealtail identity -c /etc/sealtail/sealtail.toml >/root/signers
		cp /etc/sealtail/id /etc/sealtail/secret /root/
		sed 's,"/etc/sealtail/\(id\|secret\)","/root/\1",g' /etc/sealtail/sealtail.toml >/root/reader.toml`)
	m.sealed = []string{"-c", "/root/reader.toml"}
	return m, c
}

// dial connects to an address in the machine's network.
func (m *machine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	runtime.LockOSThread() // and never unlocked if it cannot return: the thread ends
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer here.Close()
	there, err := os.Open("/proc/" + m.leader + "/ns/net")
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return conn, err
}

// ask asks the emulator's control API.
func (c *cloud) ask(method, what, body string) {
	c.m.t.Helper()
	req, err := http.NewRequestWithContext(c.m.t.Context(), method, strings.TrimSuffix(c.URL, "/")+"/"+what, bytes.NewBufferString(body))
	if err != nil {
		c.m.t.Fatal(err)
	}
	resp, err := c.control.Do(req)
	if err != nil {
		c.m.t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		c.m.t.Fatalf("%s %s: %s %s %v", method, what, resp.Status, b, err)
	}
}

// silence has the emulator neither answer nor take connections; speak undoes it.
func (c *cloud) silence() {
	c.m.t.Helper()
	c.m.run("systemctl", "kill", "-s", "STOP", "emulator")
}

func (c *cloud) speak() {
	c.m.t.Helper()
	c.m.run("systemctl", "kill", "-s", "CONT", "emulator")
}
