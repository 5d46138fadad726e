package emul_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"sealtail/emul"
)

// message appends length-delimited fields of protobuf.
func field(b []byte, num int, data []byte) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<3|2)
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

func content(key, value string) []byte {
	return field(field(nil, 1, []byte(key)), 2, []byte(value))
}

func logAt(t time.Time, contents ...[]byte) []byte {
	b := binary.AppendUvarint([]byte{1 << 3}, uint64(t.Unix()))
	for _, c := range contents {
		b = field(b, 2, c)
	}
	return b
}

// group is a LogGroup of one log with one value, of now.
func group(c *client, value string) []byte {
	return field(nil, 1, logAt(c.now(), content("content", value)))
}

// put writes a LogGroup, compressed if kind is not "".
func (c *client) put(uri, kind string, raw []byte) reply {
	c.t.Helper()
	h := map[string]string{"Content-Type": "application/x-protobuf", "x-log-bodyrawsize": strconv.Itoa(len(raw))}
	if kind != "" {
		h["x-log-compresstype"] = kind
	}
	return c.sls("POST", uri, h, squeeze(c.t, kind, raw))
}

func squeeze(t testing.TB, kind string, raw []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	switch kind {
	case "lz4":
		b := make([]byte, lz4.CompressBlockBound(len(raw)))
		n, err := lz4.CompressBlock(raw, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b[:n]
	case "zstd":
		e, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return e.EncodeAll(raw, nil)
	case "gzip":
		w := gzip.NewWriter(&out)
		w.Write(raw)
		w.Close()
	case "deflate":
		w := zlib.NewWriter(&out)
		w.Write(raw)
		w.Close()
	default:
		return raw
	}
	return out.Bytes()
}

func expand(t testing.TB, kind string, b []byte, size int) []byte {
	t.Helper()
	var r io.Reader
	var err error
	switch kind {
	case "":
		return b
	case "lz4":
		out := make([]byte, size)
		n, err := lz4.UncompressBlock(b, out)
		if err != nil {
			t.Fatal(err)
		}
		return out[:n]
	case "zstd":
		r, err = zstd.NewReader(bytes.NewReader(b))
	case "gzip":
		r, err = gzip.NewReader(bytes.NewReader(b))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(b))
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// cursor returns a cursor of a shard of Logstore "ls".
func (c *client) cursor(shard int, from string) string {
	c.t.Helper()
	var v struct{ Cursor string }
	c.sls("GET", fmt.Sprintf("/logstores/ls/shards/%d?type=cursor&from=%s", shard, from), nil, nil).decode(c.t, &v)
	return v.Cursor
}

// pull returns the LogGroupList behind a cursor, expanded, and the next cursor.
func (c *client) pull(shard int, cursor, accept, more string) (list []byte, n int, next string) {
	c.t.Helper()
	uri := fmt.Sprintf("/logstores/ls/shards/%d?type=logs&count=10&cursor=%s%s", shard, cursor, more)
	r := c.sls("GET", uri, map[string]string{"Accept-Encoding": accept}, nil)
	if r.status != 200 {
		c.t.Fatalf("pull: %d %s", r.status, r.body)
	}
	size, err := strconv.Atoi(r.header.Get("X-Log-Bodyrawsize"))
	if err != nil {
		c.t.Fatal(err)
	}
	n, err = strconv.Atoi(r.header.Get("X-Log-Count"))
	if err != nil {
		c.t.Fatal(err)
	}
	if size > 0 {
		list = expand(c.t, r.header.Get("X-Log-Compresstype"), r.body, size)
	}
	if len(list) != size {
		c.t.Errorf("pulled %d bytes, told %d", len(list), size)
	}
	return list, n, r.header.Get("X-Log-Cursor")
}

func TestPutAndPull(t *testing.T) {
	for _, path := range []string{"/logstores/ls", "/logstores/ls/shards/lb", "/logstores/ls/shards/route?key=" + strings.Repeat("0", 32)} {
		for _, kind := range []string{"", "lz4", "zstd", "gzip", "deflate"} {
			t.Run(path+" "+kind, func(t *testing.T) {
				c := newClient(t, emul.Options{})
				c.create(&conf{Enable: true, EncryptType: "default"}, 1)
				first, second := group(c, strings.Repeat("a", 5000)), group(c, "second")
				for _, g := range [][]byte{first, second} {
					if r := c.put(path, kind, g); r.status != 200 || len(r.body) != 0 || r.header.Get("x-log-requestid") == "" {
						t.Fatalf("put: %d %s", r.status, r.body)
					}
				}
				list, n, next := c.pull(0, c.cursor(0, "begin"), kind, "")
				if want := field(field(nil, 1, first), 1, second); n != 2 || !bytes.Equal(list, want) {
					t.Errorf("pulled %d groups, %d bytes; want 2, %d", n, len(list), len(want))
				}
				if end := c.cursor(0, "end"); next != end {
					t.Errorf("next is %s, the end %s", next, end)
				}
				if list, n, again := c.pull(0, next, kind, ""); n != 0 || list != nil || again != next {
					t.Errorf("at the end: %d groups, cursor %s", n, again)
				}
			})
		}
	}
}

func TestIncompressible(t *testing.T) {
	c := newClient(t, emul.Options{})
	for _, n := range []int{0, 1, 14, 15, 16, 269, 270, 271, 70000} {
		c.create(nil, 1)
		g := group(c, base64.StdEncoding.EncodeToString(noise(n)))
		if r := c.put("/logstores/ls", "", g); r.status != 200 {
			t.Fatalf("%d: %s", n, r.body)
		}
		if list, _, _ := c.pull(0, c.cursor(0, "begin"), "lz4", ""); !bytes.Equal(list, field(nil, 1, g)) {
			t.Errorf("%d: other bytes came back", n)
		}
		c.sls("DELETE", "/logstores/ls", nil, nil)
	}
}

// noise returns bytes without a pattern, the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func TestCursors(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	c := newClient(t, emul.Options{Now: func() time.Time { return now }})
	c.create(nil, 2)
	start := now
	for i := range 3 {
		now = start.Add(time.Duration(i) * time.Minute)
		c.put("/logstores/ls/shards/route?key="+strings.Repeat("0", 32), "", group(c, strconv.Itoa(i)))
	}
	now = start.Add(time.Hour)
	at := func(i int) string { return strconv.FormatInt(start.Add(time.Duration(i)*time.Minute).Unix(), 10) }
	for _, tt := range []struct {
		from string
		want int // groups behind it
	}{{"begin", 3}, {at(-1), 3}, {at(0), 3}, {at(1), 2}, {at(2), 1}, {at(3), 0}, {"end", 0}} {
		cursor := c.cursor(0, tt.from)
		if _, n, _ := c.pull(0, cursor, "", ""); n != tt.want {
			t.Errorf("from %s: %d groups, want %d", tt.from, n, tt.want)
		}
		var v struct {
			Time int64 `json:"cursor_time"`
		}
		c.sls("GET", "/logstores/ls/shards/0?type=cursor_time&cursor="+cursor, nil, nil).decode(t, &v)
		want := start.Add(time.Duration(3-tt.want) * time.Minute).Unix()
		if tt.want == 0 {
			want = now.Unix()
		}
		if v.Time != want {
			t.Errorf("from %s: cursor_time %d, want %d", tt.from, v.Time, want)
		}
	}
	if _, n, next := c.pull(0, c.cursor(0, "begin"), "", "&end_cursor="+c.cursor(0, at(2))); n != 2 || next != c.cursor(0, at(2)) {
		t.Errorf("up to the end cursor: %d groups, next %s", n, next)
	}
	for _, tt := range []struct{ uri, want string }{
		{"/logstores/ls/shards/9?type=cursor&from=begin", "ShardNotExist"},
		{"/logstores/ls/shards/x?type=cursor&from=begin", "ParameterInvalid"},
		{"/logstores/x/shards/0?type=cursor&from=begin", "LogStoreNotExist"},
		{"/logstores/ls/shards/0?type=cursor&from=soon", "ParameterInvalid"},
		{"/logstores/ls/shards/0?type=logs&count=1&cursor=" + c.cursor(1, "begin"), "InvalidCursor"},
		{"/logstores/ls/shards/0?type=logs&count=1&cursor=x", "InvalidCursor"},
		{"/logstores/ls/shards/0?type=logs&count=1", "InvalidCursor"},
		{"/logstores/ls/shards/0?type=logs&count=0&cursor=" + c.cursor(0, "begin"), "ParameterInvalid"},
		{"/logstores/ls/shards/0?type=logs&count=1001&cursor=" + c.cursor(0, "begin"), "ParameterInvalid"},
		{"/logstores/ls/shards/0?type=logs&count=1&query=x&cursor=" + c.cursor(0, "begin"), "NotSupported"},
	} {
		if got := c.sls("GET", tt.uri, nil, nil).code(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.uri, got, tt.want)
		}
	}
}

func TestPutRefused(t *testing.T) {
	c := newClient(t, emul.Options{})
	c.create(nil, 1)
	now := c.now()
	one := func(contents ...[]byte) []byte { return field(nil, 1, logAt(now, contents...)) }
	const mib = 1 << 20
	big := field(nil, 1, logAt(now))
	for len(big) < 10*mib {
		big = field(big, 1, logAt(now, content("k", strings.Repeat("v", min(900000, max(1, 10*mib-len(big)-60))))))
	}
	for _, tt := range []struct {
		name    string
		kind    string
		raw     []byte
		headers map[string]string
		want    string
	}{
		{"no logs", "", field(nil, 3, []byte("topic")), nil, ""},
		{"empty value", "", one(content("k", "")), nil, ""},
		{"same key twice", "", one(content("k", "1"), content("k", "2")), nil, ""},
		{"without raw size", "", one(content("k", "v")), map[string]string{"x-log-bodyrawsize": ""}, ""},
		{"1 MB value", "lz4", one(content("k", strings.Repeat("v", 1_000_000))), nil, ""},
		{"more", "lz4", one(content("k", strings.Repeat("v", 1_000_001))), nil, "PostBodyInvalid"},
		{"key of 128", "", one(content(strings.Repeat("k", 128), "v")), nil, ""},
		{"key of 129", "", one(content(strings.Repeat("k", 129), "v")), nil, "InvalidKey"},
		{"empty key", "", one(content("", "v")), nil, "InvalidKey"},
		{"no UTF-8", "", one(content("k", "\xff")), nil, "InvalidEncoding"},
		{"topic of 129", "", field(nil, 3, bytes.Repeat([]byte("t"), 129)), nil, "ParameterInvalid"},
		{"topic not UTF-8", "", field(nil, 3, []byte{0xff}), nil, "InvalidEncoding"},
		{"tag not UTF-8", "", field(nil, 6, content("k", "\xff")), nil, "InvalidEncoding"},
		{"7 days ago", "", field(nil, 1, logAt(now.Add(-7*24*time.Hour+5*time.Second))), nil, ""},
		{"older", "", field(nil, 1, logAt(now.Add(-7*24*time.Hour-5*time.Second))), nil, "PostBodyInvalid"},
		{"15 min ahead", "", field(nil, 1, logAt(now.Add(15*time.Minute-5*time.Second))), nil, ""},
		{"later", "", field(nil, 1, logAt(now.Add(15*time.Minute+5*time.Second))), nil, "PostBodyInvalid"},
		{"no protobuf", "", []byte("{}"), nil, "PostBodyInvalid"},
		{"log without time", "", field(nil, 1, nil), nil, "PostBodyInvalid"},
		{"content without value", "", one(field(nil, 1, []byte("k"))), nil, "PostBodyInvalid"},
		{"10 MiB", "lz4", big[:10*mib], nil, "PostBodyInvalid"},
		{"10 MiB and 1", "lz4", append(big[:10*mib:10*mib], 0), nil, "PostBodyTooLarge"},
		{"JSON", "", one(content("k", "v")), map[string]string{"Content-Type": "application/json"}, "InvalidContentType"},
		{"unknown compression", "", one(content("k", "v")), map[string]string{"x-log-compresstype": "snappy"}, "InvalidCompressType"},
		{"compressed without raw size", "lz4", one(content("k", "v")), map[string]string{"x-log-bodyrawsize": ""}, "MissingParameter"},
		{"wrong raw size", "", one(content("k", "v")), map[string]string{"x-log-bodyrawsize": "1"}, "InvalidBodyRawSize"},
		{"negative raw size", "lz4", one(content("k", "v")), map[string]string{"x-log-bodyrawsize": "-1"}, "InvalidBodyRawSize"},
		{"raw size too small", "lz4", one(content("k", "v")), map[string]string{"x-log-bodyrawsize": "3"}, "PostBodyUncompressError"},
		{"raw size too great", "zstd", one(content("k", "v")), map[string]string{"x-log-bodyrawsize": "300"}, "PostBodyUncompressError"},
		{"not lz4", "", one(content("k", "v")), map[string]string{"x-log-compresstype": "lz4"}, "PostBodyUncompressError"},
		{"not zstd", "", one(content("k", "v")), map[string]string{"x-log-compresstype": "zstd"}, "PostBodyUncompressError"},
		{"not gzip", "", one(content("k", "v")), map[string]string{"x-log-compresstype": "gzip"}, "PostBodyUncompressError"},
		{"not deflate", "", one(content("k", "v")), map[string]string{"x-log-compresstype": "deflate"}, "PostBodyUncompressError"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := map[string]string{"Content-Type": "application/x-protobuf", "x-log-bodyrawsize": strconv.Itoa(len(tt.raw))}
			if tt.kind != "" {
				h["x-log-compresstype"] = tt.kind
			}
			for k, v := range tt.headers {
				h[k] = v
			}
			if r := c.sls("POST", "/logstores/ls", h, squeeze(t, tt.kind, tt.raw)); r.code() != tt.want {
				t.Errorf("got %q %s, want %q", r.code(), r.body, tt.want)
			}
		})
	}
	for _, tt := range []struct{ uri, want string }{
		{"/logstores/x", "LogStoreNotExist"},
		{"/logstores/ls/shards/route?key=0", "ParameterInvalid"},
		{"/logstores/ls/shards/route?key=" + strings.Repeat("g", 32), "ParameterInvalid"},
		{"/logstores/ls/shards/route?key=-" + strings.Repeat("0", 31), "ParameterInvalid"},
		{"/logstores/ls/shards/route?key=" + strings.Repeat("F", 32), ""},
		{"/logstores/ls/shards/route?seqid=1", "ParameterInvalid"},
	} {
		if got := c.put(tt.uri, "", group(c, "x")).code(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.uri, got, tt.want)
		}
	}
	c.s.SetQuirks(emul.Quirks{NoZstd: true, MaxBody: 5000})
	if got := c.put("/logstores/ls", "zstd", group(c, "x")).code(); got != "InvalidCompressType" {
		t.Errorf("without zstd: got %q", got)
	}
	if got := c.put("/logstores/ls", "lz4", group(c, strings.Repeat("x", 5000))).code(); got != "PostBodyTooLarge" {
		t.Errorf("above a lower limit: got %q", got)
	}
}

func TestSequenceIDs(t *testing.T) {
	c := newClient(t, emul.Options{})
	c.create(nil, 2)
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	for _, tt := range []struct{ key, seq, want string }{
		{a, "1", ""}, {a, "1", "InvalidSequenceId"}, {a, "3", ""}, {a, "2", "InvalidSequenceId"}, {strings.ToUpper(a), "3", "InvalidSequenceId"},
		{b, "1", ""}, {a, "4", ""}, {a, "0", "ParameterInvalid"}, {a, "x", "ParameterInvalid"},
	} {
		if got := c.put("/logstores/ls/shards/route?key="+tt.key+"&seqid="+tt.seq, "", group(c, "x")).code(); got != tt.want {
			t.Errorf("%s %s: got %q, want %q", tt.key, tt.seq, got, tt.want)
		}
	}
	// One that was not taken is not remembered.
	c.s.Inject(emul.Fault{Code: "ServerBusy", Count: 1})
	for i, want := range []string{"ServerBusy", ""} {
		if got := c.put("/logstores/ls/shards/route?key="+a+"&seqid=9", "", group(c, "x")).code(); got != want {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
	}
}

func TestShards(t *testing.T) {
	type shard struct {
		ShardID                                    int
		Status, InclusiveBeginKey, ExclusiveEndKey string
	}
	c := newClient(t, emul.Options{})
	c.create(nil, 2)
	list := func() (all []shard) {
		c.sls("GET", "/logstores/ls/shards", nil, nil).decode(t, &all)
		return all
	}
	if got := list(); len(got) != 2 || got[0].InclusiveBeginKey != strings.Repeat("0", 32) || got[0].ExclusiveEndKey != "8"+strings.Repeat("0", 31) ||
		got[1].InclusiveBeginKey != got[0].ExclusiveEndKey || got[1].ExclusiveEndKey != strings.Repeat("f", 32) {
		t.Errorf("got %+v", got)
	}
	split := func(query string) reply { return c.sls("POST", "/logstores/ls/shards/"+query, nil, nil) }
	for _, bad := range []string{"1?action=split&key=1" + strings.Repeat("0", 31), "1?action=split&key=x", "1?action=split&shardCount=1", "9?action=split"} {
		if split(bad).status == 200 {
			t.Errorf("%s is taken", bad)
		}
	}
	var made []shard
	split("1?action=split&key=ef"+strings.Repeat("0", 30)).decode(t, &made)
	if len(made) != 3 || made[0].Status != "readonly" || made[2].InclusiveBeginKey != "ef"+strings.Repeat("0", 30) {
		t.Errorf("got %+v", made)
	}
	split("3?action=split&shardCount=3").decode(t, &made)
	if got := list(); len(got) != 7 || len(made) != 4 {
		t.Errorf("got %+v", got)
	}
	if split("1?action=split").status == 200 {
		t.Error("a shard is split twice")
	}
	for range 10 {
		if r := c.put("/logstores/ls", "", group(c, "x")); r.status != 200 {
			t.Fatalf("put: %s", r.body)
		}
	}
	for _, sh := range list() {
		_, n, _ := c.pull(sh.ShardID, c.cursor(sh.ShardID, "begin"), "", "")
		if want := map[string]int{"readonly": 0, "readwrite": 2}[sh.Status]; n != want {
			t.Errorf("shard %d, %s: %d groups, want %d", sh.ShardID, sh.Status, n, want)
		}
	}
}

const canary = "a-canary-that-no-one-may-see"

// TestAtRest looks for a canary in the bytes at rest.
func TestAtRest(t *testing.T) {
	for _, tt := range []struct {
		name  string
		conf  func(c *client) *conf
		found bool
	}{
		{"none", func(*client) *conf { return nil }, true},
		{"not enabled", func(*client) *conf { return &conf{EncryptType: "default"} }, true},
		{"AES, service key", func(*client) *conf { return &conf{Enable: true, EncryptType: "default"} }, false},
		{"SM4, service key", func(*client) *conf { return &conf{Enable: true, EncryptType: "m4"} }, false},
		{"AES, CMK", func(c *client) *conf { return c.byok("default", "k", "sls") }, false},
		{"SM4, CMK", func(c *client) *conf { return c.byok("sm4", "sm", "sls") }, false},
	} {
		for _, dir := range []string{"", t.TempDir()} {
			t.Run(fmt.Sprintf("%s/file=%t", tt.name, dir != ""), func(t *testing.T) {
				c := newClient(t, emul.Options{Dir: dir})
				for _, k := range []emul.Key{{ID: "k"}, {ID: "sm", Spec: emul.SM4}} {
					if _, err := c.s.SetKey(k); err != nil {
						t.Fatal(err)
					}
				}
				c.s.SetRole(emul.SLSRole("sls"))
				c.create(tt.conf(c), 1)
				g := group(c, canary)
				if r := c.put("/logstores/ls", "", g); r.status != 200 {
					t.Fatalf("put: %s", r.body)
				}
				var rest bytes.Buffer
				if err := c.s.AtRest(&rest, "p", "ls"); err != nil {
					t.Fatal(err)
				}
				if rest.Len() < len(g) {
					t.Fatalf("%d bytes at rest", rest.Len())
				}
				if found := bytes.Contains(rest.Bytes(), []byte(canary)); found != tt.found {
					t.Errorf("the canary is found: %t", found)
				}
				if dir != "" {
					b, err := os.ReadFile(filepath.Join(dir, "p.ls.0"))
					if err != nil || !bytes.Equal(b, rest.Bytes()) {
						t.Errorf("the file holds other bytes, or %v", err)
					}
				}
				if list, _, _ := c.pull(0, c.cursor(0, "begin"), "zstd", ""); !bytes.Equal(list, field(nil, 1, g)) {
					t.Error("other bytes came back")
				}
			})
		}
	}
}

// TestInvalidCMK takes away a Logstore's CMK, or the role's way to it: reads
// and writes of its data fail, and only those, until it is back.
func TestInvalidCMK(t *testing.T) {
	c := withRole(t)
	c.create(c.byok("m4", "k", "sls"), 1)
	c.put("/logstores/ls", "", group(c, "before"))
	c.json("POST", "/logstores/ls/index", map[string]any{"line": map[string]any{}})
	begin := c.cursor(0, "begin")
	state := func(state string) func() {
		return func() {
			if err := c.s.SetKeyState("k", state); err != nil {
				t.Fatal(err)
			}
		}
	}
	role := func(r emul.Role) func() { return func() { c.s.SetRole(r) } }
	back := func() { state(emul.Enabled)(); c.s.SetRole(emul.SLSRole("sls")) }
	check := func(t *testing.T, want string) {
		t.Helper()
		for name, r := range map[string]reply{
			"put":       c.put("/logstores/ls", "", group(c, "x")),
			"cursor":    c.sls("GET", "/logstores/ls/shards/0?type=cursor&from=begin", nil, nil),
			"time":      c.sls("GET", "/logstores/ls/shards/0?type=cursor_time&cursor="+begin, nil, nil),
			"pull":      c.sls("GET", "/logstores/ls/shards/0?type=logs&count=1&cursor="+begin, nil, nil),
			"logs":      c.sls("GET", "/logstores/ls?type=log&from=0&to=9999999999", nil, nil),
			"histogram": c.sls("GET", "/logstores/ls?type=histogram&from=0&to=9999999999", nil, nil),
		} {
			if r.code() != want {
				t.Errorf("%s: got %q, want %q", name, r.code(), want)
			}
		}
		for _, uri := range []string{"/logstores/ls", "/logstores/ls/shards"} {
			if got := c.sls("GET", uri, nil, nil).code(); got != "" {
				t.Errorf("GET %s: got %q", uri, got)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		breaks func()
	}{
		{"disabled", state(emul.Disabled)},
		{"pending deletion", state(emul.PendingDeletion)},
		{"role gone", func() { c.s.DeleteRole("sls") }},
		{"role without rights", role(emul.Role{Name: "sls", Trust: emul.Trust("log.aliyuncs.com")})},
		{"role without decrypt", role(emul.Role{Name: "sls", Trust: emul.Trust("log.aliyuncs.com"), Policies: emul.SLSRole("").Policies[:1]})},
		{"role that trusts another", role(emul.Role{Name: "sls", Trust: emul.Trust("ecs.aliyuncs.com"), Policies: emul.SLSRole("").Policies})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.breaks()
			check(t, "LogstoreEncryptionUnavailable")
			back()
			check(t, "")
		})
	}
	t.Run("configured", func(t *testing.T) {
		c.s.SetQuirks(emul.Quirks{CMKInvalid: emul.Error{Status: 500, Code: "InternalServerError", Message: "kms key disabled"}})
		state(emul.Disabled)()
		if r := c.put("/logstores/ls", "", group(c, "x")); r.status != 500 || !bytes.Contains(r.body, []byte("kms key disabled")) {
			t.Errorf("got %d %s", r.status, r.body)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		back()
		c.s.DeleteKey("k")
		if _, err := c.s.SetKey(emul.Key{ID: "k"}); err != nil {
			t.Fatal(err)
		}
		if r := c.put("/logstores/ls", "", group(c, "x")); r.status != 500 {
			t.Errorf("another key of the same id: got %d %s", r.status, r.body)
		}
	})
}

// TestToggle switches encryption off and on: what lies there stays readable.
func TestToggle(t *testing.T) {
	c := withRole(t)
	c.create(c.byok("default", "k", "sls"), 1)
	for i, enable := range []bool{true, false, true} {
		c.sls("PUT", "/logstores/ls/encryption", nil, fmt.Appendf(nil, `{"enable":%t}`, enable))
		c.put("/logstores/ls", "", group(c, canary+strconv.Itoa(i)))
	}
	var rest bytes.Buffer
	if err := c.s.AtRest(&rest, "", ""); err != nil {
		t.Fatal(err)
	}
	for i, found := range []bool{false, true, false} {
		if bytes.Contains(rest.Bytes(), []byte(canary+strconv.Itoa(i))) != found {
			t.Errorf("%d is found: %t", i, !found)
		}
	}
	if _, n, _ := c.pull(0, c.cursor(0, "begin"), "", ""); n != 3 {
		t.Errorf("pulled %d groups, want 3", n)
	}
}

func TestSearch(t *testing.T) {
	c := newClient(t, emul.Options{})
	c.create(&conf{Enable: true, EncryptType: "sm4"}, 2)
	if got := c.sls("GET", "/logstores/ls?type=log&from=0&to=1", nil, nil).code(); got != "IndexConfigNotExist" {
		t.Errorf("without an index: got %q", got)
	}
	c.put("/logstores/ls", "", group(c, "red and too early"))
	index := map[string]any{"line": map[string]any{"token": []string{" "}}}
	for _, tt := range []struct{ method, want string }{{"PUT", "IndexConfigNotExist"}, {"POST", ""}, {"POST", "IndexAlreadyExist"}, {"PUT", ""}} {
		if got := c.json(tt.method, "/logstores/ls/index", index).code(); got != tt.want {
			t.Errorf("%s index: got %q, want %q", tt.method, got, tt.want)
		}
	}
	for _, v := range []string{"red apple", "green apple", "red cherry"} {
		c.put("/logstores/ls", "", group(c, v))
	}
	for query, want := range map[string]int{"": 3, "*": 3, "red": 2, "red and apple": 1, "content:apple": 2, "apple | with_pack_meta": 2, "plum": 0} {
		var got struct {
			Meta struct{ Count int }
			Data []map[string]string
		}
		c.json("POST", "/logstores/ls/logs", map[string]any{"from": 0, "to": c.now().Unix() + 1, "query": query}).decode(t, &got)
		if got.Meta.Count != want || len(got.Data) != want {
			t.Errorf("%q: got %+v, want %d", query, got, want)
		}
	}
	r := c.sls("GET", "/logstores/ls?type=log&from=0&to=9999999999&line=1&reverse=true&query=red", nil, nil)
	var rows []map[string]string
	if r.decode(t, &rows); len(rows) != 1 || r.header.Get("x-log-count") != "1" || r.header.Get("x-log-progress") != "Complete" {
		t.Errorf("got %v, %v", rows, r.header)
	}
	if got := c.json("POST", "/logstores/ls/logs", map[string]any{"query": "* | select 1"}).code(); got != "NotSupported" {
		t.Errorf("SQL: got %q", got)
	}
	var stored json.RawMessage
	if c.sls("GET", "/logstores/ls/index", nil, nil).decode(t, &stored); string(stored) != string(mustJSON(t, index)) {
		t.Errorf("index is %s", stored)
	}
	for i, want := range []string{"", "IndexConfigNotExist"} {
		if got := c.sls("DELETE", "/logstores/ls/index", nil, nil).code(); got != want {
			t.Errorf("delete %d: got %q, want %q", i, got, want)
		}
	}
}
