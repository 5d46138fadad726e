package emul_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"sealtail/emul"
)

// field appends a length-delimited field of protobuf.
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
