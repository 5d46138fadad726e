package k8s_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A life is one run of a writer's container.
type life struct {
	host        bool        // a file of the host, hostLines long
	begun, done int         // lines; done < 0: it was killed
	opened      map[int]int // how often each line was opened
}

// podOf returns the pod of a run, POD-TIME, or the name of a file of the host.
func podOf(run string) string {
	pod, _, _ := strings.Cut(run, "-")
	return pod
}

// runs reads what the writers recorded.
func (n *node) runs(t *testing.T) map[string]*life {
	t.Helper()
	files, err := filepath.Glob(n.path("truth", "*"))
	if err != nil {
		t.Fatal(err)
	}
	runs := make(map[string]*life)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(f) == "error" {
			t.Fatalf("a writer: %s", b)
		}
		r := &life{done: -1, opened: make(map[int]int)}
		if len(b) == 16 {
			r.begun, r.done = int(binary.LittleEndian.Uint64(b)), int(int64(binary.LittleEndian.Uint64(b[8:])))
		}
		runs[filepath.Base(f)] = r
	}
	files, err = filepath.Glob("/var/log/host*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		runs[filepath.Base(f)] = &life{done: hostLines, host: true, opened: make(map[int]int)}
	}
	return runs
}

// open reads what was shipped into runs, and returns how many records were of
// the agent's own pods, or of nobody.
func (n *node) open(t *testing.T, runs map[string]*life) (own, foreign int) {
	t.Helper()
	c := exec.Command(n.bin+"/sealtail-reader", "open", "--format", "json", "--keyring", n.path("offline.json"), "--dir", n.path("state", "sealed"))
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r struct {
			Path, Content, Source string
			Tags                  map[string]string
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(r.Path, "/sealtail_") {
			own++
		}
		name, rest, _ := strings.Cut(r.Content, " ")
		seq, _, _ := strings.Cut(rest, " ")
		i, err := strconv.Atoi(seq)
		if strings.HasPrefix(r.Path, "/var/log/host") {
			name = filepath.Base(r.Path)
		}
		life := runs[name]
		if life == nil || err != nil {
			foreign++
			continue
		}
		life.opened[i]++
		// The writer both has its odd lines on stderr.
		source := "stdout"
		if strings.HasPrefix(name, "both-") && i%2 == 1 {
			source = "stderr"
		}
		pod := podOf(name)
		if life.host {
			continue
		}
		if r.Source != source || r.Tags["__namespace__"] != "default" || r.Tags["__pod_name__"] != pod || r.Tags["__container_name__"] != "writer" {
			t.Errorf("line %d of %s: source %q, tags %q", i, name, r.Source, r.Tags)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("open: %v\n%s", err, &stderr)
	}
	return own, foreign
}

// A sum is what became of the lines of a pod.
type sum struct{ runs, killed, lines, missing, repeated int }

// sums holds what was opened against what was written. Of a run that was killed
// only what its log had can be asked for: lines without a gap.
func sums(runs map[string]*life) map[string]*sum {
	all := make(map[string]*sum)
	for name, r := range runs {
		pod := podOf(name)
		s := all[pod]
		if s == nil {
			s = new(sum)
			all[pod] = s
		}
		s.runs++
		want := r.done
		if want < 0 {
			s.killed++
			want = 0
			for i := range r.opened {
				want = max(want, i)
			}
		}
		s.lines += want
		for i := 1; i <= want; i++ {
			if r.opened[i] == 0 {
				s.missing++
			}
		}
		for _, times := range r.opened {
			s.repeated += times - 1
		}
	}
	return all
}

// complete waits until all that was written is opened, once, and tells the
// sums.
func (n *node) complete(t *testing.T, limit time.Duration) {
	t.Helper()
	var all map[string]*sum
	var own, foreign int
	complete := false
	for end := time.Now().Add(limit); !complete && time.Now().Before(end); time.Sleep(time.Second) {
		runs := n.runs(t)
		own, foreign = n.open(t, runs)
		all = sums(runs)
		complete = true
		for _, s := range all {
			complete = complete && s.missing == 0
		}
	}
	for _, pod := range slices.Sorted(maps.Keys(all)) {
		s := all[pod]
		line := fmt.Sprintf("%-10s %3d runs (%d killed), %7d lines: %d missing, %d repeated", pod, s.runs, s.killed, s.lines, s.missing, s.repeated)
		if s.missing+s.repeated > 0 {
			t.Error(line)
		} else {
			t.Log(line)
		}
	}
	if own+foreign > 0 {
		t.Errorf("%d records of the agent's own, %d of nobody", own, foreign)
	}
}
