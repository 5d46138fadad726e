// Package k8s_test installs the chart on a real node: the control plane,
// kubelet, containerd and runc, with pods that log in every way that loses
// lines elsewhere, and opens what the agent shipped.
package k8s_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

const product = "../.."

const values = `
image: {repository: localhost/sealtail, tag: "1", pullPolicy: Never}
credentials: {secretName: sealtail-credentials}
config: |
  [key.main]
  provider = "keyring"
  file = "/etc/sealtail/credentials/keyring.json"
  [sink.main]
  type = "dir"
  path = "/sealed/out"
containerLogs:
  more: |
    batch = { max_age = "200ms" }
extraVolumes:
  - name: sealed
    hostPath: {path: %s, type: Directory}
extraVolumeMounts:
  - {name: sealed, mountPath: /sealed}
`

// writer is a pod of the test.
func (n *node) writer(t *testing.T, name string, flags ...string) {
	t.Helper()
	args := append([]string{"-name=" + name}, flags...)
	n.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 20
  containers:
    - name: writer
      image: localhost/writer:1
      imagePullPolicy: Never
      args: ["%s"]
      volumeMounts: [{name: truth, mountPath: /truth}]
  volumes:
    - {name: truth, hostPath: {path: %s}}
`, name, strings.Join(args, `", "`), n.path("truth")))
}

// done waits until a run of the pod ended by itself, with so many lines.
func (n *node) done(t *testing.T, pod string, runs int) {
	t.Helper()
	eventually(t, pod, 3*time.Minute, func() error {
		ended := 0
		for name, r := range n.runs(t) {
			if strings.HasPrefix(name, pod+"-") && r.done > 0 {
				ended++
			}
		}
		if ended < runs {
			return fmt.Errorf("%d of %d runs ended", ended, runs)
		}
		return nil
	})
}

func (n *node) agent(t *testing.T) string {
	t.Helper()
	return n.do(t, "kubectl", "-n", "sealtail", "get", "pods", "-l", "app.kubernetes.io/name=sealtail",
		"--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.name}")
}

// install makes images and secret and installs the chart.
func (n *node) install(t *testing.T) {
	t.Helper()
	image(t, n.path("pause.tar"), "localhost/pause:1", n.bin+"/writer", "pause")
	image(t, n.path("writer.tar"), "localhost/writer:1", n.bin+"/writer", "writer", "bin/chown")
	image(t, n.path("agent.tar"), "localhost/sealtail:1", n.bin+"/sealtail", "usr/bin/sealtail")
	for _, name := range []string{"pause", "writer", "agent"} {
		n.do(t, "ctr", "images", "import", n.path(name+".tar"))
	}
	n.do(t, "ctr", "images", "tag", "localhost/sealtail:1", "localhost/sealtail:2")

	run(t, n.bin+"/sealtail", "keyring", "new", "-f", n.path("offline.json"), "--kind", "hpke-mlkem768-x25519")
	run(t, n.bin+"/sealtail", "keyring", "export-public", "-f", n.path("offline.json"), "--out", n.path("keyring.json"))
	n.do(t, "kubectl", "apply", "-f", product+"/packaging/kubernetes/namespace.yaml")
	n.do(t, "kubectl", "-n", "sealtail", "create", "secret", "generic", "sealtail-credentials", "--from-file="+n.path("keyring.json"))
	// What users apply without Helm is taken by the API server as it is.
	n.do(t, "kubectl", "apply", "--dry-run=server", "--validate=strict", "-k", product+"/packaging/kubernetes")
	n.write(t, n.path("values.yaml"), fmt.Sprintf(values, n.path("sealed")))
	n.do(t, "helm", "install", "sealtail", product+"/packaging/helm/sealtail", "-n", "sealtail", "-f", n.path("values.yaml"))
	n.rolledOut(t)
}

// rolledOut waits until the agent is ready as the newest values say. Helm's
// --wait is content with none: one node may be unavailable.
func (n *node) rolledOut(t *testing.T) {
	t.Helper()
	_, err := n.try("kubectl", "-n", "sealtail", "rollout", "status", "daemonset/sealtail", "--timeout=100s")
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, n.do(t, "kubectl", "-n", "sealtail", "describe", "pods"),
			n.do(t, "kubectl", "-n", "sealtail", "logs", "daemonset/sealtail", "--tail=30"))
	}
}

// rights holds the running agent to what the chart says of it.
func (n *node) rights(t *testing.T) {
	t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil {
			continue
		}
		cmd, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		if !strings.HasPrefix(string(cmd), "/usr/bin/sealtail\x00run") {
			continue
		}
		found = true
		status, err := os.ReadFile("/proc/" + d.Name() + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000",
			"NoNewPrivs:\t1", "Seccomp:\t2", "Uid:\t0\t0\t0\t0",
		} {
			if !strings.Contains(string(status), "\n"+want+"\n") {
				t.Errorf("agent: want %q in\n%s", want, status)
			}
		}
	}
	if !found {
		t.Error("no agent runs")
	}
}

// TestEveryLine has pods log through all that happens to a node, and opens
// every line once.
func TestEveryLine(t *testing.T) {
	step := time.Now()
	tell := func(what string) {
		t.Logf("%s: %s", what, time.Since(step).Round(100*time.Millisecond))
		step = time.Now()
	}
	n := newNode(t)
	tell("node ready")
	n.install(t)
	tell("chart installed")
	n.rights(t)

	n.writer(t, "fast", "-lines=300000", "-sizes=200")
	n.writer(t, "both", "-lines=5000", "-sizes=50,300", "-rate=1000", "-both")
	n.writer(t, "partial", "-lines=700", "-sizes=100,16383,16384,16385,32768,40010,100000")
	n.writer(t, "loop", "-lines=300", "-exit=1")
	n.writer(t, "slow", "-lines=1000000", "-rate=200")
	for i := range 5 {
		n.writer(t, fmt.Sprintf("brief%d", i), "-lines=1000000", "-sizes=300", "-rate=2000")
	}
	n.done(t, "fast", 1)
	n.done(t, "both", 1)
	n.done(t, "partial", 1)
	n.done(t, "loop", 4)
	tell("written: fast, both, partial, 4 crashes of loop")
	for i := range 5 {
		n.do(t, "kubectl", "delete", "pod", fmt.Sprintf("brief%d", i), "--wait=false")
	}

	before := n.agent(t)
	n.writer(t, "update", "-lines=100000", "-sizes=200", "-rate=5000")
	n.do(t, "helm", "upgrade", "sealtail", product+"/packaging/helm/sealtail", "-n", "sealtail", "-f", n.path("values.yaml"),
		"--set-string", "image.tag=2")
	n.rolledOut(t)
	if now := n.agent(t); now == before || now == "" {
		t.Errorf("after the update: got agent %q, had %q", now, before)
	}
	n.rights(t)
	tell("agent updated")
	n.done(t, "update", 1)
	tell("written: update")

	n.crash(t)
	n.boot(t)
	tell("node crashed")
	n.done(t, "loop", 8)
	n.ready(t)
	n.rolledOut(t)
	tell("node back")

	n.do(t, "kubectl", "delete", "pod", "--all", "--timeout=2m")
	tell("pods deleted")
	n.complete(t, 2*time.Minute)
	tell("opened")
	if t.Failed() {
		t.Log(n.do(t, "kubectl", "-n", "sealtail", "logs", "daemonset/sealtail", "--tail=30"))
	}
	n.do(t, "helm", "uninstall", "sealtail", "-n", "sealtail", "--wait", "--timeout=2m")
}
