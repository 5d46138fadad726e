package emul_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"sealtail/emul"
)

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
