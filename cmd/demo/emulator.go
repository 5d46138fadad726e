package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// An emulator is a process of sealtail-emulator, and the way to its control
// API.
type emulator struct {
	Control, Address string
	CAFile           string            `json:"ca_file"`
	AccessKeyID      string            `json:"access_key_id"` // that may do everything
	AccessKeySecret  string            `json:"access_key_secret"`
	CMKs             map[string]string // ARNs
	Roles            map[string]string // likewise

	cmd    *exec.Cmd
	client *http.Client
}

// startEmulator starts one and waits until it is ready.
func startEmulator(path string, args ...string) (*emulator, error) {
	e := &emulator{cmd: exec.Command(path, args...)}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	e.cmd.Stderr = os.Stderr
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, e)
	}
	pem := []byte(nil)
	if err == nil {
		pem, err = os.ReadFile(e.CAFile)
	}
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = errors.New("its CA is none")
	}
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("start the emulator: %w", err)
	}
	e.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return e, nil
}

func (e *emulator) stop() {
	_ = e.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	_ = e.cmd.Wait()
}

// control makes a request of the control API.
func (e *emulator) control(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.Control+"/"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}
