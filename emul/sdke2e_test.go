//go:build sdke2e

package emul_test

import (
	"bufio"
	"bytes"
	"maps"
	"net/http"
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

// runs of the SDK's end-to-end tests, by test. What is told of a failure is
// why it is no fault of the emulator's.
var runs = map[string]struct {
	want map[string]string // by subtest: "" = passes, else why not
}{
	"TestLogStore": {map[string]string{
		"TestCreateLogStoreWithNewRequestBody": "compares the int 0 with the int32 0: fails against any server",
		"TestLogShipper":                       "shippers to OSS are not offered",
	}},
}

var names = []string{
	"TestLogStore", "TestLostore", "TestProject", "TestGetLogsTestSuiteE2E", "TestListLogStoreV2",
	"TestClientTestSuite", "TestTolenAutoUpdateClient", "TestLogStoreLogsE2E", "TestStsToken", "TestTokenAutoUpdateClient",
}

// TestSDK runs the end-to-end tests of the SLS SDK for Go, from a copy of its
// module, against the emulator, which it takes for an HTTP proxy.
func TestSDK(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aliyun/aliyun-log-go-sdk").Output()
	if err != nil {
		t.Fatal(err)
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
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.s.ServeHTTP(w, r) }))
	defer server.Close()
	env := append(os.Environ(),
		"HTTP_PROXY="+server.URL, "LOG_TEST_ENDPOINT=http://sls.test", "LOG_TEST_REGION="+c.region,
		"LOG_TEST_ACCESS_KEY_ID="+c.id, "LOG_TEST_ACCESS_KEY_SECRET="+c.secret,
		"LOG_TEST_PROJECT=p", "LOG_TEST_LOGSTORE=ls",
		"LOG_TEST_ROLE_ARN="+arn, "LOG_TEST_CMK_ID=cmk", "LOG_TEST_CMK_ENDPOINT="+c.region)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := exec.Command(binary, "-test.run=^"+name+"$", "-test.v", "-test.timeout=10m")
			run.Dir, run.Env = dir, env
			out, _ := run.CombinedOutput() // its exit code says less than its lines
			got := results(out)
			want := runs[name].want
			t.Logf("%v %v\n%s", slices.Sorted(maps.Keys(got)), want, out)
		})
	}
}

var resultLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)

func results(out []byte) map[string]string {
	got := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if m := resultLine.FindStringSubmatch(lines.Text()); m != nil {
			got[m[2]] = m[1]
		}
	}
	return got
}
