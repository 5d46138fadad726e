package conf_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"sealtail/conf"
)

func TestReader(t *testing.T) {
	data, err := os.ReadFile("testdata/reader.toml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := conf.ParseReader("reader.toml", data, env)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("got warnings %v, want none", c.Warnings)
	}
	for what, lists := range map[string][2][]string{
		"sinks":       {c.Reader.Sinks, {"audit"}},
		"allow":       {c.Reader.Allow, {"acs:kms:cn-hangzhou:1:key/key-a", "key-b"}},
		"accept_from": {c.Reader.AcceptFrom, {"old-logs/audit"}},
		"keyrings":    {c.Reader.Keyrings, {"/etc/sealtail/office.json"}},
	} {
		if !slices.Equal(lists[0], lists[1]) {
			t.Errorf("%s: got %q, want %q", what, lists[0], lists[1])
		}
	}
	if c.Reader.Credentials.Type != "file" || c.Sinks["audit"].Credentials.Type != "" {
		t.Errorf("got credentials %+v, and of the sink %+v", c.Reader.Credentials, c.Sinks["audit"].Credentials)
	}

	// It is nothing for the agent.
	var faults conf.Faults
	if _, err := conf.Parse("reader.toml", data, env); !errors.As(err, &faults) || len(faults) < 3 {
		t.Errorf("got %v, want faults", err)
	}

	// What is set is not completed.
	set := append([]byte("reader.sinks = []\nreader.allow = []\n"), data[len("[reader]\n"):]...)
	if _, err := conf.ParseReader("x", set, env); !errors.As(err, &faults) {
		t.Errorf("got %v, want faults", err)
	}
}

// The agent's file is good for the reader too.
func TestReaderOfAgentsFile(t *testing.T) {
	data, err := os.ReadFile("testdata/cloud.warn.toml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := conf.ParseReader("cloud.warn.toml", data, env)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Reader.Sinks, []string{"audit"}) || !slices.Equal(c.Reader.Allow, []string{"acs:kms:cn-hangzhou:1:key/key-a"}) || c.Reader.Credentials.Type != "" {
		t.Errorf("got %+v", c.Reader)
	}
}
