// Command init is all that runs in the guest of the power-loss test besides
// the agent: it is process 1 of an initramfs. It loads the modules of the disk,
// mounts it, starts the agent, and writes log lines until somebody pulls the
// plug (boot=N) or until all is shipped (boot=drain). What it says on the
// console is the host's witness:
//
//	synced N  lines 1 to N of this boot are fsynced
//	acked N   the sink acknowledged N envelopes since this boot: each was
//	          committed before, and is fsynced in the sink
//	shipped   boot=drain: the agent stopped with nothing unshipped
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	logs      = "/data/logs"
	perSync   = 2000  // lines between two fsyncs
	perFile   = 30000 // lines between two rotations
	drainWait = 4 * time.Minute

	finitModule = 313 // system call of amd64
)

func main() {
	err := run()
	fmt.Println("init:", err)
	syscall.Sync()
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART) // QEMU ends: -no-reboot
}

func run() error {
	boot, err := system()
	if err != nil {
		return err
	}
	for _, dir := range []string{logs, "/data/sealed", "/tmp"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	said := &speech{started: make(chan struct{})}
	agent := exec.Command("/sealtail", "run", "-c", "/etc/sealtail.toml")
	agent.Stderr = said
	if err := agent.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	select {
	case <-said.started:
	case err := <-ended:
		return fmt.Errorf("agent did not start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wrote := make(chan error, 1)
	if boot != "drain" {
		go acknowledged(ctx)
		go func() { wrote <- write(ctx, boot) }()
	} else {
		time.AfterFunc(drainWait, func() { fmt.Println("init: not drained in time"); agent.Process.Kill() })
		go func() { wrote <- drained() }()
	}
	select {
	case err := <-ended:
		return fmt.Errorf("agent ended: %v", err)
	case err := <-wrote:
		if err != nil {
			return err
		}
	}
	agent.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		return fmt.Errorf("agent stopped: %v", err)
	}
	if !strings.Contains(said.all.String(), `"unshipped_bytes": 0`) {
		return fmt.Errorf("agent left batches unshipped")
	}
	fmt.Println("shipped")
	return nil
}

// A speech is what the agent says, which goes to the console too.
type speech struct {
	started chan struct{}
	all     bytes.Buffer
}

func (s *speech) Write(b []byte) (int, error) {
	s.all.Write(b)
	select {
	case <-s.started:
	default:
		if bytes.Contains(s.all.Bytes(), []byte(" started ")) {
			close(s.started)
		}
	}
	return os.Stdout.Write(b)
}

// system makes a machine of the kernel and returns what boot= says.
func system() (boot string, err error) {
	for _, m := range [][2]string{{"/dev", "devtmpfs"}, {"/proc", "proc"}, {"/sys", "sysfs"}} {
		if err := syscall.Mount(m[1], m[0], m[1], 0, ""); err != nil {
			return "", fmt.Errorf("mount %s: %w", m[0], err)
		}
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	modules, err := filepath.Glob("/modules/*.ko") // in the order they need each other
	if err != nil {
		return "", err
	}
	for _, m := range modules {
		if err := insert(m); err != nil {
			return "", fmt.Errorf("insert %s: %w", m, err)
		}
	}
	for range 1000 {
		if _, err = os.Stat("/dev/vda"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := syscall.Mount("/dev/vda", "/data", "ext4", syscall.MS_NOATIME, ""); err != nil {
		return "", fmt.Errorf("mount /data: %w", err)
	}
	for _, f := range strings.Fields(string(cmdline)) {
		if b, ok := strings.CutPrefix(f, "boot="); ok {
			return b, nil
		}
	}
	return "", fmt.Errorf("no boot= in %q", cmdline)
}

func insert(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	none := []byte{0}
	_, _, errno := syscall.Syscall(finitModule, f.Fd(), uintptr(unsafe.Pointer(&none[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// write appends numbered lines and rotates. A file that the last boot left may
// end within a line: it is put aside first.
func write(ctx context.Context, boot string) error {
	path := filepath.Join(logs, "app.log")
	files := 0
	rotate := func() error {
		files++
		err := os.Rename(path, fmt.Sprintf("%s.%s-%d", path, boot, files))
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	pad := strings.Repeat("x", 60)
	for n := 1; ctx.Err() == nil; {
		if err := rotate(); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(f, 64<<10)
		for last := n + perFile; n < last; n++ {
			w.WriteString("boot " + boot + " line " + strconv.Itoa(n) + " " + pad + "\n")
			if n%perSync != 0 {
				continue
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
			fmt.Println("synced", n)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// acknowledged tells what the agent's status says of its sink.
func acknowledged(ctx context.Context) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", "/data/state/status.sock")
		},
	}}
	for last := int64(0); ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		var s struct {
			Streams []struct {
				Sink struct{ Acknowledged int64 } `json:"sink"`
			} `json:"streams"`
		}
		answer, err := client.Get("http://agent/status")
		if err != nil {
			continue // not yet
		}
		err = json.NewDecoder(answer.Body).Decode(&s)
		answer.Body.Close()
		if err == nil && len(s.Streams) == 1 && s.Streams[0].Sink.Acknowledged > last {
			last = s.Streams[0].Sink.Acknowledged
			fmt.Println("acked", last)
		}
	}
}

// drained returns when the spool and the sealed directory stay as they are.
func drained() error {
	for last, same := "", 0; same < 10; time.Sleep(time.Second) {
		now := listing("/data/state") + listing("/data/sealed")
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
	return nil
}

func listing(dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() == "shipped" {
			return nil
		}
		if info, err := d.Info(); err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return nil
	})
	return b.String()
}
