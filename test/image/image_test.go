//go:build image

// Package image_test runs the container image for real, without any right that
// can be taken from it: podman with runc, a root that cannot be written to, no
// capability; that of another architecture under qemu's user emulation.
//
// It needs root, and podman, runc and qemu-user-static of Debian.
package image_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// An engine is podman with a store of its own and one image.
type engine struct {
	t    *testing.T
	args []string
	name string
}

// load builds the image for an architecture and loads it.
func load(t *testing.T, arch string) *engine {
	t.Helper()
	for _, program := range []string{"podman", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s here", program)
		}
	}
	dir := t.TempDir()
	run(t, exec.Command("go", "-C", "../../tools", "run", "./release", "-out", dir, "-version", "1.2.3", "image"))
	e := &engine{t: t, args: []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"}}
	archive := filepath.Join(dir, "sealtail-1.2.3-image.tar")
	if arch == runtime.GOARCH {
		e.podman("load", "--quiet", "--input", archive)
	} else {
		e.podman("pull", "--quiet", "--arch", arch, "oci-archive:"+archive)
	}
	e.name = strings.Fields(e.podman("images", "--quiet"))[0]
	return e
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, errs.String())
	}
	return string(out)
}

func (e *engine) podman(args ...string) string {
	e.t.Helper()
	return run(e.t, exec.Command("podman", append(e.args, args...)...))
}

// command returns one of the image's program, with nothing that it does not
// need. More are podman's arguments before the image.
func (e *engine) command(more []string, args ...string) *exec.Cmd {
	all := append(e.args, "run", "--rm", "--network=none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges",
		"--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--ulimit=memlock=1048576:1048576", "--pids-limit=100", "--memory=256m")
	return exec.Command("podman", append(append(append(all, more...), e.name), args...)...)
}

// TestRuns follows a file in a container and opens all that was sealed.
func TestRuns(t *testing.T) {
	e := load(t, runtime.GOARCH)
	if out := run(t, e.command(nil, "version")); !strings.HasPrefix(out, "sealtail 1.2.3 ") {
		t.Errorf("version: got %q", out)
	}
	run(t, e.command(nil, "selftest"))

	if log := e.follow(nil); !strings.Contains(log, `"locked": true`) {
		t.Errorf("the data key was not in locked memory:\n%s", log)
	}
}

// follow has the agent seal a file that is there and goes on to grow, stops it,
// opens what it shipped by this machine's reader, and returns its log. More are
// podman's arguments, args the program's.
func (e *engine) follow(more []string, args ...string) string {
	t := e.t
	t.Helper()
	dir := t.TempDir()
	bin := func(name, pkg string) string {
		to := filepath.Join(dir, name)
		build := exec.Command("go", "build", "-o", to, pkg)
		build.Dir = "../.."
		run(t, build)
		return to
	}
	sealtail, reader := bin("sealtail", "./cmd/agent"), bin("sealtail-reader", "./cmd/reader")
	run(t, exec.Command(sealtail, "keyring", "new", "-f", filepath.Join(dir, "offline.json"), "--kind", "hpke-mlkem768-x25519"))
	for _, name := range []string{"etc", "logs", "state", "sealed"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, exec.Command(sealtail, "keyring", "export-public", "-f", filepath.Join(dir, "offline.json"), "--out", filepath.Join(dir, "etc/keyring.json")))
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/sealtail.toml", `
[key.main]
provider = "keyring"
file = "/etc/sealtail/keyring.json"
[sink.archive]
type = "dir"
path = "/sealed"
[[stream]]
name = "app"
include = ["/logs/*.log"]
suite = "sm4-gcm"
key = "main"
sink = "archive"
`)
	const lines, half = 10_000, 5_000 * len("line 000000\n")
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "line %06d\n", i)
	}
	write("logs/app.log", text.String()[:half])
	const user = 65532
	for _, name := range []string{"etc/keyring.json", "state", "sealed"} {
		if err := os.Chown(filepath.Join(dir, name), user, user); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	agent := e.command(append([]string{"--name=agent",
		"--volume=" + dir + "/etc:/etc/sealtail:ro", "--volume=" + dir + "/logs:/logs:ro",
		"--volume=" + dir + "/state:/var/lib/sealtail", "--volume=" + dir + "/sealed:/sealed"}, more...), args...)
	var log bytes.Buffer
	agent.Stdout, agent.Stderr = &log, &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	running := true
	t.Cleanup(func() {
		if running {
			exec.Command("podman", append(e.args, "kill", "agent")...).Run()
			<-ended
		}
	})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Minute)
	until := func(opened string) {
		t.Helper()
		var errs bytes.Buffer
		for {
			// While nothing is sealed the reader finds nothing, and says so.
			errs.Reset()
			open := exec.Command(reader, "open", "--dir", filepath.Join(dir, "sealed"), "--keyring", filepath.Join(dir, "offline.json"))
			open.Stderr = &errs
			out, _ := open.Output()
			if string(out) == opened {
				return
			}
			select {
			case <-tick.C:
			case err := <-ended:
				running = false
				t.Fatalf("the agent ended: %v\n%s", err, log.String())
			case <-deadline:
				t.Fatalf("%d bytes were opened, want %d\n%s%s", len(out), len(opened), errs.String(), log.String())
			}
		}
	}
	until(text.String()[:half])
	logs, err := os.OpenFile(filepath.Join(dir, "logs/app.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if _, err := logs.WriteString(text.String()[half:]); err != nil {
		t.Fatal(err)
	}
	until(text.String())
	e.podman("stop", "--time=60", "agent")
	err = <-ended
	running = false
	if err != nil {
		t.Errorf("the agent ended with %v\n%s", err, log.String())
	}
	out := run(t, exec.Command(reader, "open", "--dir", filepath.Join(dir, "sealed"), "--keyring", filepath.Join(dir, "offline.json")))
	if out != text.String() {
		t.Errorf("after the stop: got %d bytes, want the %d that were written", len(out), text.Len())
	}
	return log.String()
}

// TestOtherArchitecture has the arm64 image test its algorithms and follow a
// file, which this machine's reader opens. Its program is run by an emulator
// that is given to the container, so the kernel needs to know nothing of arm64.
func TestOtherArchitecture(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if errors.Is(err, exec.ErrNotFound) || runtime.GOARCH == "arm64" {
		t.Skip("no emulator of arm64 here")
	}
	e := load(t, "arm64")
	more := []string{"--arch=arm64", "--volume=" + qemu + ":/qemu:ro", "--entrypoint=/qemu"}
	if out := run(t, e.command(more, "/usr/bin/sealtail", "version")); !strings.HasSuffix(out, " linux/arm64\n") {
		t.Errorf("version: got %q", out)
	}
	if out := run(t, e.command(more, "/usr/bin/sealtail", "selftest")); !strings.Contains(out, "every algorithm") {
		t.Errorf("self-test: got %q", out)
	}
	e.follow(more, "/usr/bin/sealtail", "run", "-c", "/etc/sealtail/sealtail.toml")
}
