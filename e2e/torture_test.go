//go:build torture

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestKillNineFiftyTimes(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) { torture(t, suite, 50, 40*time.Millisecond) })
	}
}

// This machine's own logs, as they are: what is opened is what they hold.
func TestOwnLogs(t *testing.T) {
	names := []string{"/var/log/dpkg.log", "/var/log/alternatives.log", "/var/log/apt/history.log", "/var/log/apt/term.log"}
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			r := newRig(t, suite, "*.log", quickStream, "")
			var want int
			for _, name := range names {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				want += strings.Count(string(b), "\n")
			}
			config, err := os.ReadFile(r.path("sealtail.toml"))
			if err != nil {
				t.Fatal(err)
			}
			quoted := `"` + strings.Join(names, `", "`) + `"`
			r.write("sealtail.toml", strings.Replace(string(config), fmt.Sprintf("include = [%q]", r.path("logs", "*.log")), "include = ["+quoted+"]", 1))
			r.start()
			r.until("all lines", func() bool { return len(r.open()) >= want })
			r.stop()
			files := make(map[string]string)
			for _, o := range r.open() {
				files[o.Path] += o.text(t) + "\n"
			}
			for _, name := range names {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				whole := string(b[:strings.LastIndexByte(string(b), '\n')+1])
				if files[name] != whole {
					t.Errorf("%s: opened %d bytes, the file has %d", name, len(files[name]), len(whole))
				}
			}
		})
	}
}

// nginx under load, rotated by the real logrotate with rename and create; the
// agent is killed and started again in the middle.
func TestNginxWithLogrotate(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) { nginx(t, suite) })
	}
}

func nginx(t *testing.T, suite string) {
	r := newRig(t, suite, "access.log*", quickStream, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	r.write("nginx.conf", fmt.Sprintf(`
daemon off;
user root;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/error.txt;
events {}
http {
	log_format numbered '$remote_addr - - [$time_iso8601] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
	access_log %[1]s/logs/access.log numbered;
	server { listen %[2]s; location / { return 204; } }
}`, r.dir, address))
	r.write("logrotate.conf", fmt.Sprintf(`
%[1]s/logs/access.log {
	su root root
	rotate 100
	create 0644 root root
	nocompress
	sharedscripts
	postrotate
		kill -USR1 $(cat %[1]s/nginx.pid)
	endscript
}`, r.dir))
	server := exec.Command("nginx", "-p", r.dir, "-c", r.path("nginx.conf"))
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	r.until("nginx", func() bool {
		resp, err := http.Get("http://" + address + "/up")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})

	r.start()
	stop := make(chan struct{})
	var load sync.WaitGroup
	for c := range 4 {
		load.Go(func() {
			client := &http.Client{Transport: new(http.Transport)}
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get(fmt.Sprintf("http://%s/item/%d/%08d", address, c, n))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	for i := range 20 {
		<-time.After(500 * time.Millisecond)
		if out, err := exec.Command("logrotate", "-f", "-s", r.path("logrotate.state"), r.path("logrotate.conf")).CombinedOutput(); err != nil {
			t.Fatalf("logrotate: %v\n%s", err, out)
		}
		if i%5 == 4 {
			r.kill()
			r.start()
		}
	}
	close(stop)
	load.Wait()

	// nginx writes a line before it answers the next request of a connection.
	written := func() (lines []string) {
		for _, name := range glob(t, r.path("logs", "access.log*")) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		}
		return lines
	}
	r.until("all requests", func() bool { return len(r.open()) >= len(written()) })
	r.stop()
	count := make(map[string]int)
	for _, line := range written() {
		if line != "" {
			count[line]++
		}
	}
	records := r.open()
	for _, o := range records {
		count[o.text(t)]--
	}
	for line, n := range count {
		if n != 0 {
			t.Errorf("%d copies of %q are missing or too many", n, line)
			break
		}
	}
	t.Logf("%d lines in %d files, each opened once", len(records), len(glob(t, r.path("logs", "access.log*"))))
}
