//go:build sdke2e

package emul_test

import (
	"bufio"
	"bytes"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sealtail/emul"
)

// sdkTests are the SDK's end-to-end tests of projects, Logstores, logs,
// encryption and credentials.
func sdkTests() []string {
	return []string{
		"TestLogStore", "TestLostore", "TestProject", "TestListLogStoreV2", "TestGetLogsTestSuiteE2E",
		"TestClientTestSuite", "TestTolenAutoUpdateClient", "TestLogStoreLogsE2E", "TestStsToken", "TestTokenAutoUpdateClient",
	}
}

// sdkFails says which of them fail, and why.
func sdkFails() map[string]string {
	const (
		modify = "changing and deleting logs is not offered"
		sts    = "STS is not offered"
	)
	return map[string]string{
		"TestLogStore/TestCreateLogStoreWithNewRequestBody": "compares int 0 with int32 0: fails against any server",
		"TestLogStore/TestLogShipper":                       "shippers to OSS are not offered",
		"TestLogStore/TestReqTimeoutRetry":                  "has a server of its own, under a name that no resolver knows here",
		"TestClientTestSuite/TestClientCommonHeader":        "passes up to its last line: sub-stores are not offered",
		"TestClientTestSuite/TestMeteringMode":              "metering modes are not offered",
		"TestLogStoreLogsE2E/enableAtCreation=true":         modify,
		"TestStsToken":              sts,
		"TestTokenAutoUpdateClient": sts,
	}
}

// TestSDK runs the end-to-end tests of the SLS SDK for Go, from a copy of its
// module, against the emulator, which they take for an HTTP proxy. It needs
// minutes, in which the tests sleep.
func TestSDK(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aliyun/aliyun-log-go-sdk").Output()
	if err != nil {
		t.Fatal(err)
	}
	told, err := os.ReadFile("../docs/EMULATOR.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range sdkFails() {
		if !bytes.Contains(told, []byte("`"+name+"`")) {
			t.Errorf("EMULATOR.md does not tell that %s fails", name)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "sdk.test")
	build := exec.Command("go", "test", "-tags=e2e", "-c", "-o", binary, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	c := newClient(t, emul.Options{})
	if _, err := c.s.SetKey(emul.Key{ID: "cmk", Spec: emul.SM4}); err != nil {
		t.Fatal(err)
	}
	arn := c.s.SetRole(emul.SLSRole("role"))
	c.create(nil, 2)
	c.json("POST", "/logstores/ls/index", map[string]any{"line": map[string]any{"token": []string{" "}}})
	server := httptest.NewServer(c.s)
	t.Cleanup(server.Close)
	env := append(os.Environ(),
		"HTTP_PROXY="+server.URL, "NO_PROXY=", "LOG_TEST_ENDPOINT=http://sls.test", "LOG_TEST_REGION="+c.region,
		"LOG_TEST_ACCESS_KEY_ID="+c.id, "LOG_TEST_ACCESS_KEY_SECRET="+c.secret,
		"LOG_TEST_PROJECT=p", "LOG_TEST_LOGSTORE=ls",
		"LOG_TEST_ROLE_ARN="+arn, "LOG_TEST_CMK_ID=cmk", "LOG_TEST_CMK_ENDPOINT="+c.region)
	for _, name := range sdkTests() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := exec.Command(binary, "-test.run=^"+name+"$", "-test.v", "-test.timeout=10m")
			run.Dir, run.Env = dir, env
			out, _ := run.CombinedOutput() // its lines say more than its exit code
			got := results(out)
			if got[name] == "" {
				t.Errorf("it did not run")
			}
			for _, sub := range slices.Sorted(maps.Keys(got)) {
				if sub == name && len(got) > 1 {
					continue // its subtests say it
				}
				why, fails := sdkFails()[sub]
				t.Logf("%s %s %s", got[sub], sub, why)
				if (got[sub] == "FAIL") != fails {
					t.Errorf("%s: got %s, expected otherwise\n%s", sub, got[sub], out)
				}
			}
		})
	}
}

var resultLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)

// results returns how each test ended, by the output of go test -v.
func results(out []byte) map[string]string {
	got := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if m := resultLine.FindStringSubmatch(lines.Text()); m != nil {
			got[m[2]] = m[1]
		}
	}
	return got
}
