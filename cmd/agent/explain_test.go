package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"sealtail/conf"
	"sealtail/internal/durable"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/spool"
)

// The note of a pause is no file's position.
func TestExplainBesidePause(t *testing.T) {
	dir := t.TempDir()
	id, err := seal.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	st := &state{identity: id}
	sp, err := spool.Open(filepath.Join(dir, "streams", "s"), spool.Options{FS: durable.OS}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &committer{spool: sp, state: st}
	if err := c.Append(t.Context(), nil, []record.Position{{ID: 1, Path: "revoked", Paused: 1}}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e := &explaining{cfg: &conf.Config{Agent: conf.Agent{StateDir: dir}}, name: filepath.Join(dir, "none.log"), key: make([]byte, 32), out: &out}
	if err := e.stream(conf.Stream{Name: "s", Include: []string{filepath.Join(dir, "*.log")}}); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "nothing is there now") || strings.Contains(s, "position") || strings.Contains(s, "revoked") {
		t.Errorf("got %s", s)
	}
}
