package status_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealtail/status"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// well is a snapshot of an agent that is well.
func well() *status.Snapshot {
	return &status.Snapshot{
		Time:    noon,
		Process: status.Process{Version: "1.2.3", Host: "host-1", ConfigFile: "/etc/sealtail/sealtail.toml", Config: "0123456789abcdef", StateDir: "/var/lib/sealtail", Phase: "running", Started: noon.Add(-90 * time.Minute), Descriptors: 20, MaxOpen: 65536, Memory: 30 << 20},
		Streams: []status.Stream{{
			Name: "audit", Suite: "sm4-gcm", KeyRef: "main", To: "archive",
			Files:  status.Files{Followed: 3},
			Key:    status.Key{State: "ready", Since: noon.Add(-time.Hour), ID: "k1", Locked: true},
			Spool:  status.Spool{Recovered: true, MaxBytes: 2 << 30},
			Sink:   status.Sink{Envelopes: 7, Bytes: 7000, Acked: noon},
			Sealed: status.Sealed{Records: 100},
		}},
	}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name   string
		change func(s *status.Snapshot, l *status.Stream)
		want   []string // severity: beginning of what
		line   string   // beginning
		ready  bool
	}{
		{"well", func(*status.Snapshot, *status.Stream) {}, nil, "1 streams, 3 files, 0 B to seal, 0 B to ship", true},
		{"revoked", func(_ *status.Snapshot, l *status.Stream) {
			l.Key = status.Key{State: "paused", Since: noon.Add(-time.Minute), Reason: "revoked", Code: "Rejected.Disabled", Error: "e"}
		}, []string{"paused: no data key: revoked (Rejected.Disabled): e"}, "paused: audit: no data key: revoked (Rejected.Disabled): e since 2026-11-25T11:59:00Z; 1 streams", false},
		{"first key awaited", func(_ *status.Snapshot, l *status.Stream) {
			l.Key = status.Key{State: "init", Since: noon.Add(-time.Second)}
		}, nil, "1 streams", false},
		{"first key awaited for long", func(_ *status.Snapshot, l *status.Stream) {
			l.Key = status.Key{State: "init", Since: noon.Add(-time.Minute)}
		}, []string{"paused: no data key yet"}, "paused: audit: no data key yet", false},
		{"degraded", func(_ *status.Snapshot, l *status.Stream) { l.Key.State, l.Key.Reason = "degraded", "outage" },
			[]string{"warning: data key not refreshed"}, "warning: audit: data key not refreshed", true},
		{"no room", func(_ *status.Snapshot, l *status.Stream) {
			l.Spool.Waiting, l.Sink.Error = "max_bytes reached", "denied"
		},
			[]string{"paused: no room in the spool", "warning: sink archive refuses"}, "paused: audit: no room in the spool: max_bytes reached (2.0 GiB) (and 1 more)", false},
		{"stalled", func(s *status.Snapshot, l *status.Stream) {
			s.Stalled, l.Ledger.Recent.Losses = []string{"audit: tail"}, 1
		},
			[]string{"stalled: a loop does not go on: audit: tail", "lost: 1 range,"}, "stalled: a loop does not go on: audit: tail (and 1 more)", true},
		{"lost in a pause", func(_ *status.Snapshot, l *status.Stream) { l.Key.State, l.Ledger.Recent.Lost = "paused", 9 },
			[]string{"paused: no data key", "lost: 9 bytes of files"}, "paused: audit: no data key", false},
		{"lost longer ago", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Loss = status.Loss{Losses: 2, Lost: 9, By: map[string]int64{"deleted": 9}}
		}, nil, "1 streams", true},
		{"lost longer ago, and today", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Loss, l.Ledger.Recent = status.Loss{Losses: 3, Lost: 13, By: map[string]int64{"deleted": 13}}, status.Loss{Losses: 1, Lost: 4, By: map[string]int64{"deleted": 4}}
		}, []string{"lost: 1 range, 4 bytes of files"}, "lost: audit: 1 range", true},
		{"parked", func(_ *status.Snapshot, l *status.Stream) { l.Spool.Rejected = 2 }, []string{"lost: 2 batches"}, "lost: audit: 2 batches", true},
		{"closed", func(_ *status.Snapshot, l *status.Stream) {
			l.Files.Closed, l.Files.ClosedAt, l.Files.ClosedAs = 2, "/var/log/a", "permission denied"
		}, []string{"warning: 2 files or directories cannot be read, such as /var/log/a: permission denied"}, "warning: audit: 2 files", true},
		{"late", func(_ *status.Snapshot, l *status.Stream) { l.Files.LagAge = 3600 }, []string{"warning: lines are sealed 1h00m late"}, "warning", true},
		{"swappable", func(s *status.Snapshot, l *status.Stream) { s.Process.Swap, l.Key.Locked = true, false }, []string{"warning: the data key's memory"}, "warning", true},
		{"not locked, without swap", func(_ *status.Snapshot, l *status.Stream) { l.Key.Locked = false }, nil, "1 streams", true},
		{"refused reload", func(s *status.Snapshot, _ *status.Stream) {
			s.Process.ReloadError, s.Process.Restart = "line 3", []string{"agent.host"}
		}, []string{"warning: reload refused", "warning: changed, and waits for a restart: agent.host"}, "warning: reload refused", true},
		{"stopping", func(s *status.Snapshot, _ *status.Stream) { s.Process.Phase = "stopping" }, nil, "stopping", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := well()
			tt.change(s, &s.Streams[0])
			status.Judge(s)
			ok := len(s.Problems) == len(tt.want)
			for i, p := range s.Problems {
				ok = ok && strings.HasPrefix(p.Severity+": "+p.What, tt.want[i]) && p.Fix != ""
			}
			if !ok {
				t.Errorf("problems: got %+v, want %q", s.Problems, tt.want)
			}
			if !strings.HasPrefix(s.Line(), tt.line) {
				t.Errorf("line: got %q, want %q …", s.Line(), tt.line)
			}
			if why := s.Ready(); (why == "") != tt.ready {
				t.Errorf("ready: got %q, want %v", why, tt.ready)
			}
			var text bytes.Buffer
			if err := s.Write(&text); err != nil {
				t.Fatal(err)
			}
			head := "fine "
			if len(s.Problems) > 0 {
				head = strings.ToUpper(s.Problems[0].Severity)
			}
			if !strings.HasPrefix(text.String(), head) {
				t.Errorf("text begins %.20q, want %q", text.String(), head)
			}
		})
	}
}

// closed has a file be closed to the agent.
func closed(err error) func(*status.Snapshot, *status.Stream) {
	return func(_ *status.Snapshot, l *status.Stream) {
		l.Files.Closed, l.Files.ClosedAt, l.Files.ClosedAs, l.Files.ClosedErr = 1, "/var/log/a", err.Error(), err
	}
}

// refused has a sink of type dir refuse.
func refused(err error) func(*status.Snapshot, *status.Stream) {
	return func(_ *status.Snapshot, l *status.Stream) {
		l.Sink.Dir, l.Sink.Err, l.Sink.Error, l.Sink.Failing = "/srv/sealed", fmt.Errorf("create: %w", err), "create: "+err.Error(), noon
	}
}

// refusedKey has a key service refuse.
func refusedKey(reason, code string) func(*status.Snapshot, *status.Stream) {
	return func(_ *status.Snapshot, l *status.Stream) {
		l.Key = status.Key{State: "paused", Reason: reason, Code: code, Error: "why"}
	}
}

// An alone is a refusal of a batch for what it holds.
type alone int

func (a alone) Error() string        { return "malformed" }
func (a alone) Alone() (n, most int) { return int(a), 5 }

// What is told to do can help, and a pause has its beginning.
func TestFix(t *testing.T) {
	tests := []struct {
		name     string
		change   func(s *status.Snapshot, l *status.Stream)
		has, not []string // of the text
	}{
		{"little free disk", func(_ *status.Snapshot, l *status.Stream) {
			l.Spool.Waiting, l.Spool.Since, l.Spool.MinFree = "free disk below min_free", noon.Add(-time.Minute), 0.05
		}, []string{"for 1m00s, since", "(5% of the disk of /var/lib/sealtail)", "lower spool.min_free"}, []string{"max_bytes"}},
		{"a full spool", func(_ *status.Snapshot, l *status.Stream) { l.Spool.Waiting = "max_bytes reached" },
			[]string{"(2.0 GiB)", "raise spool.max_bytes"}, []string{"min_free"}},
		{"no room at all", func(_ *status.Snapshot, l *status.Stream) { l.Spool.Waiting = "no space left on device" },
			[]string{"free room on the disk of /var/lib/sealtail"}, []string{"max_bytes", "min_free"}},
		{"deleted while no agent ran", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Recent, l.Ledger.Newest = status.Loss{Losses: 2, Lost: 7, By: map[string]int64{"deleted": 7}}, noon.Add(-time.Hour)
		}, []string{"2 ranges, 7 bytes of files are lost: 7 B deleted unread; the newest at 2026-11-25T11:00:00Z\n", "while no agent runs", "for a day"}, []string{"hold.", "check the disk"}},
		{"lost longer ago", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Loss, l.Ledger.Newest = status.Loss{Losses: 2, Lost: 4097, By: map[string]int64{"deleted": 1, "held": 4096}}, noon.Add(-48*time.Hour)
		}, []string{"audit lost 2 ranges, 4097 bytes since its state began: 1 B deleted unread, 4.0 KiB beyond the hold limit; the newest at 2026-11-23T12:00:00Z; sealtail-reader"}, []string{"fix:"}},
		{"no descriptor to hold it by", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Recent = status.Loss{Losses: 1, Lost: 7, By: map[string]int64{"unopened": 7}}
		}, []string{"7 B deleted waiting for a descriptor", "raise LimitNOFILE"}, []string{"while no agent runs", "let rotation"}},
		{"files wait for a descriptor", func(_ *status.Snapshot, l *status.Stream) {
			l.Files.Waiting, l.Files.Open, l.Files.Waits = 3, 56, noon.Add(-11*time.Second)
		}, []string{"3 files wait for a descriptor, 56 are open", "raise LimitNOFILE"}, nil},
		{"beyond the hold limit", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Recent = status.Loss{Losses: 1, Lost: 7, By: map[string]int64{"held": 7}}
		}, []string{"1 range,", "raise hold.max_bytes"}, []string{"while no agent runs"}},
		{"truncated and rewritten", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Recent.Add("truncated unread", 1, 7)
			l.Ledger.Recent.Add("rewritten unread", 1, 9)
			l.Ledger.Recent.Add("rewritten unread", 0, 0)
			l.Ledger.Recent.Add("something new", 1, 3)
		}, []string{"3 ranges, 19 bytes of files are lost: 7 B truncated unread, 9 B rewritten unread\n",
			"name file and range of each; rotate by renaming, not by truncating or rewriting; this is told for a day\n"}, []string{"hold."}},
		{"in a damaged spool", func(_ *status.Snapshot, l *status.Stream) {
			l.Ledger.Recent = status.Loss{Losses: 1, Lost: 7, By: map[string]int64{"spool": 7}}
		}, []string{"7 B in a damaged spool", "check the disk of /var/lib/sealtail"}, []string{"while no agent runs"}},
		{"no rights", closed(syscall.EACCES), []string{"/var/log/a cannot be read: permission denied", "let the agent's user read"}, []string{"disk"}},
		{"a bad disk", closed(syscall.EIO), []string{"cannot be read: input/output error", "fsck"}, []string{"agent's user", "findmnt"}},
		{"a file system that is gone", closed(syscall.ESTALE), []string{"stale", "findmnt -T"}, []string{"agent's user", "fsck"}},
		{"no descriptor", closed(syscall.EMFILE), []string{"raise LimitNOFILE"}, []string{"agent's user", "fsck"}},
		{"no descriptor anywhere", closed(syscall.ENFILE), []string{"raise fs.file-max"}, []string{"LimitNOFILE"}},
		{"not read for some other reason", closed(errors.New("flate: corrupt input before offset 9")), []string{"mend what it says"}, []string{"agent's user", "fsck"}},
		{"a full disk of a sink", refused(syscall.ENOSPC), []string{"sink archive refuses", "free room on the disk of /srv/sealed", "newest"}, []string{"--online", "mend"}},
		{"no quota left", refused(syscall.EDQUOT), []string{"quota of the agent's user on the disk of /srv/sealed"}, []string{"--online"}},
		{"a sink that is read-only", refused(syscall.EROFS), []string{"name /srv/sealed in ReadWritePaths= of [Service]", "remount,rw"}, []string{"--online"}},
		{"a sink that may not be written to", refused(syscall.EACCES), []string{"let the agent's user write to /srv/sealed"}, []string{"--online", "ReadWritePaths"}},
		{"a file in the way", refused(syscall.ENOTDIR), []string{"change path of [sink.archive]"}, []string{"--online"}},
		{"a bad disk of a sink", refused(syscall.EIO), []string{"fsck"}, []string{"--online", "mend"}},
		{"a Logstore that refuses", func(s *status.Snapshot, l *status.Stream) {
			refused(syscall.ECONNREFUSED)(s, l)
			l.Sink.Dir = ""
		}, []string{"sealtail check --online asks the sink"}, []string{"findmnt"}},
		{"a batch that is refused", func(s *status.Snapshot, l *status.Stream) {
			refused(alone(3))(s, l)
			l.Sink.Dir, l.Trend.SpoolETA = "", -1
		}, []string{"refused for what it holds (3 of 5 times)"}, []string{"--online", "never"}},
		{"a Logstore that refuses a batch and its stub", func(s *status.Snapshot, l *status.Stream) {
			refused(alone(0))(s, l)
			l.Sink.Dir = ""
		}, []string{"sealtail check --online asks the sink"}, []string{"for what it holds"}},
		{"no room to set aside", func(s *status.Snapshot, l *status.Stream) {
			refused(syscall.EDQUOT)(s, l)
			l.Sink.Parking = true
		}, []string{"can never accept cannot be set aside", "move out what is in /var/lib/sealtail/streams/audit/rejected"}, []string{"/srv/sealed (", "refuses"}},
		{"batches set aside", func(_ *status.Snapshot, l *status.Stream) { l.Spool.Rejected = 2 },
			[]string{"2 batches, still sealed, set aside", "/var/lib/sealtail/streams/audit/rejected;", "not told any more"}, nil},
		{"a damaged spool", func(_ *status.Snapshot, l *status.Stream) { l.Spool.Damaged = 2 },
			[]string{"damaged in 2 places", "/var/lib/sealtail/streams/audit/damaged:"}, []string{"missing"}},
		{"a spool that lost segments", func(_ *status.Snapshot, l *status.Stream) { l.Spool.Missing = []string{"2", "4 to 7"} },
			[]string{"missing in the spool at a start: segments 2, 4 to 7;", "who removes files in /var/lib/sealtail/streams/audit or", "*.missing"}, []string{"smartctl"}},
		{"too slow a sink", func(_ *status.Snapshot, l *status.Stream) {
			l.Spool.Oldest, l.Trend = noon.Add(-time.Hour), status.Rates{Shipping: 1 << 20, SpoolETA: -1}
		}, []string{"it ships 1.0 MiB/s, and no less comes"}, []string{"never", "catches up", "catching up"}},
		{"a request that hangs", func(_ *status.Snapshot, l *status.Stream) {
			l.Spool.Oldest, l.Trend = noon.Add(-time.Hour), status.Rates{SpoolETA: -1}
		}, []string{"nothing was shipped in the last 10 s"}, []string{"never", "catches up"}},
		{"catching up to a sink that stands", func(_ *status.Snapshot, l *status.Stream) {
			l.Files.Lag, l.Files.LagAge, l.Trend = 1<<20, 3600, status.Rates{Sealing: 1 << 10, LagETA: 1024, SpoolETA: -1}
		}, []string{"fix: nothing: it is catching up, done in about 17m04s\n", "audit catches up: 1.0 MiB to seal at 1.0 KiB/s, about 17m04s\n"}, []string{"never", "to ship"}},
		{"late for what cannot be read", func(s *status.Snapshot, l *status.Stream) {
			closed(syscall.EIO)(s, l)
			l.Files.Lag, l.Files.LagAge, l.Trend.LagETA = 9, 3600, -1
		}, []string{"1h00m late", "what cannot be read waits"}, []string{"rate_limit"}},
		{"a broken credentials file", func(_ *status.Snapshot, l *status.Stream) {
			l.Key = status.Key{State: "paused", Reason: "outage", Code: "NoCredentials", Error: "has mode 0644"}
		}, []string{"finds its access key", "read again by themselves; for type env or systemd mend the unit, or what it loads, and restart"}, []string{"network"}},
		{"an access key that is refused", func(_ *status.Snapshot, l *status.Stream) {
			l.Key = status.Key{State: "paused", Reason: "credentials", Code: "SignatureDoesNotMatch"}
		}, []string{"put a valid access key", "for type env or systemd mend the unit, or what it loads, and restart"}, []string{"network"}},
		{"a credentials file that went missing", func(_ *status.Snapshot, l *status.Stream) {
			l.Key.Access = status.Access{Error: "/etc/k: no such file", Since: noon.Add(-time.Minute)}
		}, []string{"WARNING", "the access key of [key.main] cannot be looked up, the one found last is used: /etc/k: no such file", "before a restart"}, []string{"[sink.", "paused"}},
		{"a sink's credentials file that went missing", func(_ *status.Snapshot, l *status.Stream) {
			l.Sink.Access = status.Access{Error: "/etc/s: no such file", Since: noon}
		}, []string{"the access key of [sink.archive] cannot be looked up"}, []string{"[key.main]"}},
		{"a wrong route", func(_ *status.Snapshot, l *status.Stream) {
			l.Key = status.Key{State: "paused", Reason: "outage", Code: "Network", Error: "connection refused"}
		}, []string{"dial_address, ca_file"}, []string{"nothing to do"}},
		{"a certificate that is refused", func(_ *status.Snapshot, l *status.Stream) {
			l.Key = status.Key{State: "paused", Reason: "outage", Code: "Certificate", Error: "its authority is not in ca_file /etc/ca.pem"}
		}, []string{"in ca_file /etc/ca.pem", "ca_file of the route of [key.main]"}, []string{"dial_address"}},
		{"a lost keyring", refusedKey("revoked", "NoFile"), []string{"put the keyring file of [key.main] back"}, []string{"master key", "right"}},
		{"a keyring that lost a key which waits", refusedKey("revoked", "LostKey"), []string{"put the key back into the keyring file of [key.main]", "another [key.NAME]", "see to the sink"}, []string{"master key", "right"}},
		{"a key that waits is destroyed", func(_ *status.Snapshot, l *status.Stream) { l.Spool.Destroyed = []string{"k1", "k2"} },
			[]string{"LOST", "sealed under key k1, k2, which is destroyed in its keyring: without a copy", "until they are shipped"}, []string{"paused"}},
		{"a disabled keyring", refusedKey("revoked", "Disabled"), []string{"mend the keyring file of [key.main]"}, []string{"master key"}},
		{"a disabled CMK", refusedKey("revoked", "Rejected.Disabled"), []string{"enable the master key of [key.main]"}, []string{"keyring"}},
		{"no right to make data keys", refusedKey("revoked", "Forbidden.NoPermission"), []string{"allow kms:GenerateDataKey"}, []string{"enable"}},
		{"no right to look at the CMK", refusedKey("misfit", "DescribeKey"), []string{"allow kms:DescribeKey", "remove require_sm4_cmk"}, []string{"enable the", "keyring"}},
		{"a wrong clock", refusedKey("outage", "InvalidTimeStamp.Expired"), []string{"set this host's clock"}, []string{"nothing to do", "network"}},
		{"another wrong clock", refusedKey("outage", "IllegalTimestamp"), []string{"set this host's clock"}, []string{"nothing to do"}},
		{"a broken keyring", func(_ *status.Snapshot, l *status.Stream) { l.Key.State, l.Key.Reason = "paused", "misfit" },
			[]string{"a keyring is read again by itself"}, nil},
		{"reloading", func(s *status.Snapshot, _ *status.Stream) { s.Process.Phase = "reloading" },
			[]string{"reloading, up 1h30m"}, []string{"reloading for"}},
		{"a keyring that lost a key", func(s *status.Snapshot, _ *status.Stream) { s.Process.ReloadError = "keyring k lost key 1" },
			[]string{"sealtail.toml or a keyring"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := well()
			tt.change(s, &s.Streams[0])
			status.Judge(s)
			var b strings.Builder
			if err := s.Write(&b); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.has {
				if !strings.Contains(b.String(), want) {
					t.Errorf("no %q in:\n%s", want, b.String())
				}
			}
			for _, not := range tt.not {
				if strings.Contains(b.String(), not) {
					t.Errorf("%q in:\n%s", not, b.String())
				}
			}
		})
	}
}

// What a service says is shown without what steers a terminal.
func TestTextIsPlain(t *testing.T) {
	s := well()
	s.Streams[0].Sink.Error = "\x1b[2J\r\nnot\x00 here"
	status.Judge(s)
	var text bytes.Buffer
	if err := s.Write(&text); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text.String(), "\x1b\r\x00") {
		t.Errorf("got %q", text.String())
	}
}

// A pause, and how it is caught up.
func TestTrend(t *testing.T) {
	var trend status.Trend
	var seen, sealed, pending, sent int64
	at := noon
	add := func() status.Stream {
		at = at.Add(time.Second)
		var s status.Stream
		s.Files.Lag, s.Sealed.Taken, s.Spool.PendingB, s.Sink.Bytes = seen-sealed, sealed, pending, uint64(sent)
		trend.Add(at, &s)
		return s
	}
	for range 60 {
		seen += 1000
		sealed += 1000
		add()
	}
	if s := add(); s.Files.LagAge != 0 || s.Trend.Sealing < 900 || s.Trend.LagETA != 0 {
		t.Errorf("without lag: %+v %+v", s.Files, s.Trend)
	}
	const pause = 5000
	var s status.Stream
	for range pause {
		seen += 1000
		s = add()
	}
	if s.Files.LagAge < pause-120 || s.Files.LagAge > pause+120 || s.Trend.LagETA != -1 || s.Trend.Arriving != 1000 {
		t.Errorf("after the pause: age %v, %+v", s.Files.LagAge, s.Trend)
	}
	pending = 3_000_000
	for range 60 {
		seen += 1000
		sealed += 25_000
		pending -= 10_000
		sent += 12_000
		s = add()
	}
	left := float64(seen-sealed) / 24_000
	if s.Trend.LagETA < left-1 || s.Trend.LagETA > left+1 || s.Trend.SpoolETA < 230 || s.Trend.SpoolETA > 250 || s.Trend.Shipping != 12_000 {
		t.Errorf("catching up: %+v, want about %v s", s.Trend, left)
	}
	pending, seen = 1<<40, sealed+1<<40
	if s = add(); s.Trend.LagETA != -1 || s.Trend.SpoolETA != -1 {
		t.Errorf("in years: %+v, want no time", s.Trend)
	}
	seen, pending = sealed+int64(left*24_000), 0
	s = add()
	if want := float64(pause) - 60*24; s.Files.LagAge < 0.9*want || s.Files.LagAge > 1.1*want {
		t.Errorf("catching up: age %v, want about %v", s.Files.LagAge, want)
	}
}

func TestHandler(t *testing.T) {
	var board status.Board
	server := httptest.NewServer(board.Handler(true))
	defer server.Close()
	want := func(path string, code int, text string) {
		t.Helper()
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != code || !strings.Contains(string(b), text) {
			t.Errorf("%s: got %d %q, want %d %q", path, resp.StatusCode, b, code, text)
		}
	}
	post := func(change func(s *status.Snapshot)) {
		s := well()
		s.Time = time.Now()
		change(s)
		status.Judge(s)
		board.Post(s)
	}
	for _, path := range []string{"/livez", "/readyz", "/status"} {
		want(path, 503, "starting")
	}
	post(func(*status.Snapshot) {})
	want("/livez", 200, "ok")
	want("/readyz", 200, "ok")
	want("/status", 200, `"name":"audit"`)
	want("/metrics", 200, "sealtail_ready 1\n")
	want("/other", 404, "")
	post(func(s *status.Snapshot) { // a restart forgets what is not told yet: no counter may have it
		g := &s.Streams[0].Ledger
		g.Loss, g.Untold = status.Loss{Losses: 3, Lost: 13, By: map[string]int64{"deleted": 8, "held": 5}}, status.Loss{Losses: 1, Lost: 4, By: map[string]int64{"deleted": 4}}
	})
	want("/metrics", 200, `sealtail_losses_total{stream="audit"} 2`)
	want("/metrics", 200, `sealtail_lost_bytes_total{reason="deleted",stream="audit"} 4`)
	want("/metrics", 200, `sealtail_lost_bytes_total{reason="held",stream="audit"} 5`)
	want("/metrics", 200, `sealtail_lost_untold_bytes{stream="audit"} 4`)
	post(func(s *status.Snapshot) { s.Streams[0].Key.State = "paused" })
	want("/livez", 200, "ok")
	want("/readyz", 503, "audit: no data key")
	post(func(s *status.Snapshot) { s.Stalled = []string{"audit: tail"} })
	want("/livez", 200, "ok") // a disk hangs, which another process would meet too
	post(func(s *status.Snapshot) { s.Time = time.Now().Add(-time.Minute) })
	want("/livez", 503, "no look at the loops")
	resp, err := http.Post(server.URL+"/status", "", nil)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// docs/METRICS.md lists the metrics, each with its kind and labels.
func TestMetricsDoc(t *testing.T) {
	var board status.Board
	board.Post(well())
	server := httptest.NewServer(board.Handler(false))
	defer server.Close()
	resp, err := http.Get(server.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	help, labels := map[string]string{}, map[string]string{}
	var rows []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		name, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), " ")
		switch {
		case strings.HasPrefix(line, "# HELP sealtail_"):
			help[name] = rest
		case strings.HasPrefix(line, "# TYPE sealtail_"):
			rows = append(rows, name+" "+rest)
		case strings.HasPrefix(line, "sealtail_") && strings.Contains(line, "{"):
			name, rest, _ := strings.Cut(line, "{")
			var names []string
			for pair := range strings.SplitSeq(rest[:strings.Index(rest, "}")], ",") {
				l, _, _ := strings.Cut(pair, "=")
				names = append(names, l)
			}
			slices.Sort(names)
			labels[name] = strings.Join(names, ", ")
		}
	}
	var table strings.Builder
	table.WriteString("| metric | kind | labels | is |\n|---|---|---|---|\n")
	for _, row := range rows {
		name, kind, _ := strings.Cut(row, " ")
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", name, kind, labels[name], help[name])
	}
	const file, begin, end = "../docs/METRICS.md", "<!-- metrics: go test ./status -update -->\n", "<!-- end -->\n"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(doc), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	switch {
	case *update:
		if err := os.WriteFile(file, []byte(head+begin+table.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	case old != table.String():
		t.Errorf("%s is not what the code says: go test ./status -update", file)
	}
	// An alert that names no metric would never fire.
	for word := range strings.FieldsFuncSeq(head+tail, func(r rune) bool { return !(r == '_' || r >= 'a' && r <= 'z') }) {
		if strings.HasPrefix(word, "sealtail_") && help[word] == "" {
			t.Errorf("%s speaks of %s, which is no metric", file, word)
		}
	}
}
