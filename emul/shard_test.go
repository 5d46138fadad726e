package emul_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"sealtail/emul"
)

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
