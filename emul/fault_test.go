package emul_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/emul"
)

// TestEveryRow injects each row of both tables.
func TestEveryRow(t *testing.T) {
	c := withKeys(t)
	c.create(nil, 1)
	tables := map[string][]emul.Error{"sls": emul.SLSErrors(), "kms": emul.KMSErrors()}
	for service, rows := range tables {
		if len(rows) < 40 {
			t.Fatalf("%s has %d rows", service, len(rows))
		}
		for _, e := range rows {
			t.Run(fmt.Sprintf("%s/%d/%s", service, e.Status, e.Code), func(t *testing.T) {
				c.s.Inject(emul.Fault{Service: service, Status: e.Status, Code: e.Code, Message: e.Message, Count: 1})
				send := func() reply {
					if service == "kms" {
						return c.kms("DescribeKey", map[string]string{"KeyId": "k"})
					}
					return c.put("/logstores/ls", "lz4", group(c, "x"))
				}
				r := send()
				if r.status != e.Status || r.code() != e.Code || !bytes.Contains(r.body, mustJSON(t, e.Message)) {
					t.Errorf("got %d %s", r.status, r.body)
				}
				if r.header.Get("x-log-requestid")+r.header.Get("x-acs-request-id") == "" {
					t.Error("no request id")
				}
				if got := send().code(); got != "" {
					t.Errorf("afterwards: got %q", got)
				}
			})
		}
	}
}

func TestFaultMatches(t *testing.T) {
	c := withKeys(t)
	c.create(nil, 1)
	put := func() string { return c.put("/logstores/ls", "zstd", group(c, "needle in zstd")).code() }
	get := func() string { return c.sls("GET", "/logstores/ls", nil, nil).code() }
	generate := func() string { return c.kms("GenerateDataKey", map[string]string{"KeyId": "k"}).code() }
	for _, tt := range []struct {
		name               string
		f                  emul.Fault
		put, get, generate string
	}{
		{"all", emul.Fault{Code: "ServerBusy"}, "ServerBusy", "ServerBusy", "ServerBusy"},
		{"service", emul.Fault{Service: "kms", Code: "InternalFailure"}, "", "", "InternalFailure"},
		{"operation", emul.Fault{Operation: "PutLogs", Code: "WriteQuotaExceed"}, "WriteQuotaExceed", "", ""},
		{"pattern", emul.Fault{Operation: "Ge*", Code: "ServerBusy"}, "", "ServerBusy", "ServerBusy"},
		{"project", emul.Fault{Project: "q", Code: "ServerBusy"}, "", "", ""},
		{"Logstore", emul.Fault{Logstore: "ls", Code: "ServerBusy"}, "ServerBusy", "ServerBusy", ""},
		{"access key", emul.Fault{AccessKeyID: c.id, Code: "ServerBusy"}, "ServerBusy", "ServerBusy", "ServerBusy"},
		{"other access key", emul.Fault{AccessKeyID: "x", Code: "ServerBusy"}, "", "", ""},
		{"content", emul.Fault{Contains: "needle", Code: "InvalidKey"}, "InvalidKey", "", ""},
		{"other content", emul.Fault{Contains: "haystack", Code: "InvalidKey"}, "", "", ""},
		{"unknown code", emul.Fault{Service: "sls", Status: 418, Code: "Teapot"}, "Teapot", "Teapot", ""},
		{"page", emul.Fault{Service: "kms", HTML: true}, "", "", "502 without a code"},
		{"status alone", emul.Fault{Service: "sls", Status: 504}, "504 without a code", "504 without a code", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := c.s.Inject(tt.f)
			if p, g, k := put(), get(), generate(); p != tt.put || g != tt.get || k != tt.generate {
				t.Errorf("got %q %q %q, want %q %q %q", p, g, k, tt.put, tt.get, tt.generate)
			}
			c.s.Clear(id)
			if got := put() + get() + generate(); got != "" {
				t.Errorf("cleared: got %q", got)
			}
		})
	}
	t.Run("skip and count", func(t *testing.T) {
		c.s.Inject(emul.Fault{Operation: "PutLogs", Skip: 1, Count: 2, Code: "ServerBusy"})
		var got []string
		for range 5 {
			got = append(got, put())
		}
		if want := ",ServerBusy,ServerBusy,,"; strings.Join(got, ",") != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if left := c.s.Faults(); len(left) != 0 {
			t.Errorf("left: %+v", left)
		}
	})
	t.Run("oldest first", func(t *testing.T) {
		defer c.s.Clear()
		c.s.Inject(emul.Fault{Code: "ServerBusy", Count: 1})
		c.s.Inject(emul.Fault{Code: "WriteQuotaExceed"})
		if a, b := put(), put(); a != "ServerBusy" || b != "WriteQuotaExceed" {
			t.Errorf("got %q %q", a, b)
		}
	})
}

// groups returns how many LogGroups lie in shard 0.
func (c *client) groups() int {
	c.t.Helper()
	_, n, _ := c.pull(0, c.cursor(0, "begin"), "", "")
	return n
}

// TestCut cuts connections of real sockets, before and after the request was
// carried out.
func TestCut(t *testing.T) {
	for _, after := range []bool{false, true} {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("after=%t/tls=%t", after, tls), func(t *testing.T) {
				c := newClient(t, emul.Options{})
				server := httptest.NewUnstartedServer(c.s)
				if server.EnableHTTP2 = true; tls {
					server.StartTLS()
				} else {
					server.Start()
				}
				defer server.Close()
				c.http, c.base, c.headers = server.Client().Transport, server.URL, map[string]string{"x-log-project": "p"}
				c.create(nil, 1)
				c.s.Inject(emul.Fault{Operation: "PutLogs", Cut: true, After: after, Count: 1})
				h := map[string]string{"Content-Type": "application/x-protobuf"}
				if r, err := c.trySLS("POST", "p", "/logstores/ls", h, group(c, "x")); err == nil {
					t.Errorf("got %d %s", r.status, r.body)
				}
				if got, want := c.groups(), map[bool]int{false: 0, true: 1}[after]; got != want {
					t.Errorf("%d groups are in, want %d", got, want)
				}
			})
		}
	}
}

// TestAnswerLost reports an error for what was carried out.
func TestAnswerLost(t *testing.T) {
	c := newClient(t, emul.Options{})
	c.create(nil, 1)
	c.s.Inject(emul.Fault{Operation: "PutLogs", Code: "RequestTimeout", After: true, Count: 1})
	if got := c.put("/logstores/ls", "", group(c, "x")).code(); got != "RequestTimeout" {
		t.Errorf("got %q", got)
	}
	if got := c.groups(); got != 1 {
		t.Errorf("%d groups are in, want 1", got)
	}
	c.s.Inject(emul.Fault{Operation: "PutLogs", Cut: true, Count: 1})
	if _, err := c.trySLS("POST", "p", "/logstores/ls", map[string]string{"Content-Type": "application/x-protobuf"}, group(c, "x")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut without sockets: got %v", err)
	}
	requests := c.s.Requests(0)
	last := requests[len(requests)-1]
	if last.Operation != "PutLogs" || last.Status != 0 || last.Fault == 0 || last.Logstore != "ls" {
		t.Errorf("remembered as %+v", last)
	}
}

// TestSlow runs in a bubble: no socket is in the way.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, emul.Options{})
		c.create(nil, 1)
		c.s.Inject(emul.Fault{Delay: emul.Duration(3 * time.Second), SlowBody: emul.Duration(5 * time.Second), Count: 1})
		began := time.Now()
		if got := c.sls("GET", "/logstores/ls", nil, nil).code(); got != "" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(began); took != 8*time.Second {
			t.Errorf("took %v, want 8s", took)
		}
		for name, f := range map[string]emul.Fault{
			"delay": {Delay: emul.Duration(time.Hour), Count: 1},
			"body":  {SlowBody: emul.Duration(time.Hour), Count: 1},
		} {
			c.s.Inject(f)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			c.mangle = func(r *http.Request) { *r = *r.WithContext(ctx) }
			began := time.Now()
			_, err := c.trySLS("GET", "p", "/logstores/ls", nil, nil)
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
				t.Errorf("%s: got %v after %v", name, err, took)
			}
			cancel()
		}
	})
}

func TestClock(t *testing.T) {
	c := newClient(t, emul.Options{})
	c.now = time.Now
	c.s.SetClock(time.Hour)
	r := c.sls("GET", "/logstores", nil, nil)
	date, err := http.ParseTime(r.header.Get("Date"))
	if r.code() != "RequestTimeExpired" || err != nil || time.Until(date) < 59*time.Minute {
		t.Errorf("got %q, Date %v", r.code(), date)
	}
	if r := c.kms("CreateKey", nil); r.code() != "InvalidTimeStamp.Expired" {
		t.Errorf("got %q", r.code())
	}
}

func TestWireAndCounters(t *testing.T) {
	var wire bytes.Buffer
	c := newClient(t, emul.Options{Wire: &wire})
	c.create(nil, 1)
	c.put("/logstores/ls", "", group(c, canary))
	c.kms("Encrypt", map[string]string{"KeyId": "k", "Plaintext": "AAAA", "EncryptionContext": `{"a":"1"}`})
	for _, want := range []string{canary, "POST /logstores/ls HTTP/1.1\r\nHost: p.sls.test\r\n", "X-Acs-Action: Encrypt"} {
		if !strings.Contains(wire.String(), want) {
			t.Errorf("no %q on the wire", want)
		}
	}
	if strings.Contains(wire.String(), "Authorization") {
		t.Error("a signature is on the wire's copy")
	}
	counters := c.s.Counters()
	for name, want := range map[string]int{"sls.PutLogs": 1, "sls.PutLogs:200": 1, "sls.CreateLogStore:200": 1, "kms.Encrypt:404": 1} {
		if counters[name] != want {
			t.Errorf("%s: got %d, want %d", name, counters[name], want)
		}
	}
	requests := c.s.Requests(2)
	if len(requests) != 1 || requests[0].N != 3 || requests[0].Code != "Forbidden.KeyNotFound" ||
		requests[0].Params["EncryptionContext"] != `{"a":"1"}` || requests[0].Params["Plaintext"] != "" {
		t.Errorf("got %+v", requests)
	}
}
