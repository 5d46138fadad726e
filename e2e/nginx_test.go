//go:build torture

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nginx under load for a minute, rotated by the real logrotate each second.
// Every request carries its connection's running number.

// Renamed files hold every request, and each is opened once, though the agent
// is killed and started again in between.
func TestNginxWithLogrotate(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			n := runNginx(t, suite, true, `sharedscripts
	postrotate
		kill -USR1 $(cat %s/nginx.pid)
	endscript`)
			if len(n.lost) != 0 || n.torn != "" {
				t.Errorf("the files do not hold %d requests, and end in %q", len(n.lost), n.torn)
			}
			n.compare(t)
		})
	}
}

// logrotate loses what is written between the end of its copy and its
// truncation (logrotate/logrotate#34): only there are requests missing. What
// the agent read of them before the truncation is saved.
func TestNginxCopytruncate(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			runNginx(t, suite, false, "copytruncate # %s").compare(t)
		})
	}
}

// A number of a connection's requests.
type request struct{ connection, n int }

// An nginxRun is what nginx and logrotate left, and the agent's records of it.
type nginxRun struct {
	answered  int
	rotations int
	lines     map[string]int   // in the files
	torn      string           // a copy's end without a line feed
	lost      map[request]bool // in no file
	window    time.Duration    // the longest that a file's first line is after the last of that before
	records   []opened
}

var accessLine = regexp.MustCompile(`^127\.0\.0\.1 (\d+\.\d{3}) "GET /item/(\d+)/(\d{8}) HTTP/1\.1" 204 0 "-" "Go-http-client/1\.1"$`)

// runNginx rotates as the lines say, whose %s is the rig's directory: each
// second, as often as the environment's ROTATIONS says (60).
func runNginx(t *testing.T, suite string, kill bool, rotate string) *nginxRun {
	rotations := 60
	if s := os.Getenv("ROTATIONS"); s != "" {
		var err error
		if rotations, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, suite, "access.log*", quickStream, "")
	address := freeAddress(t)
	r.write("nginx.conf", fmt.Sprintf(`
daemon off;
user root;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/error.txt;
events {}
http {
	keepalive_requests 1000000000;
	log_format numbered '$remote_addr $msec "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
	access_log %[1]s/logs/access.log numbered;
	server {
		listen %[2]s;
		location / { return 204; }
		location /up { access_log off; return 204; }
	}
}`, r.dir, address))
	r.write("logrotate.conf", fmt.Sprintf(`
%s/logs/access.log {
	su root root
	rotate 1000
	create 0644 root root
	nocompress
	`+rotate+`
}`, r.dir, r.dir))
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
	n := &nginxRun{lines: make(map[string]int), lost: make(map[request]bool)}
	var sent [4]int
	stop := make(chan struct{})
	var load sync.WaitGroup
	for c := range sent {
		load.Go(func() {
			client := &http.Client{Transport: new(http.Transport)}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get(fmt.Sprintf("http://%s/item/%d/%08d", address, c, sent[c]))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				sent[c]++
			}
		})
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n.rotations < rotations {
		<-tick.C
		if out, err := exec.Command("logrotate", "-f", "-s", r.path("logrotate.state"), r.path("logrotate.conf")).CombinedOutput(); err != nil {
			t.Fatalf("logrotate: %v\n%s", err, out)
		}
		n.rotations++
		if kill && n.rotations%10 == 5 {
			r.kill()
			r.start()
		}
	}
	close(stop)
	load.Wait()
	// It answers before it writes the line.
	server.Process.Signal(syscall.SIGQUIT)
	server.Wait()

	n.read(t, r.path("logs", "access.log"), sent[:])
	r.until("all lines", func() bool {
		n.records = r.open()
		left := len(n.lines)
		for _, o := range n.records {
			if n.lines[o.text(t)] > 0 {
				left--
			}
		}
		return left <= 0
	})
	r.stop()
	n.records = r.open()
	return n
}

// read reads the files, the oldest first. Within a file no number of a
// connection is missing.
func (n *nginxRun) read(t *testing.T, name string, sent []int) {
	t.Helper()
	next := make([]int, len(sent))
	missing := func(c, to int) {
		for ; next[c] < to; next[c]++ {
			n.lost[request{c, next[c]}] = true
		}
	}
	var last float64
	for i := n.rotations; i >= 0; i-- {
		file := name
		if i > 0 {
			file += "." + strconv.Itoa(i)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.LastIndexByte(string(b), '\n') + 1
		if whole < len(b) {
			t.Logf("%s ends in the middle of a line", file)
			n.torn += string(b[whole:]) + "\n"
		}
		seen := make([]bool, len(sent))
		first := true
		for line := range strings.Lines(string(b[:whole])) {
			line = strings.TrimSuffix(line, "\n")
			field := accessLine.FindStringSubmatch(line)
			if field == nil {
				t.Fatalf("%s has %q", file, line)
			}
			at, _ := strconv.ParseFloat(field[1], 64)
			c, _ := strconv.Atoi(field[2])
			number, _ := strconv.Atoi(field[3])
			if seen[c] && number != next[c] || number < next[c] {
				t.Fatalf("%s: connection %d has number %d, want %d", file, c, number, next[c])
			}
			if first && last > 0 {
				n.window = max(n.window, time.Duration((at-last)*1e9).Round(time.Millisecond))
			}
			missing(c, number)
			seen[c], next[c], first, last = true, number+1, false, at
			n.lines[line]++
		}
	}
	for c, count := range sent {
		missing(c, count)
		n.answered += count
	}
}

// compare wants every line of the files opened once, and nothing else but
// what logrotate lost, that once too.
func (n *nginxRun) compare(t *testing.T) {
	t.Helper()
	saved, pieces := 0, 0
	count := make(map[string]int)
	for _, o := range n.records {
		line := o.text(t)
		count[line]++
		if n.lines[line] > 0 {
			continue
		}
		field := accessLine.FindStringSubmatch(line)
		if field == nil {
			if !slices.Contains(strings.Split(n.torn, "\n"), line) {
				t.Errorf("%q (incomplete: %q) was opened, which no file has", line, o.Incomplete)
			}
			pieces++
			continue
		}
		c, _ := strconv.Atoi(field[2])
		number, _ := strconv.Atoi(field[3])
		if !n.lost[request{c, number}] {
			t.Fatalf("%q was opened, which was not written so", line)
		}
		saved++
	}
	wrong := 0
	for line, k := range count {
		if k != 1 {
			if wrong++; wrong <= 3 {
				t.Errorf("%q was opened %d times", line, k)
			}
		}
	}
	for line := range n.lines {
		if count[line] == 0 {
			if wrong++; wrong <= 3 {
				t.Errorf("%q was not opened", line)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d lines are not opened once", wrong)
	}
	t.Logf("%d requests, %d rotations: %d lines in the files, %d lost by logrotate (at most %v), %d of these saved by the agent; %d pieces of torn lines",
		n.answered, n.rotations, len(n.lines), len(n.lost), n.window, saved, pieces)
}
