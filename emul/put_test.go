package emul_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"sealtail/emul"
)

func TestPutRefused(t *testing.T) {
	c := newClient(t, fixed())
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
		{"7 days ago", "", field(nil, 1, logAt(now.Add(-7*24*time.Hour+time.Minute))), nil, ""},
		{"older", "", field(nil, 1, logAt(now.Add(-7*24*time.Hour-time.Minute))), nil, "PostBodyInvalid"},
		{"15 min ahead", "", field(nil, 1, logAt(now.Add(15*time.Minute-time.Minute))), nil, ""},
		{"later", "", field(nil, 1, logAt(now.Add(15*time.Minute+time.Minute))), nil, "PostBodyInvalid"},
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
