package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"sealtail/conf"
)

// Each parameter of a key's life reaches it; what is none in a configuration is
// none, and no default.
func TestKeyOptions(t *testing.T) {
	var k conf.Key
	key := reflect.ValueOf(&k).Elem()
	first, _ := key.Type().FieldByName("Refresh")
	for i := first.Index[0]; i < key.NumField(); i++ {
		key.Field(i).SetInt(int64(100 + i))
	}
	got := reflect.ValueOf(keyOptions(k, zap.NewNop()))
	for i := first.Index[0]; i < key.NumField(); i++ {
		name := strings.TrimPrefix(key.Type().Field(i).Name, "DEK")
		if f := got.FieldByName(name); !f.IsValid() || f.Int() != int64(100+i) {
			t.Errorf("%s: got %v, want %d", name, f, 100+i)
		}
	}
	if o := keyOptions(conf.Key{}, zap.NewNop()); o.Grace >= 0 || o.Confirm >= 0 || o.CredentialsGrace >= 0 {
		t.Errorf("of 0s: got grace %v, confirm %v, credentials_grace %v, want less", o.Grace, o.Confirm, o.CredentialsGrace)
	}
}

// A program whose self-test fails is halted: it ends with 1, so that systemd
// starts it again, and asks for no key, nor makes a state directory, before.
func TestHalted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	vector, err := os.ReadFile("../../seal/selftest/sm4-gcm.se1")
	if err != nil {
		t.Fatal(err)
	}
	vector[len(vector)/2] ^= 1
	write := func(name string, b []byte) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	real, err := filepath.Abs("../../seal/selftest/sm4-gcm.se1")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{real: write("wrong.se1", vector)}})
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "sealtail")
	if out, err := exec.Command("go", "build", "-overlay", write("overlay.json", overlay), "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var asked atomic.Int32
	kms := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer kms.Close()
	state := filepath.Join(dir, "state")
	config := write("c.toml", fmt.Appendf(nil, `[agent]
state_dir = %q
[key.k]
provider = "alikms"
endpoint = "http://kms.cn-hangzhou.aliyuncs.com"
key_id = "alias/k"
credentials = { type = "file", access_key_id_file = %[2]q, access_key_secret_file = %[2]q }
route = { dial_address = %q }
[sink.out]
type = "dir"
path = %q
[[stream]]
name = "s"
include = [%q]
suite = "sm4-gcm"
key = "k"
sink = "out"
`, state, write("secret", []byte("x")), kms.Listener.Addr(), filepath.Join(dir, "out"), filepath.Join(dir, "*.log")))
	for _, args := range [][]string{{"run", "-c", config}, {"run", "-c", config, "--dry-run"}, {"selftest"}} {
		cmd := exec.Command(program, args...)
		done := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		out, _ := cmd.CombinedOutput()
		done.Stop()
		if code := cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("%s: got exit code %d, want 1", args[0], code)
		}
		const want = "sealtail: error: self-test of SE1 sm4-gcm: "
		if text := string(out); !strings.Contains(text, want) || !strings.Contains(text, "sealtail: hint: this machine or this binary computes wrongly") {
			t.Errorf("%s: got %s, want %s… and a hint", args[0], text, want)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the key service was asked %d times", n)
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("state directory: got %v, want none", err)
	}
}
