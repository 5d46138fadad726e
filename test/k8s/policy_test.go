package k8s_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cloudConfig is of the agent, of provision and of the reader: files are in
// DIR, and the cloud is at ADDRESS, a pod.
const cloudConfig = `
[key.main]
provider = "alikms"
endpoint = "https://kms.cn-hangzhou.aliyuncs.com"
key_id = "CMK"
credentials = { type = "file", access_key_id_file = "DIR/id", access_key_secret_file = "DIR/secret" }
route = { ca_file = "DIR/ca.pem", dial_address = "ADDRESS" }
retry_max = "1s"

[sink.main]
type = "sls"
endpoint = "https://cn-hangzhou.log.aliyuncs.com"
region = "cn-hangzhou"
project = "logs"
logstore = "containers"
encryption = { type = "default" }
credentials = { type = "file", access_key_id_file = "DIR/id", access_key_secret_file = "DIR/secret" }
route = { ca_file = "DIR/ca.pem", dial_address = "ADDRESS" }
retry_max = "1s"
`

// officeConfig follows it where logs are opened.
const officeConfig = `
[reader]
credentials = { type = "file", access_key_id_file = "DIR/id", access_key_secret_file = "DIR/secret" }
[[stream]]
name = "containers"
include = ["/var/log/pods/*/*/*.log"]
suite = "aes-256-gcm"
key = "main"
sink = "main"
`

// cloud runs Log Service and KMS in a pod, and has the agent ship to it.
func (n *node) cloud(t *testing.T) (ip string) {
	t.Helper()
	dir := n.path("cloud")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: cloud}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  containers:
    - name: emulator
      image: localhost/emulator:1
      imagePullPolicy: Never
      args: [--tls, --listen=127.0.0.1:9000, --project=logs, --cmk=data]
      volumeMounts: [{name: tmp, mountPath: /tmp}]
    - name: relay
      image: localhost/peer:1
      imagePullPolicy: Never
      args: [serve, -name=cloud, "-tcp=53,8080", "-udp=53,5353", "-relay=443,8443", "-to=127.0.0.1:9000"]
  volumes:
    - {name: tmp, hostPath: {path: %s}}
`, dir))
	ip = n.address(t, "cloud")
	var emulator struct {
		CAFile          string `json:"ca_file"`
		AccessKeyID     string `json:"access_key_id"`
		AccessKeySecret string `json:"access_key_secret"`
		CMKs            map[string]string
	}
	eventually(t, "emulator", time.Minute, func() error {
		said, err := n.try("kubectl", "logs", "cloud", "--container=emulator")
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(said), &emulator)
	})
	ca, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(emulator.CAFile, "/tmp")))
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, dir+"/ca.pem", string(ca))
	n.write(t, dir+"/id", emulator.AccessKeyID)
	n.write(t, dir+"/secret", emulator.AccessKeySecret)
	n.do(t, "kubectl", "-n", "sealtail", "create", "secret", "generic", "cloud-credentials",
		"--from-file="+dir+"/ca.pem", "--from-file="+dir+"/id", "--from-file="+dir+"/secret")

	fill := func(text, where string) string {
		return strings.NewReplacer("DIR", where, "ADDRESS", ip+":443", "CMK", emulator.CMKs["data"]).Replace(text)
	}
	n.write(t, dir+"/office.toml", fill(cloudConfig+officeConfig, dir))
	run(t, n.bin+"/sealtail", "provision", "-c", dir+"/office.toml")
	n.shipped = []string{"-c", dir + "/office.toml", "--from", "1h"}
	config, err := json.Marshal(fill(cloudConfig, "/etc/sealtail/credentials")) // JSON is YAML, too
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.path("cloudState"), 0o700); err != nil {
		t.Fatal(err)
	}
	n.write(t, n.path("cloud.yaml"), fmt.Sprintf("config: %s\ncredentials: {secretName: cloud-credentials}\nstate: {hostPath: %s}\n", config, n.path("cloudState")))
	n.upgrade(t, "-f", n.path("cloud.yaml"))
	return ip
}

// address returns a pod's, which it has once it runs.
func (n *node) address(t *testing.T, pod string) string {
	t.Helper()
	n.do(t, "kubectl", "wait", "--for=condition=Ready", "--timeout=1m", "pod/"+pod)
	return n.do(t, "kubectl", "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
}

// dials returns why an address is not reached in the network of the process that
// has a command line; "" is the node.
func (n *node) dials(t *testing.T, process, network, address string) error {
	t.Helper()
	pids := []string{strconv.Itoa(os.Getpid())}
	if process != "" {
		pids = processes(t, process)
	}
	if len(pids) != 1 {
		return fmt.Errorf("got processes %q of %q, want one", pids, process)
	}
	out, err := exec.Command("nsenter", "--target", pids[0], "--net", n.bin+"/peer", "dial", network, address).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// networkPolicy has kube-router enforce the chart's, while the agent gets its
// data keys and ships by network.
func networkPolicy(t *testing.T, n *node) {
	cloud := n.cloud(t)
	for _, pod := range []string{"prometheus", "stranger"} {
		n.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  containers:
    - {name: peer, image: "localhost/peer:1", imagePullPolicy: Never, args: [serve, -name=%[1]s, -tcp=9000]}
`, pod))
	}
	stranger := n.address(t, "stranger")
	n.address(t, "prometheus")
	const (
		agent           = "/usr/bin/sealtail\x00run"
		peer            = "/peer\x00serve\x00-name="
		fromPrometheus  = peer + "prometheus"
		fromStranger    = peer + "stranger"
		fromNode        = ""
		passes, refused = true, false
	)
	type flow struct {
		what, from, network, to string
		want                    bool
	}
	flows := func(all ...flow) {
		t.Helper()
		for _, f := range all {
			eventually(t, f.what, time.Minute, func() error { // kube-router follows within a second or so
				err := n.dials(t, f.from, f.network, f.to)
				if (err == nil) != f.want {
					return fmt.Errorf("passes: %t, want %t: %v", err == nil, f.want, err)
				}
				return nil
			})
		}
	}
	status := func() string {
		return n.do(t, "kubectl", "-n", "sealtail", "get", "pod", n.agent(t), "-o", "jsonpath={.status.podIP}") + ":19470"
	}
	write := func(pod string) {
		n.writer(t, pod, "-lines=1000")
		n.done(t, pod, 1)
	}

	flows(
		flow{"nothing enforced: out to a port not named", agent, "tcp", cloud + ":8080", passes},
		flow{"nothing enforced: in from anybody", fromStranger, "tcp-open", status(), passes},
	)
	write("open")
	n.wholly(t, "open")

	n.start(t, &n.machine, "kube-router", "--kubeconfig", n.path("admin.yaml"), "--hostname-override", nodeName,
		"--run-router=false", "--run-service-proxy=false", "--enable-cni=false", "--service-cluster-ip-range=10.96.0.0/16")
	flows(
		flow{"out to a port not named", agent, "tcp", cloud + ":8080", refused},
		flow{"out to the cloud", agent, "tcp-open", cloud + ":443", passes},
		flow{"out to DNS", agent, "udp", cloud + ":53", passes},
		flow{"out to DNS by TCP", agent, "tcp", cloud + ":53", passes},
		flow{"out by UDP", agent, "udp", cloud + ":5353", refused},
		flow{"out to another pod", agent, "tcp", stranger + ":9000", refused},
		flow{"in from a pod", fromStranger, "tcp-open", status(), refused},
		flow{"in from the node", fromNode, "tcp-open", status(), passes},
		flow{"between other pods", fromStranger, "tcp", cloud + ":8080", passes},
	)
	write("limited")
	n.wholly(t, "limited")

	n.do(t, "helm", "upgrade", "sealtail", product+"/packaging/helm/sealtail", "-n", "sealtail", "-f", n.path("values.yaml"), "-f", n.path("cloud.yaml"),
		"--set=networkPolicy.egressPorts={8443}", `--set-json=networkPolicy.metricsFrom=[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}, "podSelector": {"matchLabels": {"app": "prometheus"}}}]`)
	flows(flow{"out to the cloud, closed", agent, "tcp-open", cloud + ":443", refused})
	// What is connected stays so: end it.
	for _, pid := range processes(t, peer+"cloud") {
		run(t, "kill", "-KILL", pid)
	}
	flows(
		flow{"out to the port that is named now", agent, "tcp-open", cloud + ":8443", passes},
		flow{"in from who may", fromPrometheus, "tcp-open", status(), passes},
		flow{"in from who may not", fromStranger, "tcp-open", status(), refused},
	)
	write("closed")
	eventually(t, "status to tell that the sink is out of reach", time.Minute, func() error {
		out, err := n.try("kubectl", "-n", "sealtail", "exec", n.agent(t), "--", "/usr/bin/sealtail", "status", "-c", "/etc/sealtail/sealtail.toml")
		if err == nil || !strings.Contains(out, "connection refused") {
			return fmt.Errorf("status: %v\n%s", err, out)
		}
		return nil
	})
	n.upgrade(t, "-f", n.path("cloud.yaml"))
	n.wholly(t, "closed")
}

// wholly waits until every line of a pod is opened, once.
func (n *node) wholly(t *testing.T, pod string) {
	t.Helper()
	eventually(t, "lines of "+pod, time.Minute, func() error {
		runs := n.runs(t)
		n.open(t, runs)
		s := sums(runs)[pod]
		if s == nil || s.lines == 0 || s.missing > 0 || s.repeated > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}
