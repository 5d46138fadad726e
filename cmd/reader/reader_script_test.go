package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sealtail/internal/command/commandtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sealtail-reader": main,
		"sealed":          sealed,
		"join":            join,
		"flip":            flip,
		"control":         control,
		"shipped":         shipped,
		"ship":            ship,
	})
}

func TestScript(t *testing.T) {
	commandtest.Scripts(t, func(e *testscript.Env) {
		e.Setenv("TMPDIR", e.WorkDir)
		serveCloud(t, e)
	})
}
