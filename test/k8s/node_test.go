package k8s_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	nodeName = "testnode"
	nodeIP   = "10.244.9.1"
	socket   = "/run/containerd/containerd.sock"
)

// A node is a cluster: etcd, the control plane, containerd and kubelet, in the
// namespaces that the script run made for this process.
type node struct {
	dir, bin string
	plane    []*exec.Cmd // survives a reboot
	machine  []*exec.Cmd // does not
	shipped  []string    // where the reader finds what was
}

// newNode brings the cluster up; boot does the rest.
func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{dir: os.Getenv("K8S_DIR"), bin: os.Getenv("K8S_BIN")}
	if n.dir == "" || n.bin == "" {
		t.Fatal("run this by make test-k8s: it needs namespaces of its own")
	}
	for _, dir := range []string{"bin", "etcd", "certs", "containerd", "cni", "log", "kubelet", "cniState", "truth", "state"} {
		if err := os.Mkdir(n.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, program := range map[string]string{
		"kube-apiserver": "node", "kube-controller-manager": "node", "kube-scheduler": "node", "kubelet": "node", "kubectl": "node",
		"kube-router": "kube-router",
	} {
		if err := os.Symlink(filepath.Join(n.bin, program), n.path("bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	n.system(t)
	n.files(t)
	t.Cleanup(func() {
		for _, c := range append(n.machine, n.plane...) {
			c.Process.Kill()
			c.Wait()
		}
		n.killOthers()
	})

	admin := "--kubeconfig=" + n.path("admin.yaml")
	n.start(t, &n.plane, "etcd", "--data-dir", n.path("etcd"), "--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380")
	n.start(t, &n.plane, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--secure-port=443", "--bind-address=0.0.0.0",
		"--advertise-address="+nodeIP, "--service-cluster-ip-range=10.96.0.0/16", "--cert-dir="+n.path("certs"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+n.path("sa.pem"),
		"--service-account-signing-key-file="+n.path("sa.pem"), "--token-auth-file="+n.path("tokens"),
		"--authorization-mode=Node,RBAC", "--kubelet-preferred-address-types=InternalIP,Hostname", "--allow-privileged=true")
	n.start(t, &n.plane, "kube-controller-manager", admin, "--leader-elect=false", "--service-account-private-key-file="+n.path("sa.pem"))
	n.start(t, &n.plane, "kube-scheduler", admin, "--leader-elect=false")
	n.boot(t)
	eventually(t, "API server", time.Minute, func() error { _, err := n.try("kubectl", "get", "--raw=/readyz"); return err })
	eventually(t, "service account", time.Minute, func() error {
		_, err := n.try("kubectl", "get", "serviceaccount", "default")
		return err
	})
	n.ready(t)
	return n
}

func (n *node) path(elem ...string) string { return filepath.Join(append([]string{n.dir}, elem...)...) }

// system makes the namespaces look like a machine of its own. Nothing of it is
// left when they end.
func (n *node) system(t *testing.T) {
	t.Helper()
	run(t, "ip", "link", "set", "lo", "up")
	run(t, "ip", "addr", "add", nodeIP+"/32", "dev", "lo")
	run(t, "ip", "addr", "add", "10.96.0.1/32", "dev", "lo") // the API server's service
	for from, to := range map[string]string{
		"log": "/var/log", "kubelet": "/var/lib/kubelet", "cniState": "/var/lib/cni",
	} {
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, "mount", "--bind", n.path(from), to)
	}
	run(t, "mount", "--make-rshared", "/var/lib/kubelet")
	if err := os.Mkdir("/var/log/pods", 0o750); err != nil { // as the kubelet makes it
		t.Fatal(err)
	}
	for _, dir := range []string{"/run/containerd", "/run/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, "mount", "-t", "tmpfs", "tmpfs", dir)
	}
	run(t, "mount", "--make-shared", "/run/netns")
	// The kubelet would set these for the whole machine.
	for name, value := range map[string]string{
		"/proc/sys/vm/overcommit_memory": "1", "/proc/sys/kernel/panic": "10", "/proc/sys/kernel/panic_on_oops": "1",
	} {
		file := n.path("sysctl-" + filepath.Base(name))
		n.write(t, file, value+"\n")
		run(t, "mount", "--bind", file, name)
	}
}

func (n *node) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// files writes what the parts are configured with.
func (n *node) files(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, n.path("sa.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	n.write(t, n.path("tokens"), "admin-token,admin,admin,\"system:masters\"\nnode-token,system:node:"+nodeName+",node,\"system:nodes\"\n")
	for _, user := range []string{"admin", "node"} {
		n.write(t, n.path(user+".yaml"), `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: `+user+`-token}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`)
	}
	n.write(t, n.path("containerd.toml"), `
version = 2
root = "`+n.path("containerd")+`"
state = "/run/containerd"
[grpc]
address = "`+socket+`"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "`+n.path("cni")+`"
`)
	n.write(t, n.path("cni", "10-bridge.conflist"), `{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`)
	n.write(t, n.path("kubelet.yaml"), `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://`+socket+`
cgroupDriver: cgroupfs
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
resolvConf: ""
containerLogMaxSize: 1Mi
containerLogMaxFiles: 4
containerLogMonitorInterval: 3s
evictionHard: {memory.available: 100Mi}
# A crash loop of seconds, not of minutes.
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
`)
}

// start runs a part of the node in the background; what it says is in a file.
func (n *node) start(t *testing.T, list *[]*exec.Cmd, name string, args ...string) {
	t.Helper()
	log, err := os.OpenFile(n.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	path := n.path("bin", name)
	if _, err := os.Lstat(path); err != nil {
		path = name
	}
	c := exec.Command(path, args...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	*list = append(*list, c)
}

// boot starts what a machine starts.
func (n *node) boot(t *testing.T) {
	t.Helper()
	n.start(t, &n.machine, "containerd", "--config", n.path("containerd.toml"))
	eventually(t, "containerd", time.Minute, func() error { _, err := n.try("ctr", "version"); return err })
	n.start(t, &n.machine, "kubelet", "--config", n.path("kubelet.yaml"), "--kubeconfig", n.path("node.yaml"),
		"--hostname-override", nodeName, "--node-ip", nodeIP)
}

// crash ends every process of the machine at once, as a loss of power does, but
// for the page cache; what lies in /run is gone.
func (n *node) crash(t *testing.T) {
	t.Helper()
	for _, c := range n.machine {
		c.Process.Kill()
		c.Wait()
	}
	n.machine = nil
	n.killOthers()
	for _, dir := range []string{"/run/containerd", "/run/netns"} {
		for exec.Command("umount", "-l", dir).Run() == nil { // mounts lie over each other
		}
		run(t, "mount", "-t", "tmpfs", "tmpfs", dir)
	}
	run(t, "mount", "--make-shared", "/run/netns")
}

// killOthers ends every process here that is not the control plane or this
// test: containers and their shims.
func (n *node) killOthers() {
	keep := map[int]bool{1: true, os.Getpid(): true}
	for _, c := range n.plane {
		keep[c.Process.Pid] = true
	}
	for round := 0; round < 20; round++ {
		found := false
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			stat, err := os.ReadFile(dir + "/stat")
			if keep[pid] || err != nil || bytes.Contains(stat, []byte(") Z ")) {
				continue
			}
			found = true
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if !found {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (n *node) ready(t *testing.T) {
	t.Helper()
	eventually(t, "node", 2*time.Minute, func() error {
		out, err := n.try("kubectl", "get", "node", nodeName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out != "True" {
			err = fmt.Errorf("ready: %q", out)
		}
		return err
	})
}

// try runs a client and returns what it prints.
func (n *node) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	path := name
	switch name {
	case "kubectl":
		path = n.path("bin", name)
	case "ctr":
		args = append([]string{"--address", socket, "--namespace", "k8s.io"}, args...)
	case "helm":
		path = n.bin + "/helm"
	}
	c := exec.CommandContext(ctx, path, args...)
	c.Env = append(os.Environ(), "KUBECONFIG="+n.path("admin.yaml"), "HOME="+n.dir)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out), err
}

func (n *node) do(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := n.try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply applies a manifest.
func (n *node) apply(t *testing.T, manifest string) {
	t.Helper()
	file := n.path("manifest.yaml")
	n.write(t, file, manifest)
	n.do(t, "kubectl", "apply", "--validate=strict", "-f", file)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// eventually waits until ok returns nil.
func eventually(t *testing.T, what string, limit time.Duration, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not after %s: %v", what, limit, err)
}
