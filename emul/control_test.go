package emul_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sealtail/emul"
)

// TestControl steers an emulator by its control API alone.
func TestControl(t *testing.T) {
	c := newClient(t, emul.Options{})
	server := httptest.NewServer(c.s)
	defer server.Close()
	control := func(method, path, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, server.URL+"/control/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	must := func(method, path, body string) string {
		t.Helper()
		status, answer := control(method, path, body)
		if status != 200 {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return answer
	}

	must("PUT", "projects/q", "")
	must("PUT", "keys/k", `{"spec":"Aliyun_SM4","aliases":["alias/a"],"deletion_protection":true}`)
	must("PUT", "roles/r", `{"trust":{"Version":"1","Statement":[{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":["log.aliyuncs.com"]}}]},"policies":["AliyunKMSReadOnlyAccess","AliyunKMSCryptoUserAccess"]}`)
	must("PUT", "credentials/LTAIagent", `{"access_key_secret":"s","policies":[{"Version":"1","Statement":[{"Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"*"}]}]}`)
	agent := *c
	agent.id, agent.secret = "LTAIagent", "s"
	if a, b := agent.kms("GenerateDataKey", map[string]string{"KeyId": "alias/a"}).code(), agent.kms("DescribeKey", map[string]string{"KeyId": "k"}).code(); a != "" || b != "Forbidden.NoPermission" {
		t.Errorf("the agent's key: got %q, %q", a, b)
	}
	must("DELETE", "credentials/LTAIagent", "")
	if got := agent.kms("GenerateDataKey", map[string]string{"KeyId": "k"}).code(); got != "InvalidAccessKeyId.NotFound" {
		t.Errorf("deleted: got %q", got)
	}

	c.create(c.byok("m4", "k", "r"), 1)
	put := func() string { return c.put("/logstores/ls", "", group(c, canary)).code() }
	if got := put(); got != "" {
		t.Errorf("put: got %q", got)
	}
	must("PUT", "quirks", `{"cmk_invalid":{"status":400,"code":"KmsError","message":"kms"},"create_delay":"1s"}`)
	for _, step := range []struct{ method, path, body, want string }{
		{"PUT", "keys/k/state", `"Disabled"`, "KmsError"},
		{"PUT", "keys/k/state", `"Enabled"`, ""},
		{"DELETE", "roles/r", "", "KmsError"},
		{"PUT", "projects/p/logstores/ls/encryption", `null`, ""},
		{"PUT", "projects/p/logstores/ls/encryption", `{"enable":true,"encrypt_type":"m4"}`, "KmsError"},
		{"PUT", "roles/r", string(mustJSON(t, emul.SLSRole("r"))), ""},
		{"DELETE", "keys/k", "", "KmsError"},
		{"PUT", "projects/p/logstores/ls/encryption", `{"enable":false,"encrypt_type":"m4"}`, ""},
		{"POST", "faults", `{"service":"sls","operation":"PutLogs","code":"WriteQuotaExceed","count":9,"delay":"1ms"}`, "WriteQuotaExceed"},
		{"DELETE", "faults/1", "", ""},
		{"POST", "faults", `{"code":"ServerBusy"}`, "ServerBusy"},
		{"DELETE", "faults", "", ""},
	} {
		must(step.method, step.path, step.body)
		if got := put(); got != step.want {
			t.Errorf("after %s %s %s: put got %q, want %q", step.method, step.path, step.body, got, step.want)
		}
	}
	c.now = time.Now
	must("PUT", "clock", `"16m"`)
	if got := put(); got != "RequestTimeExpired" {
		t.Errorf("with another clock: got %q", got)
	}

	var state struct {
		Clock    string
		Projects map[string]map[string]struct{ Groups, Bytes int }
		Roles    map[string]any
	}
	text := must("GET", "state", "")
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		t.Fatal(err)
	}
	if ls := state.Projects["p"]["ls"]; state.Clock != "16m0s" || ls.Groups < 5 || ls.Bytes == 0 || len(state.Roles) != 1 {
		t.Errorf("state is %s", text)
	}
	if strings.Contains(text, c.secret) {
		t.Error("the state tells a secret")
	}
	for path, want := range map[string]string{
		"counters": `"sls.PutLogs"`, "requests?after=3": `"operation":"PutLogs"`, "errors": `"Rejected.Disabled"`, "faults": "[]",
		"atrest?project=p&logstore=ls": canary, // it was not enabled for a while
	} {
		if got := must("GET", path, ""); !strings.Contains(got, want) {
			t.Errorf("%s has no %s: %.200s", path, want, got)
		}
	}
	for _, bad := range []struct{ method, path, body string }{
		{"PUT", "keys/k", `{"spec":"RSA"}`}, {"PUT", "keys/x/state", `"Disabled"`}, {"PUT", "keys/k", `{"more":1}`},
		{"PUT", "roles/r", `{"policies":["No"]}`}, {"POST", "faults", `{"codes":1}`}, {"DELETE", "faults/x", ""},
		{"PUT", "clock", `"soon"`}, {"GET", "requests?after=x", ""}, {"PUT", "quirks", `[]`}, {"PUT", "credentials/x", `{} {}`},
		{"PUT", "projects/p/logstores/none/encryption", `null`},
	} {
		if status, answer := control(bad.method, bad.path, bad.body); status != 400 || !strings.Contains(answer, `"error"`) {
			t.Errorf("%s %s %s: got %d %s", bad.method, bad.path, bad.body, status, answer)
		}
	}
}
