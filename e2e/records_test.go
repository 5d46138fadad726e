package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A container's log, in pieces, over kills and a rotation: records are whole,
// with the runtime's time, their source stream and the pod's tags.
func TestContainerLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, "sm4-gcm", "pods/*/*/*.log", quickStream+`
format = "cri"
flush_after = "300ms"
multiline = { preset = "java", max_age = "300ms" }
drop = ["DEBUG"]
`, "")
	dir := r.path("logs", "pods", "shop_web-0_1a2b", "app")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "3.log")
	const stamp = "2026-11-23T14:45:55.123456789Z "
	appendTo(t, log, stamp+"stdout F INFO start\n"+stamp+"stdout F DEBUG noise\n"+stamp+"stdout P ERROR lo\n"+stamp+"stderr F warning\n")
	r.start()
	r.until("two records and a piece", func() bool { return len(r.open()) >= 3 })
	r.kill()
	if err := os.Rename(log, log+".20261123-144600"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log, stamp+"stdout F st\n"+stamp+"stdout F INFO x\n"+stamp+"stdout F \tat a.B(C.java:1)\n"+stamp+"stdout F INFO y\nnot so\n")
	r.start()
	r.until("all", func() bool { return len(r.open()) >= 6 })
	r.until("nothing to be left to seal", func() bool { s, _ := r.status(); return first(s).Files.Lag == 0 })
	r.stop()
	got := map[string]opened{}
	for _, o := range r.open() {
		if o.Incomplete != "" || got[o.text(t)].Content != nil {
			t.Errorf("%q is incomplete (%q) or comes twice", o.text(t), o.Incomplete)
		}
		got[o.text(t)] = o
	}
	for text, source := range map[string]string{
		"INFO start": "stdout", "warning": "stderr", "ERROR lost": "stdout", "INFO x\n\tat a.B(C.java:1)": "stdout", "INFO y": "stdout", "not so": "",
	} {
		o, ok := got[text]
		if !ok || o.Source != source || source != "" && o.Time != strings.TrimSpace(stamp) {
			t.Errorf("%q: got %+v", text, o)
		}
		if o.Tags["__namespace__"]+o.Tags["__pod_name__"]+o.Tags["__pod_uid__"]+o.Tags["__container_name__"]+o.Tags["__restart_count__"] != "shopweb-01a2bapp3" {
			t.Errorf("%q: tags %v", text, o.Tags)
		}
		delete(got, text)
	}
	if len(got) > 0 {
		t.Errorf("besides: %v", got)
	}
	if out := r.run("sealtail", "explain", log, "-c", r.path("sealtail.toml")); !strings.Contains(out, "  yes ") || !strings.Contains(out, "lag 0 bytes (as of the entry of ") {
		t.Errorf("explain says %s", out)
	}
	if out := r.run("sealtail", "run", "-c", r.path("sealtail.toml"), "--dry-run", "--show"); !strings.Contains(out, "INFO x⏎.at a.B") {
		t.Errorf("dry-run says %s", out)
	}
}

// What was not UTF-8 is, once it is opened.
func TestGB18030(t *testing.T) {
	t.Parallel()
	r := newRig(t, "sm4-gcm", "*.log", quickStream+"\nencoding = \"gb18030\"\ntrim_cr = true", "")
	appendTo(t, r.path("logs", "a.log"), "\xd6\xd0\xce\xc4\xc8\xd5\xd6\xbe\r\nplain\r\n\xff\r\n")
	r.start()
	r.until("three records", func() bool { return len(r.open()) >= 3 })
	r.stop()
	for i, want := range []string{"中文日志", "plain", "\xff"} {
		if got := r.open()[i].text(t); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
