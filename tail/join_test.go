package tail_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"sealtail/record"
	"sealtail/tail"
)

// tailer makes one whose files do not matter.
func tailer(t testing.TB, o tail.Options) *tail.Tailer {
	t.Helper()
	o.Include, o.Key = []string{"/nowhere/*.log"}, []byte("0123456789abcdef")
	x, err := tail.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// shown writes records as "source@time|content", pieces as <…> and <…$>.
func shown(recs []record.Record) (all []string) {
	for _, r := range recs {
		s := string(r.Content)
		if r.Part != nil {
			s = "<" + s + map[bool]string{true: "$"}[r.Part.Last] + ">"
		}
		if r.Source != "" {
			s = fmt.Sprintf("%s@%d|%s", r.Source, r.Time/1e9, s)
		}
		all = append(all, s)
	}
	return all
}

func wantRecords(t *testing.T, got []record.Record, want ...string) {
	t.Helper()
	if g := shown(got); !slices.Equal(g, want) {
		t.Errorf("got %s\nwant %s", brief(g), brief(want))
	}
}

// pass makes records of all of text at once.
func pass(t testing.TB, o tail.Options, text string) []record.Record {
	return tailer(t, o).Pass([]byte(text), []int{len(text)}, 1<<20)
}

const stamp = "2026-11-23T14:45:55.123456789Z"
const stampUnix = 1795445155

func at(source, text string) string { return fmt.Sprintf("%s@%d|%s", source, stampUnix, text) }

func criLine(source, tag, text string) string {
	return stamp + " " + source + " " + tag + " " + text + "\n"
}

func dockerLine(source, text string) string {
	b, _ := json.Marshal(text)
	return `{"log":` + string(b) + `,"stream":"` + source + `","time":"` + stamp + "\"}\n"
}

func TestCRI(t *testing.T) {
	cri := tail.Options{Format: "cri"}
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"line", criLine("stdout", "F", "hello world"), []string{at("stdout", "hello world")}},
		{"empty", criLine("stderr", "F", ""), []string{at("stderr", "")}},
		{"empty without space", stamp + " stdout F\n", []string{at("stdout", "")}},
		{"partial", criLine("stdout", "P", "one ") + criLine("stdout", "P", "two ") + criLine("stdout", "F", "three"), []string{at("stdout", "one two three")}},
		{"more tags", criLine("stdout", "F:x", "text"), []string{at("stdout", "text")}},
		{"offset", "2026-11-23T16:45:55.5+02:00 stdout F x\n", []string{at("stdout", "x")}},
		{"malformed", "no such line\n" + criLine("stdout", "F", "x") + criLine("stdin", "F", "x"), []string{"no such line", at("stdout", "x"), stamp + " stdin F x"}},
		{"no time", "2026-13-23T14:45:55Z stdout F x\n", []string{"2026-13-23T14:45:55Z stdout F x"}},
		{"interleaved", criLine("stdout", "P", "o1") + criLine("stderr", "P", "e1") + criLine("stderr", "F", "e2") + criLine("stderr", "F", "e3") + criLine("stdout", "F", "o2"),
			[]string{at("stderr", "e1e2"), at("stderr", "e3"), at("stdout", "o1o2")}},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRecords(t, pass(t, cri, tt.in), tt.want...) })
	}
}

func TestDocker(t *testing.T) {
	docker := tail.Options{Format: "docker", TrimCR: true}
	long := strings.Repeat("x", 16<<10)
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"line", dockerLine("stdout", "hello\n"), []string{at("stdout", "hello")}},
		{"escapes", dockerLine("stderr", "\"a\"\\ \tä\u2028\x00\U0001f600\n"), []string{at("stderr", "\"a\"\\ \tä\u2028\x00\U0001f600")}},
		{"pair", `{"log":"\ud83d\ude00\/\ud83d\n","stream":"stdout","time":"` + stamp + "\"}\n", []string{at("stdout", "\U0001f600/\ufffd")}},
		{"terminal", dockerLine("stdout", "hello\r\n"), []string{at("stdout", "hello")}},
		{"partial", dockerLine("stdout", long) + dockerLine("stderr", "e\n") + dockerLine("stdout", "end\n"), []string{at("stderr", "e"), at("stdout", long+"end")}},
		{"attributes", `{"log":"x\n","stream":"stdout","attrs":{"a":"b"},"time":"` + stamp + "\"}\n", []string{at("stdout", "x")}},
		{"other order", `{"time":"` + stamp + `","stream":"stdout","log":"x\n"}` + "\n", []string{at("stdout", "x")}},
		{"malformed", "{\"log\":\"torn", []string{"{\"log\":\"torn"}},
	} {
		t.Run(tt.name, func(t *testing.T) { wantRecords(t, pass(t, docker, tt.in), tt.want...) })
	}
}

// traces are logs with stack traces, a record between each two |.
var traces = map[string]string{
	"java": `2026-11-23 ERROR order failed
java.lang.IllegalStateException: no stock
	at com.example.Order.place(Order.java:42)
	... 12 more
Caused by: java.io.IOException: timeout
	at com.example.Net.read(Net.java:7)
	Suppressed: java.lang.Exception: close
|2026-11-23 INFO next
|
|2026-11-23 INFO Exception: none`,
	"python": `ERROR:root:failed
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
ValueError: y
|INFO:root:next
|INFO:root:last`,
	"go": `2026/11/23 starting
|panic: runtime error: index out of range [1] with length 1
	panic: again
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x1]

goroutine 1 [running]:
main.(*T).f(0xc000012345, {0x1, 0x2})
	/src/main.go:12 +0x1d
created by main.main in goroutine 1
	/src/main.go:8 +0x25
exit status 2
|2026/11/23 next`,
	"node": `/src/app.js:12
    throw new Error('x');
    ^

Error: x
    at f (/src/app.js:12:11)
    at Object.<anonymous> (/src/app.js:15:1) {
  code: 'E'
}

Node.js v20.11.1
|listening on 8080
|Error: y
    at g (/src/app.js:3:1)
|next`,
}

func TestMultilinePresets(t *testing.T) {
	for preset, text := range traces {
		t.Run(preset, func(t *testing.T) {
			o := tail.Options{Multiline: tail.Multiline{Preset: preset}}
			want := strings.Split(text, "\n|")
			wantRecords(t, pass(t, o, strings.ReplaceAll(text, "\n|", "\n")+"\n"), want...)
			// The same behind a container runtime, of two source streams at once.
			o.Format = "cri"
			var in strings.Builder
			for _, l := range strings.Split(strings.ReplaceAll(text, "\n|", "\n"), "\n") {
				for _, source := range []string{"stdout", "stderr"} {
					in.WriteString(criLine(source, "P", l[:len(l)/2]) + criLine(source, "F", l[len(l)/2:]))
				}
			}
			for _, source := range []string{"stdout", "stderr"} {
				var got, wants []string
				for _, r := range pass(t, o, in.String()) {
					if r.Source == source {
						got = append(got, string(r.Content))
					}
				}
				wants = append(wants, want...)
				if !slices.Equal(got, wants) {
					t.Errorf("%s: got %q, want %q", source, got, wants)
				}
			}
		})
	}
}

func TestMultilinePatterns(t *testing.T) {
	in := "# 1\na\nb\n# 2\n# 3\nc\n"
	for _, tt := range []struct {
		m    tail.Multiline
		in   string
		want []string
	}{
		{tail.Multiline{Start: "^#"}, in, []string{"# 1\na\nb", "# 2", "# 3\nc"}},
		{tail.Multiline{Continuation: "^[a-z]"}, in, []string{"# 1\na\nb", "# 2", "# 3\nc"}},
		{tail.Multiline{End: "^[bc]$"}, in, []string{"# 1\na\nb", "# 2\n# 3\nc"}},
		{tail.Multiline{Start: "^#", MaxBytes: 5}, in, []string{"# 1\na", "b", "# 2", "# 3\nc"}},
		{tail.Multiline{Start: "^#"}, "a\nb\n#\n\n\n", []string{"a\nb", "#\n\n"}},
	} {
		wantRecords(t, pass(t, tail.Options{Multiline: tt.m}, tt.in), tt.want...)
	}
}

func TestEncodings(t *testing.T) {
	le, be := unicode.LittleEndian, unicode.BigEndian
	for name, enc := range map[string]encoding.Encoding{
		"gb18030": simplifiedchinese.GB18030, "gbk": simplifiedchinese.GBK,
		"utf-16le": unicode.UTF16(le, unicode.IgnoreBOM), "utf-16be": unicode.UTF16(be, unicode.IgnoreBOM),
	} {
		t.Run(name, func(t *testing.T) {
			text := "plain\r\n中文日志\n\nĀ上" + strings.Repeat("长", 30) + "\n"
			if name != "gbk" {
				text += "\U0001f600 € \ufffd\n"
			} else {
				text = strings.ReplaceAll(text, "Ā", "")
			}
			raw, err := enc.NewEncoder().String(text)
			if err != nil {
				t.Fatal(err)
			}
			o := tail.Options{Encoding: name, TrimCR: true}
			wantRecords(t, pass(t, o, raw), strings.Split(strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\r", ""), "\n")...)
			o.MaxRecord = 10 // bytes, after conversion: three characters and no part of one
			recs := pass(t, o, raw)
			for _, r := range recs {
				if len(r.Content) > 10 || !utf8.Valid(r.Content) {
					t.Errorf("piece %q", r.Content)
				}
			}
			if got := string(join(recs)); got != strings.ReplaceAll(text, "\r", "") {
				t.Errorf("got %q", got)
			}
			o.MaxRecord = 0
			bad := raw + "\xff\xff\xff\xd8" + raw
			if name == "utf-16be" {
				bad = raw + "\xd8\x00\xd8\x00" + raw
			}
			got := shown(pass(t, o, bad))
			if n := strings.Count(text, "\n"); len(got) != 2*n || strings.Contains(got[n], "\ufffd") {
				t.Errorf("a line that is no text: got %q", got)
			}
		})
	}
}

// What is read in whatever pieces, over restarts at each, gives the same
// records.
func anyChunking(t *testing.T, o tail.Options, text []byte, seed uint64) {
	t.Helper()
	x := tailer(t, o)
	want := x.Pass(text, []int{len(text)}, 1<<20)
	r := rand.New(rand.NewPCG(seed, 1))
	var ends []int
	for at := 0; at < len(text); {
		at = min(len(text), at+1+r.IntN(1+r.IntN(200)))
		ends = append(ends, at)
	}
	if len(ends) == 0 {
		ends = []int{0}
	}
	got := x.Pass(text, ends, 1+r.IntN(300))
	if a, b := shown(got), shown(want); !slices.Equal(a, b) {
		i := 0
		for i < len(a) && i < len(b) && a[i] == b[i] {
			i++
		}
		t.Fatalf("record %d: in pieces %q, at once %q", i, a[i:min(i+2, len(a))], b[i:min(i+2, len(b))])
	}
	for i := range got {
		if got[i].Offset != want[i].Offset || got[i].Time != want[i].Time {
			t.Fatalf("record %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

func FuzzCRI(f *testing.F) {
	f.Add([]byte(criLine("stdout", "P", "a")+criLine("stderr", "F", "b")+criLine("stdout", "F", "c")), uint64(1))
	f.Add([]byte("not so\n"+criLine("stdout", "P", "never ends")+strings.Repeat(criLine("stderr", "F", "x"), 40)), uint64(2))
	f.Add([]byte(strings.Repeat(criLine("stderr", "P", "x")+criLine("stdout", "F", "\tat x"), 40)), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		anyChunking(t, tail.Options{Format: "cri", TrimCR: seed%2 == 0}, text, seed)
		anyChunking(t, tail.Options{Format: "cri", Multiline: tail.Multiline{Preset: "java"}}, text, seed)
		for _, l := range bytes.Split(text, []byte("\n")) {
			source, at, s, last, ok := tail.ParseCRI(l)
			if !ok {
				continue
			}
			when, rest, _ := bytes.Cut(l, []byte(" "))
			want, err := time.Parse(time.RFC3339Nano, string(when))
			if err == nil && want.UnixNano() != at {
				t.Errorf("time %s: got %d, want %d", when, at, want.UnixNano())
			}
			tag := map[bool]string{true: "F", false: "P"}[last]
			if !bytes.HasPrefix(rest, []byte(source+" "+tag)) || !bytes.HasSuffix(rest, s) {
				t.Errorf("%q: got %s %s %q", l, source, tag, s)
			}
		}
	})
}

func FuzzDocker(f *testing.F) {
	f.Add([]byte(dockerLine("stdout", "a")+dockerLine("stderr", "b\n")+dockerLine("stdout", "c\n")), uint64(1))
	f.Add([]byte(dockerLine("stdout", "\"\\\t\u2028\n")+"{\n"+`{"log":"\ud83d\ude00\n","stream":"stdout","time":"`+stamp+`"}`), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		anyChunking(t, tail.Options{Format: "docker"}, text, seed)
		for _, l := range bytes.Split(text, []byte("\n")) {
			source, _, s, last, ok := tail.ParseDocker(l)
			var want struct{ Log, Stream string }
			if !ok || json.Unmarshal(l, &want) != nil || !utf8.Valid(l) || bytes.ContainsAny(l, "LST") {
				continue
			}
			got := string(s)
			if last {
				got += "\n"
			}
			if source != want.Stream || got != want.Log {
				t.Errorf("%q: got %s %q", l, source, got)
			}
		}
	})
}

func FuzzEncoding(f *testing.F) {
	for _, s := range []string{"plain\r\n", "\xd6\xd0\xce\xc4\n\x81\x30\x81\x30\n", "\xff\xfea\x00\r\x00\n\x00\x0a\x01\n\x00", "\xfe\xff\x00a\x00\n\x0a\x00\x00\n"} {
		f.Add([]byte(s), uint64(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		for _, enc := range []string{"gb18030", "gbk", "utf-16le", "utf-16be"} {
			anyChunking(t, tail.Options{Encoding: enc, TrimCR: seed%2 == 0, MaxRecord: 4 + int(seed%60)}, text, seed)
		}
	})
}

func FuzzMultiline(f *testing.F) {
	for _, text := range traces {
		f.Add([]byte(strings.ReplaceAll(text, "\n|", "\n")), uint64(1))
	}
	f.Add([]byte(strings.Repeat("# a\r\n b\n", 50)+"no end"), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		ms := []tail.Multiline{{Preset: "java"}, {Preset: "python"}, {Preset: "go"}, {Preset: "node"}, {Start: "^[#a-f]"}, {Continuation: `^\s`}, {End: "[.}]$"}}
		m := ms[seed%uint64(len(ms))]
		o := tail.Options{Multiline: m, TrimCR: seed%3 == 0}
		anyChunking(t, o, text, seed)
		if !o.TrimCR {
			// All there is, joined or not.
			var b []byte
			for _, r := range tailer(t, o).Pass(text, []int{len(text)}, 1<<20) {
				b = append(append(b, r.Content...), '\n')
			}
			if want := append(bytes.TrimSuffix(slices.Clone(text), []byte("\n")), '\n'); len(text) > 0 && !bytes.Equal(b, want) {
				t.Fatalf("got %q, want %q", b, want)
			}
		}
		o.MaxRecord, o.Multiline.MaxBytes = 4+int(seed%100), 1+int(seed%4)
		anyChunking(t, o, text, seed)
	})
}

func TestPodTags(t *testing.T) {
	for path, want := range map[string]string{
		"/var/log/pods/default_web-0_1a2b/app/0.log":                      "default web-0 1a2b app 0",
		"/var/log/pods/kube-system_a_b/c.d/12.log.20261123-144555":        "kube-system a b c.d 12",
		"/host/pods/default_web-0_1a2b/app/3.log.20261123-144555.gz":      "default web-0 1a2b app 3",
		"/var/log/pods/default_web-0_1a2b/app/x.log":                      "",
		"/var/log/pods/default_web-0/app/0.log":                           "",
		"/var/log/nginx/access.log":                                       "",
		"0.log":                                                           "",
		"/var/lib/docker/containers/0123456789abcdef/0123456789-json.log": "",
	} {
		var got []string
		for _, tag := range tail.PodTags(path) {
			got = append(got, tag.Value)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: got %q, want %q", path, s, want)
		}
	}
}
