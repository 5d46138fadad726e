package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sealtail/emul"
	"sealtail/internal/command/commandtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealtail": main, "control": control})
}

// In a story, $CLOUD is the address of an emulator of Log Service and KMS;
// $ROOT_ID and $ROOT_SECRET, also in files root.id and root.secret, are an
// access key that may do everything. "control METHOD PATH [BODY]" makes a
// request of the emulator's control API.
func TestScript(t *testing.T) {
	commandtest.Scripts(t, func(e *testscript.Env) {
		e.Setenv("NODE_NAME", "node-1")
		s := emul.New(emul.Options{})
		server := httptest.NewServer(s)
		e.Defer(func() { server.Close(); s.Close() })
		s.AddProject("prod-logs")
		s.SetRole(emul.SLSRole("sls"))
		e.Setenv("CLOUD", server.Listener.Addr().String())
		id, secret := s.Root()
		for name, text := range map[string]string{"root.id": id, "root.secret": secret} {
			e.Setenv(strings.ToUpper(strings.Replace(name, ".", "_", 1)), text)
			if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func control() {
	fail := func(a ...any) {
		fmt.Fprintln(os.Stderr, a...)
		os.Exit(1)
	}
	if len(os.Args) < 3 || len(os.Args) > 4 {
		fail("usage: control METHOD PATH [BODY]")
	}
	req, err := http.NewRequest(os.Args[1], "http://"+os.Getenv("CLOUD")+"/control/"+os.Args[2], strings.NewReader(strings.Join(os.Args[3:], "")))
	if err != nil {
		fail(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fail(err)
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		fail(resp.Status)
	}
}
