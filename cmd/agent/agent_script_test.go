package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sealtail/internal/command/commandtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealtail": main})
}

func TestScript(t *testing.T) {
	commandtest.Scripts(t, func(e *testscript.Env) { e.Setenv("NODE_NAME", "node-1") })
}
