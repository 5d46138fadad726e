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

// opened is what there was beside whole records of lines.
type opened struct {
	own, foreign []string // records of the agent's own pods, and of nobody
	torn         []string // lines that came in two records
}

// A shipped is one record as the reader prints it.
type shipped struct {
	Path, Content, Source, Incomplete string
	Offset                            int64
	Tags                              map[string]string
}

func (r *shipped) String() string {
	return fmt.Sprintf("%s at %d: %.60q, %d bytes %s", r.Path, r.Offset, r.Content, len(r.Content), r.Incomplete)
}

// line returns what line of what run a text is, if it is all of one.
func line(text string) (run string, seq int, ok bool) {
	f := strings.SplitN(text, " ", 4)
	if len(f) < 4 {
		return "", 0, false
	}
	seq, err := strconv.Atoi(f[1])
	size, err2 := strconv.Atoi(f[2])
	return f[0], seq, err == nil && err2 == nil && size == len(text) && strings.Trim(f[3], "x") == ""
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

// open reads what was shipped into runs.
func (n *node) open(t *testing.T, runs map[string]*life) (o opened) {
	t.Helper()
	c := exec.Command(n.bin+"/sealtail-reader", append([]string{"open", "--format", "json"}, n.shipped...)...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	heads, tails := make(map[string][]shipped), make(map[string][]shipped) // by directory
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r shipped
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		dir, file := filepath.Split(r.Path)
		if strings.HasPrefix(r.Path, "/var/log/host") {
			if seq, err := strconv.Atoi(strings.TrimPrefix(r.Content, file+" ")); err == nil && runs[file] != nil {
				runs[file].opened[seq]++
			} else {
				o.foreign = append(o.foreign, r.String())
			}
			continue
		}
		name, seq, ok := line(r.Content)
		switch {
		case strings.Contains(r.Path, "/sealtail_"):
			o.own = append(o.own, r.String())
		case ok && runs[name] != nil:
			runs[name].opened[seq]++
			r.check(t, name, seq)
		case r.Offset == 0:
			tails[dir] = append(tails[dir], r)
		default:
			heads[dir] = append(heads[dir], r)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("open: %v\n%s", err, &stderr)
	}
	// containerd tears a line at a rotation. An agent that did not see the
	// rotation ships its halves as they are: the end of one file and the
	// beginning of another.
	for dir, hs := range heads {
		for _, h := range hs {
			i := slices.IndexFunc(tails[dir], func(r shipped) bool {
				name, _, ok := line(h.Content + r.Content)
				return ok && runs[name] != nil
			})
			if i < 0 {
				o.foreign = append(o.foreign, h.String())
				continue
			}
			name, seq, _ := line(h.Content + tails[dir][i].Content)
			o.torn = append(o.torn, fmt.Sprintf("line %d: %d bytes at %d of %s, %d at the beginning of %s", seq,
				len(h.Content), h.Offset, h.Path, len(tails[dir][i].Content), tails[dir][i].Path))
			tails[dir] = slices.Delete(tails[dir], i, i+1)
			runs[name].opened[seq]++
			h.check(t, name, seq)
		}
	}
	for _, rs := range tails {
		for _, r := range rs {
			o.foreign = append(o.foreign, r.String())
		}
	}
	return o
}

// check holds what comes along with a line against its run.
func (r *shipped) check(t *testing.T, run string, seq int) {
	t.Helper()
	// The writer both has its odd lines on stderr.
	source := "stdout"
	if strings.HasPrefix(run, "both-") && seq%2 == 1 {
		source = "stderr"
	}
	if r.Source != source || r.Tags["__namespace__"] != "default" || r.Tags["__pod_name__"] != podOf(run) || r.Tags["__container_name__"] != "writer" {
		t.Errorf("line %d of %s: source %q, tags %q", seq, run, r.Source, r.Tags)
	}
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
	var o opened
	complete := false
	for end := time.Now().Add(limit); !complete && time.Now().Before(end); time.Sleep(time.Second) {
		runs := n.runs(t)
		o = n.open(t, runs)
		all = sums(runs)
		complete = true
		for _, s := range all {
			complete = complete && s.missing == 0
		}
	}
	lives, written := 0, 0
	for _, pod := range slices.Sorted(maps.Keys(all)) {
		s := all[pod]
		lives, written = lives+s.runs, written+s.lines
		line := fmt.Sprintf("%-10s %3d runs (%d killed), %7d lines: %d missing, %d repeated", pod, s.runs, s.killed, s.lines, s.missing, s.repeated)
		if s.missing+s.repeated > 0 {
			t.Error(line)
		} else {
			t.Log(line)
		}
	}
	t.Logf("%d lines of %d containers, %d in two records: %q", written, lives, len(o.torn), o.torn)
	if len(o.own)+len(o.foreign) > 0 {
		t.Errorf("records of the agent's own: %q, of nobody: %q", o.own, o.foreign)
	}
}
