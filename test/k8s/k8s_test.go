// Package k8s_test installs the chart on a real node: the control plane,
// kubelet, containerd and runc, with pods that log in every way that loses
// lines elsewhere, and opens what the agent shipped.
package k8s_test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
  path = "/var/lib/sealtail/sealed"
containerLogs:
  more: |
    batch = { max_age = "200ms" }
hostLogs: {include: ["/var/log/host*"]}
state: {hostPath: %s}
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
	for _, i := range []struct {
		tag, program string
		names        []string
	}{
		{"pause", "writer", []string{"pause"}},
		{"writer", "writer", []string{"writer", "bin/chown"}},
		{"sealtail", "sealtail", []string{"usr/bin/sealtail"}},
		{"emulator", "sealtail-emulator", []string{"emulator"}},
		{"peer", "peer", []string{"peer"}},
	} {
		archive := n.path(i.tag + ".tar")
		image(t, archive, "localhost/"+i.tag+":1", n.bin+"/"+i.program, i.names...)
		n.do(t, "ctr", "images", "import", archive)
	}
	n.do(t, "ctr", "images", "tag", "localhost/sealtail:1", "localhost/sealtail:2")

	run(t, n.bin+"/sealtail", "keyring", "new", "-f", n.path("offline.json"), "--kind", "hpke-mlkem768-x25519")
	run(t, n.bin+"/sealtail", "keyring", "export-public", "-f", n.path("offline.json"), "--out", n.path("keyring.json"))
	n.do(t, "kubectl", "apply", "-f", product+"/packaging/kubernetes/namespace.yaml")
	n.do(t, "kubectl", "-n", "sealtail", "create", "secret", "generic", "sealtail-credentials", "--from-file="+n.path("keyring.json"))
	// What users apply without Helm is taken by the API server as it is.
	n.do(t, "kubectl", "apply", "--dry-run=server", "--validate=strict", "-k", product+"/packaging/kubernetes")
	n.shipped = []string{"--keyring", n.path("offline.json"), "--dir", n.path("state", "sealed")}
	n.write(t, n.path("values.yaml"), fmt.Sprintf(values, n.path("state")))
	n.upgrade(t)
}

// upgrade installs the chart, or changes what it was installed with.
func (n *node) upgrade(t *testing.T, set ...string) {
	t.Helper()
	n.do(t, "helm", append([]string{"upgrade", "--install", "sealtail", product + "/packaging/helm/sealtail",
		"-n", "sealtail", "-f", n.path("values.yaml")}, set...)...)
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
func (n *node) rights(t *testing.T, uid int, caps uint64) {
	t.Helper()
	pids := processes(t, "/usr/bin/sealtail\x00run")
	if len(pids) == 0 {
		t.Error("no agent runs")
	}
	for _, pid := range pids {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			fmt.Sprintf("CapEff:\t%016x", caps), fmt.Sprintf("CapBnd:\t%016x", caps), "NoNewPrivs:\t1", "Seccomp:\t2",
			fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d", uid),
		} {
			if !strings.Contains(string(status), "\n"+want+"\n") {
				t.Errorf("agent: want %q in\n%s", want, status)
			}
		}
	}
}

// processes returns the ids of those whose command line begins so.
func processes(t *testing.T, command string) (pids []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if b, _ := os.ReadFile(dir + "/cmdline"); strings.HasPrefix(string(b), command) {
			pids = append(pids, filepath.Base(dir))
		}
	}
	return pids
}

// TestNode is what happens to one node, one story after the other.
func TestNode(t *testing.T) {
	n := newNode(t)
	n.install(t)
	n.rights(t, 0, 0)
	for _, story := range []struct {
		name string
		run  func(*testing.T, *node)
	}{
		{"every line", everyLine},
		{"agent away", agentAway},
		{"host logs and non-root", hostLogs},
		{"network policy", networkPolicy},
	} {
		if !t.Run(story.name, func(t *testing.T) { story.run(t, n) }) {
			t.Log(n.do(t, "kubectl", "-n", "sealtail", "logs", "daemonset/sealtail", "--tail=30"))
			return
		}
	}
	n.do(t, "helm", "uninstall", "sealtail", "-n", "sealtail", "--wait", "--timeout=2m")
}

// everyLine has pods log through all that happens to a node, and opens every
// line once.
func everyLine(t *testing.T, n *node) {
	step := time.Now()
	tell := func(what string) {
		t.Logf("%s: %s", what, time.Since(step).Round(100*time.Millisecond))
		step = time.Now()
	}
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
	n.upgrade(t, "--set-string", "image.tag=2")
	if now := n.agent(t); now == before || now == "" {
		t.Errorf("after the update: got agent %q, had %q", now, before)
	}
	n.rights(t, 0, 0)
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
}

// agentAway measures what the kubelet takes away from an agent that does not
// run. What is on disk when it comes back is opened, once.
func agentAway(t *testing.T, n *node) {
	n.do(t, "helm", "upgrade", "sealtail", product+"/packaging/helm/sealtail", "-n", "sealtail", "-f", n.path("values.yaml"),
		"--set-string", "nodeSelector.absent=yes")
	eventually(t, "no agent", time.Minute, func() error {
		if a := n.agent(t); a != "" {
			return fmt.Errorf("there is %s", a)
		}
		return nil
	})
	n.writer(t, "flood", "-lines=150000", "-sizes=200", "-rate=5000")
	n.writer(t, "crash", "-lines=300", "-exit=1", "-lives=6")
	n.writer(t, "gone", "-lines=2000", "-sizes=200")
	n.done(t, "gone", 1)
	n.do(t, "kubectl", "delete", "pod", "gone")
	deleted := time.Now()
	n.done(t, "flood", 1)
	n.done(t, "crash", 6)
	eventually(t, "collection of a deleted pod's logs", 3*time.Minute, func() error {
		if left, _ := filepath.Glob("/var/log/pods/default_gone_*"); len(left) > 0 {
			return fmt.Errorf("there is %s", left[0])
		}
		return nil
	})
	eventually(t, "the run of crash that stays", time.Minute, func() error {
		stays, _ := filepath.Glob("/var/log/pods/default_crash_*/writer/6.log")
		older, _ := filepath.Glob("/var/log/pods/default_crash_*/writer/4.log")
		if len(stays) == 0 || len(older) > 0 {
			return fmt.Errorf("there is %q, and still %q", stays, older)
		}
		return nil
	})
	t.Logf("the logs of a deleted pod were there for %s", time.Since(deleted).Round(time.Second))
	there := n.onDisk(t, "flood", "crash")
	n.upgrade(t)
	var runs map[string]*life
	eventually(t, "what was on disk", 2*time.Minute, func() error {
		runs = n.runs(t)
		n.open(t, runs)
		missing := 0
		for run, lines := range there {
			for i := range lines {
				if runs[run].opened[i] == 0 {
					missing++
				}
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d lines are not opened", missing)
		}
		return nil
	})
	for _, pod := range []string{"flood", "crash", "gone"} {
		lives, written, disk, opened := 0, 0, 0, 0
		for name, r := range runs {
			if podOf(name) != pod {
				continue
			}
			lives, written, disk, opened = lives+1, written+r.done, disk+len(there[name]), opened+len(r.opened)
			for i, times := range r.opened {
				if times != 1 {
					t.Errorf("line %d of %s: opened %d times", i, name, times)
				}
			}
		}
		t.Logf("%s: %d runs, %d lines written without an agent, %d on disk when it came back, %d opened", pod, lives, written, disk, opened)
	}
	n.do(t, "kubectl", "delete", "pod", "--all", "--timeout=2m")
}

// hostLines are in each file of the host.
const hostLines = 500

// hostLogs runs the agent with the rights that it needs for files of others.
func hostLogs(t *testing.T, n *node) {
	for i, tt := range []struct {
		set  []string
		uid  int
		caps uint64
	}{
		{set: []string{"--set=hostLogs.enabled=true"}, caps: 1 << 2}, // CAP_DAC_READ_SEARCH
		{set: []string{"--set=hostLogs.enabled=true,nonRoot.enabled=true,nonRoot.initImage=localhost/writer:1"}, uid: 65532},
	} {
		n.upgrade(t, tt.set...)
		n.rights(t, tt.uid, tt.caps)
		name := fmt.Sprintf("host%d", i)
		var text strings.Builder
		for seq := range hostLines {
			fmt.Fprintln(&text, name, seq+1)
		}
		n.write(t, "/var/log/"+name, text.String())
		run(t, "chown", "104:4", "/var/log/"+name) // syslog:adm
		run(t, "chmod", "0640", "/var/log/"+name)
		pod := fmt.Sprintf("user%d", i)
		n.writer(t, pod, "-lines=1000", "-exit=0")
		n.done(t, pod, 1)
		eventually(t, name, time.Minute, func() error {
			runs := n.runs(t)
			n.open(t, runs)
			for run, r := range runs {
				if (podOf(run) == pod || run == name) && len(r.opened) < r.done {
					return fmt.Errorf("%s: %d of %d lines are opened", run, len(r.opened), r.done)
				}
			}
			return nil
		})
	}
}

// onDisk returns the whole lines of pods that lie in files of the kubelet, by
// run.
func (n *node) onDisk(t *testing.T, pods ...string) map[string]map[int]bool {
	t.Helper()
	there := make(map[string]map[int]bool)
	for _, pod := range pods {
		files, err := filepath.Glob("/var/log/pods/default_" + pod + "_*/writer/*.log*")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d files are on disk", pod, len(files))
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			var r io.Reader = f
			if strings.HasSuffix(name, ".gz") {
				if r, err = gzip.NewReader(f); err != nil {
					t.Fatal(err)
				}
			}
			for lines := bufio.NewScanner(r); lines.Scan(); {
				wrapped := strings.SplitN(lines.Text(), " ", 4) // time, source, tag, text
				if len(wrapped) < 4 {
					t.Fatalf("%s: %q", name, lines.Text())
				}
				run, seq, whole := line(wrapped[3])
				if !whole { // torn at a rotation
					continue
				}
				if there[run] == nil {
					there[run] = make(map[int]bool)
				}
				there[run][seq] = true
			}
			f.Close()
		}
	}
	return there
}
