package emul_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sealtail/emul"
)

func TestProjects(t *testing.T) {
	c := newClient(t, emul.Options{})
	create := func(project, body string) string {
		r, err := c.trySLS("POST", project, "/", nil, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return r.code()
	}
	for _, tt := range []struct{ project, body, want string }{
		{"new-one", `{"projectName":"new-one","description":"d"}`, ""},
		{"new-one", `{"projectName":"new-one"}`, "ProjectAlreadyExist"},
		{"other", `{"projectName":"new-two"}`, "ParameterInvalid"},
		{"a", `{"projectName":"UPPER"}`, "ParameterInvalid"},
		{"a", `{}`, "ParameterInvalid"},
		{"a", `{"projectName":"abc","more":1}`, "ParameterInvalid"},
	} {
		if got := create(tt.project, tt.body); got != tt.want {
			t.Errorf("create %s at %s: got %q, want %q", tt.body, tt.project, got, tt.want)
		}
	}
	bare := *c
	bare.base = "http://sls.test"
	if got := bare.sls("POST", "/", nil, []byte(`{"projectName":"new-bare"}`)).code(); got != "" {
		t.Errorf("at the bare endpoint: got %q", got)
	}
	var list struct {
		Total    int
		Projects []struct{ ProjectName string }
	}
	bare.sls("GET", "/", nil, nil).decode(t, &list)
	if list.Total != 3 || list.Projects[0].ProjectName != "new-bare" {
		t.Errorf("got %+v", list)
	}
	for i, want := range []string{"", "ProjectNotExist"} {
		if r, err := c.trySLS("DELETE", "new-one", "/", nil, nil); err != nil || r.code() != want {
			t.Errorf("delete %d: got %q, want %q", i, r.code(), want)
		}
	}
}

func TestLogstores(t *testing.T) {
	c := newClient(t, emul.Options{})
	for _, tt := range []struct{ name, body, want string }{
		{"as the SDK sends it", `{"logstoreName":"enc","ttl":30,"shardCount":2,"enable_tracking":false,"enableModify":false,"autoSplit":true,"maxSplitShard":64,"appendMeta":false,"telemetryType":""}`, ""},
		{"again", `{"logstoreName":"enc","ttl":30,"shardCount":2}`, "LogStoreAlreadyExist"},
		{"redundant key", `{"logstoreName":"a1","ttl":30,"shardCount":2,"more":1}`, "LogStoreInfoInvalid"},
		{"no name", `{"ttl":30,"shardCount":2}`, "LogStoreInfoInvalid"},
		{"name of 1", `{"logstoreName":"a","ttl":30,"shardCount":2}`, "LogStoreInfoInvalid"},
		{"name of 63", `{"logstoreName":"` + strings.Repeat("a", 63) + `","ttl":30,"shardCount":2}`, ""},
		{"name of 64", `{"logstoreName":"` + strings.Repeat("a", 64) + `","ttl":30,"shardCount":2}`, "LogStoreInfoInvalid"},
		{"name ends on -", `{"logstoreName":"ab-","ttl":30,"shardCount":2}`, "LogStoreInfoInvalid"},
		{"ttl 0", `{"logstoreName":"a1","ttl":0,"shardCount":2}`, "LogStoreInfoInvalid"},
		{"ttl 3650", `{"logstoreName":"a1","ttl":3650,"shardCount":2}`, ""},
		{"ttl 3651", `{"logstoreName":"a2","ttl":3651,"shardCount":2}`, "LogStoreInfoInvalid"},
		{"no shard", `{"logstoreName":"a2","ttl":30}`, "LogStoreInfoInvalid"},
		{"split to none", `{"logstoreName":"a2","ttl":30,"shardCount":1,"autoSplit":true}`, "LogStoreInfoInvalid"},
		{"split to 257", `{"logstoreName":"a2","ttl":30,"shardCount":1,"autoSplit":true,"maxSplitShard":257}`, "LogStoreInfoInvalid"},
		{"strange mode", `{"logstoreName":"a2","ttl":30,"shardCount":1,"mode":"x"}`, "LogStoreInfoInvalid"},
		{"no JSON", `x`, "LogStoreInfoInvalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.sls("POST", "/logstores", nil, []byte(tt.body)).code(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("raw size", func(t *testing.T) {
		for told, want := range map[string]string{"": "MissingParameter", "1": "InvalidBodyRawSize", "x": "InvalidBodyRawSize"} {
			if got := c.sls("POST", "/logstores", map[string]string{"x-log-bodyrawsize": told}, []byte("{}")).code(); got != want {
				t.Errorf("%q: got %q, want %q", told, got, want)
			}
		}
	})
	t.Run("list", func(t *testing.T) {
		for query, want := range map[string]int{"": 3, "?offset=1&size=1": 1, "?offset=9": 0, "?size=100&telemetryType=": 3, "?telemetryType=Metrics": 0} {
			var list struct {
				Count, Total int
				Logstores    []string
			}
			c.sls("GET", "/logstores"+query, nil, nil).decode(t, &list)
			if list.Count != want || len(list.Logstores) != want {
				t.Errorf("%q: got %+v, want %d", query, list, want)
			}
		}
	})
	t.Run("update", func(t *testing.T) {
		for _, tt := range []struct{ body, want string }{
			{`{"logstoreName":"enc","ttl":7,"shardCount":2}`, ""},
			{`{"logstoreName":"enc","ttl":7,"shardCount":3}`, "LogStoreInfoInvalid"},
			{`{"logstoreName":"other","ttl":7}`, "LogStoreInfoInvalid"},
			{`{"logstoreName":"enc","telemetryType":"Metrics"}`, "LogStoreInfoInvalid"},
		} {
			if got := c.sls("PUT", "/logstores/enc", nil, []byte(tt.body)).code(); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.body, got, tt.want)
			}
		}
		var l emul.Logstore
		c.sls("GET", "/logstores/enc", nil, nil).decode(t, &l)
		if l.TTL != 7 || l.ShardCount != 2 || !l.AutoSplit || l.MaxSplitShard != 64 || l.Mode != "standard" || l.EncryptConf != nil {
			t.Errorf("got %+v", l)
		}
	})
	t.Run("delete once", func(t *testing.T) {
		for i, want := range []string{"", "LogStoreNotExist"} {
			if got := c.sls("DELETE", "/logstores/enc", nil, nil).code(); got != want {
				t.Errorf("%d: got %q, want %q", i, got, want)
			}
		}
	})
	t.Run("routes", func(t *testing.T) {
		for _, tt := range []struct{ method, uri, want string }{
			{"PATCH", "/logstores", "InvalidMethod"},
			{"GET", "/logstores/enc/shards/0?type=x", "InvalidMethod"},
			{"GET", "/nothing", "NotImplemented"},
			{"GET", "/logstores/enc/consumergroups", "NotImplemented"},
			{"GET", "/configs/c", "ConfigNotExist"},
			{"GET", "/configs?offset=0&size=10", ""},
		} {
			if got := c.sls(tt.method, tt.uri, nil, nil).code(); got != tt.want {
				t.Errorf("%s %s: got %q, want %q", tt.method, tt.uri, got, tt.want)
			}
		}
	})
	t.Run("quota", func(t *testing.T) {
		got := ""
		for i := 0; got == "" && i < 300; i++ {
			got = c.json("POST", "/logstores", emul.Logstore{Name: fmt.Sprintf("quota-%d", i), TTL: 1, ShardCount: 1}).code()
		}
		if got != "ProjectQuotaExceed" {
			t.Errorf("got %q", got)
		}
	})
}

func TestCreateDelay(t *testing.T) {
	c := newClient(t, emul.Options{Quirks: emul.Quirks{CreateDelay: emul.Duration(time.Minute)}})
	c.create(nil, 1)
	if got := c.sls("GET", "/logstores/ls", nil, nil).code(); got != "LogStoreNotExist" {
		t.Errorf("at once: got %q", got)
	}
	c.s.SetClock(time.Minute)
	if got := c.sls("GET", "/logstores/ls", nil, nil).code(); got != "" {
		t.Errorf("a minute later: got %q", got)
	}
}

// TestEncryptConf makes Logstores of each kind, reads them back, and tries to
// change each part.
func TestEncryptConf(t *testing.T) {
	kinds := []string{"default", "m4", "sm4", "sm4_ecb", "sm4_cbc", "sm4_gcm", "aes_ecb", "aes_cbc", "aes_cfb", "aes_ofb", "aes_gcm"}
	for _, kind := range kinds {
		for _, own := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/byok=%t", kind, own), func(t *testing.T) {
				c := withRole(t)
				e := &conf{Enable: true, EncryptType: kind}
				if own {
					e = c.byok(kind, "k", "sls")
				}
				c.create(e, 1)
				var l emul.Logstore
				c.sls("GET", "/logstores/ls", nil, nil).decode(t, &l)
				if got, want := mustJSON(t, l.EncryptConf), mustJSON(t, e); string(got) != string(want) {
					t.Errorf("got %s, want %s", got, want)
				}
				change := func(f func(*conf)) string {
					changed := l
					copied := *l.EncryptConf
					if copied.UserCMKInfo != nil {
						info := *copied.UserCMKInfo
						copied.UserCMKInfo = &info
					}
					f(&copied)
					changed.EncryptConf = &copied
					return c.json("PUT", "/logstores/ls", changed).code()
				}
				if got := change(func(e *conf) { e.Enable = false }); got != "" {
					t.Errorf("disable: got %q", got)
				}
				if now, _ := c.s.Logstore("p", "ls"); now.EncryptConf.Enable {
					t.Error("still enabled")
				}
				for name, f := range map[string]func(*conf){
					"type": func(e *conf) { e.EncryptType = map[bool]string{true: "m4", false: "default"}[kind == "default"] },
					"key":  func(e *conf) { e.UserCMKInfo = c.byok(kind, "sm", "sls").UserCMKInfo },
					"role": func(e *conf) { e.UserCMKInfo = c.byok(kind, "k", "other").UserCMKInfo },
				} {
					want := "ParameterInvalid"
					if got := change(f); got != want && !(name == "type" && kind == "sm4") {
						t.Errorf("change of %s: got %q, want %q", name, got, want)
					}
				}
				if got := c.json("POST", "/logstores", l).code(); got != "LogStoreAlreadyExist" {
					t.Errorf("create again: got %q", got)
				}
			})
		}
	}
}

// withRole is withKeys and role "sls".
func withRole(t testing.TB) *client {
	t.Helper()
	c := withKeys(t)
	c.s.SetRole(emul.SLSRole("sls"))
	return c
}

func TestEncryptConfRefused(t *testing.T) {
	c := withRole(t)
	c.s.SetRole(emul.Role{Name: "untrusted", Policies: emul.SLSRole("").Policies})
	c.s.SetRole(emul.Role{Name: "powerless", Trust: emul.Trust("log.aliyuncs.com")})
	c.s.SetRole(emul.Role{Name: "ecs", Trust: emul.Trust("ecs.aliyuncs.com"), Policies: emul.SLSRole("").Policies})
	without := func(f func(*emul.UserCMKInfo)) *conf {
		e := c.byok("m4", "k", "sls")
		f(e.UserCMKInfo)
		return e
	}
	const invalid = "LogstoreEncryptionUnavailable"
	for _, tt := range []struct {
		name string
		conf *conf
		want string
	}{
		{"unknown type", &conf{Enable: true, EncryptType: "des"}, "LogStoreInfoInvalid"},
		{"no type", &conf{Enable: true}, "LogStoreInfoInvalid"},
		{"no key", without(func(i *emul.UserCMKInfo) { i.CMKKeyID = "" }), "LogStoreInfoInvalid"},
		{"no role", without(func(i *emul.UserCMKInfo) { i.ARN = "" }), "LogStoreInfoInvalid"},
		{"other region", without(func(i *emul.UserCMKInfo) { i.RegionID = "cn-beijing" }), "LogStoreInfoInvalid"},
		{"unknown key", c.byok("m4", "x", "sls"), invalid},
		{"unknown role", c.byok("m4", "k", "x"), invalid},
		{"untrusting role", c.byok("m4", "k", "untrusted"), invalid},
		{"role of another service", c.byok("m4", "k", "ecs"), invalid},
		{"powerless role", c.byok("m4", "k", "powerless"), invalid},
		{"empty info", &conf{Enable: true, EncryptType: "default", UserCMKInfo: &emul.UserCMKInfo{}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := c.json("POST", "/logstores", emul.Logstore{Name: "ls", TTL: 1, ShardCount: 1, EncryptConf: tt.conf})
			if r.code() != tt.want {
				t.Errorf("got %q, want %q", r.code(), tt.want)
			}
			if _, made := c.s.Logstore("p", "ls"); made != (tt.want == "") {
				t.Errorf("made: %t", made)
			}
		})
	}
}

func TestUpdateEncryption(t *testing.T) {
	c := withRole(t)
	c.create(nil, 1)
	arn := c.byok("m4", "k", "sls").UserCMKInfo.ARN
	put := func(body string) string { return c.sls("PUT", "/logstores/ls/encryption", nil, []byte(body)).code() }
	info := `{"keyId":"k","roleArn":"` + arn + `","regionId":"cn-hangzhou"}`
	for _, tt := range []struct{ name, body, want string }{
		{"names of encrypt_conf", `{"enable":true,"encrypt_type":"m4"}`, "ParameterInvalid"},
		{"no enable", `{"encryptType":"m4"}`, "ParameterInvalid"},
		{"no type", `{"enable":true}`, "LogStoreInfoInvalid"},
		{"first", `{"enable":true,"encryptType":"m4","userCmkInfo":` + info + `}`, ""},
		{"same, newer name", `{"enable":true,"encryptType":"sm4","userCmkInfo":` + info + `}`, ""},
		{"off", `{"enable":false}`, ""},
		{"on", `{"enable":true}`, ""},
		{"other type", `{"enable":true,"encryptType":"default"}`, "ParameterInvalid"},
		{"to the service key", `{"enable":true,"userCmkInfo":{}}`, "ParameterInvalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := put(tt.body); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if l, _ := c.s.Logstore("p", "ls"); l.EncryptConf == nil || !l.EncryptConf.Enable || l.EncryptConf.EncryptType != "m4" || l.EncryptConf.UserCMKInfo.ARN != arn {
		t.Errorf("got %+v", l.EncryptConf)
	}
	c.s.SetQuirks(emul.Quirks{NoEncryptionCall: true})
	if got := put(`{"enable":true}`); got != "NotImplemented" {
		t.Errorf("older server: got %q", got)
	}
}

func TestQuirks(t *testing.T) {
	c := withRole(t)
	c.create(&conf{Enable: true, EncryptType: "default"}, 1)
	c.s.SetQuirks(emul.Quirks{OmitEnable: true, UnknownKeys: []string{"encrypt_conf"}})
	var l struct {
		EncryptConf map[string]json.RawMessage `json:"encrypt_conf"`
	}
	c.sls("GET", "/logstores/ls", nil, nil).decode(t, &l)
	if _, has := l.EncryptConf["enable"]; has || string(l.EncryptConf["user_cmk_info"]) != "{}" {
		t.Errorf("got %s", l.EncryptConf)
	}
	r := c.json("POST", "/logstores", emul.Logstore{Name: "ls2", TTL: 1, ShardCount: 1, EncryptConf: &conf{Enable: true, EncryptType: "default"}})
	if r.code() != "LogStoreInfoInvalid" || !strings.Contains(string(r.body), "redundant key exist in json") {
		t.Errorf("got %s", r.body)
	}
	if err := c.s.ForceEncryption("p", "ls", nil); err != nil {
		t.Fatal(err)
	}
	if l, _ := c.s.Logstore("p", "ls"); l.EncryptConf != nil {
		t.Errorf("got %+v", l.EncryptConf)
	}
	if c.s.ForceEncryption("p", "x", nil) == nil {
		t.Error("the encryption of no Logstore was changed")
	}
}

func TestLeastPrivilegeSLS(t *testing.T) {
	root := withRole(t)
	root.create(nil, 1)
	on := func(resource string, actions ...string) emul.Policy {
		return emul.Policy{Version: "1", Statement: []emul.Statement{{Effect: "Allow", Action: actions, Resource: emul.Strings{resource}}}}
	}
	logstore := "acs:log:cn-hangzhou:" + root.s.Account() + ":project/p/logstore/ls"
	for _, tt := range []struct {
		name     string
		policies []emul.Policy
		want     string
	}{
		{"nothing", nil, ""},
		{"writer", []emul.Policy{on(logstore, "log:PostLogStoreLogs")}, "put "},
		{"writer elsewhere", []emul.Policy{on(logstore+"2", "log:PostLogStoreLogs")}, ""},
		{"reader", []emul.Policy{on(logstore, "log:ListShards", "log:GetCursorOrData")}, "shards cursor pull "},
		{"creator", []emul.Policy{on(logstore+"*", "log:CreateLogStore", "log:GetLogStore")}, "get create "},
		{"creator with a role", []emul.Policy{on(logstore+"*", "log:CreateLogStore"), on("acs:ram::*:role/sls", "ram:PassRole")}, "create byok "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := root.as("LTAI"+tt.name, tt.policies...)
			var cursor struct{ Cursor string }
			root.sls("GET", "/logstores/ls/shards/0?type=cursor&from=begin", nil, nil).decode(t, &cursor)
			got := ""
			for _, op := range []struct {
				name string
				do   func() reply
			}{
				{"get", func() reply { return c.sls("GET", "/logstores/ls", nil, nil) }},
				{"put", func() reply { return c.put("/logstores/ls", "", group(c, "x")) }},
				{"shards", func() reply { return c.sls("GET", "/logstores/ls/shards", nil, nil) }},
				{"cursor", func() reply { return c.sls("GET", "/logstores/ls/shards/0?type=cursor&from=end", nil, nil) }},
				{"pull", func() reply {
					return c.sls("GET", "/logstores/ls/shards/0?type=logs&count=1&cursor="+cursor.Cursor, nil, nil)
				}},
				{"create", func() reply {
					return c.json("POST", "/logstores", emul.Logstore{Name: "ls2", TTL: 1, ShardCount: 1})
				}},
				{"byok", func() reply {
					return c.json("POST", "/logstores", emul.Logstore{Name: "ls3", TTL: 1, ShardCount: 1, EncryptConf: c.byok("m4", "k", "sls")})
				}},
				{"delete", func() reply { return c.sls("DELETE", "/logstores/ls", nil, nil) }},
			} {
				switch r := op.do(); {
				case r.code() == "":
					got += op.name + " "
				case r.code() != "Unauthorized" || !strings.Contains(string(r.body), "denied by sts or ram, action: "):
					t.Errorf("%s: got %s", op.name, r.body)
				}
			}
			if got != tt.want {
				t.Errorf("may %q, want %q", got, tt.want)
			}
			root.sls("DELETE", "/logstores/ls2", nil, nil)
			root.sls("DELETE", "/logstores/ls3", nil, nil)
		})
	}
}
