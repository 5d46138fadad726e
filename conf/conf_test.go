package conf_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealtail/conf"
)

var update = flag.Bool("update", false, "write the golden files")

func env(name string) (string, bool) {
	v, ok := map[string]string{"DIR": "/srv/sealed", "EMPTY": "", "SIZE": "3MiB"}[name]
	return v, ok
}

func load(t *testing.T, file string) (*conf.Config, error) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return conf.Parse(file, data, env)
}

// Each *.bad.toml ends with what is to be said of it, and so does each
// *.reader.toml, of a file for the reader; each *.warn.toml ends with its
// warnings: a comment line each.
func TestFaults(t *testing.T) {
	for _, kind := range []string{"bad", "warn", "reader"} {
		files, err := filepath.Glob("testdata/*." + kind + ".toml")
		if err != nil || len(files) == 0 {
			t.Fatalf("no testdata/*.%s.toml: %v", kind, err)
		}
		for _, file := range files {
			t.Run(filepath.Base(file), func(t *testing.T) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				text, want, _ := strings.Cut(string(data), "# want\n")
				parse := conf.Parse
				if kind == "reader" {
					parse = conf.ParseReader
				}
				c, err := parse(filepath.Base(file), []byte(text), env)
				var got []conf.Fault
				if kind == "warn" {
					if err != nil {
						t.Fatal(err)
					}
					got = c.Warnings
				} else {
					var faults conf.Faults
					if !errors.As(err, &faults) {
						t.Fatalf("got error %v, want conf.Faults", err)
					}
					got = faults
				}
				var said strings.Builder
				for _, f := range got {
					fmt.Fprintf(&said, "# %d: %s: %s\n", f.Line, f.Key, f.Problem)
					if f.Fix != "" {
						fmt.Fprintf(&said, "#     %s\n", f.Fix)
					}
				}
				if *update {
					if err := os.WriteFile(file, []byte(text+"# want\n"+said.String()), 0o644); err != nil {
						t.Fatal(err)
					}
				} else if said.String() != want {
					t.Errorf("got\n%s\nwant\n%s", said.String(), want)
				}
			})
		}
	}
}

func TestExample(t *testing.T) {
	c, err := load(t, "example.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("got warnings %v, want none", c.Warnings)
	}
	if got, want := c.Agent.Stop, (conf.Stop{SealTimeout: 10 * time.Second, ShipTimeout: 20 * time.Second}); got != want {
		t.Errorf("got stop %v, want %v", got, want)
	}
	s := c.Streams[0]
	if got, want := s.Batch, (conf.Batch{MaxBytes: 2 << 20, MaxRecords: 65536, MaxAge: time.Second, Level: "fastest"}); got != want {
		t.Errorf("got batch %v, want %v", got, want)
	}
	if got, want := float64(s.Spool.MinFree), 0.05; got != want {
		t.Errorf("got min_free %v, want %v", got, want)
	}
	if got, want := s.Tags["cluster"], "hz-1"; got != want {
		t.Errorf("got tag %q, want %q", got, want)
	}
	if got, want := c.Sinks[s.Sink].Path, "/srv/sealed"; got != want {
		t.Errorf("got path %q, want %q", got, want)
	}
}

func TestFault(t *testing.T) {
	c, err := load(t, "example.toml")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{
		"agent.state_dir": 2, "key.main.file": 9, "key.main.rotate": 7, "stream.audit.include": 19, "stream.audit.batch.level": 26, "sink.archive": 12, "": 0,
	} {
		if got := c.Fault(key, "p", "f"); got != (conf.Fault{File: "example.toml", Line: want, Key: key, Problem: "p", Fix: "f"}) {
			t.Errorf("%s: got %+v, want line %d", key, got, want)
		}
	}
}

// The defaults are those of a key's life that the documentation states.
func TestDefaults(t *testing.T) {
	c, err := load(t, "small.toml")
	if err != nil {
		t.Fatal(err)
	}
	got := c.Keys["main"]
	want := conf.Key{
		Provider: "keyring", File: "/etc/sealtail/keyring.json",
		Refresh: 5 * time.Minute, Rotate: 30 * time.Minute, HardAge: time.Hour, Grace: time.Hour,
		Confirm: 10 * time.Second, CallTimeout: 5 * time.Second, RetryMax: 30 * time.Second, RetryRevoked: time.Minute, CredentialsGrace: 5 * time.Minute,
		DEKMaxBatches: 1 << 20, DEKMaxBytes: 64 << 30,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if host, _ := os.Hostname(); c.Agent.Host != host {
		t.Errorf("got host %q, want %q", c.Agent.Host, host)
	}
}

func TestDigest(t *testing.T) {
	const small = `[key.main]
provider = "keyring"
file = "/k.json"
[sink.a]
type = "dir"
path = "/srv/sealed"
[[stream]]
name = "s"
include = ["/x.log"]
suite = "sm4-gcm"
key = "main"
sink = "a"
`
	digest := func(text string) string {
		t.Helper()
		c, err := conf.Parse("x", []byte(text), env)
		if err != nil {
			t.Fatal(err)
		}
		return c.Digest
	}
	base := digest(small)
	if len(base) != 16 || strings.Trim(base, "0123456789abcdef") != "" {
		t.Errorf("got %q, want 16 hex digits", base)
	}
	// The digest is in logs and in what is sealed: a password of a proxy is not in it.
	proxy := func(url string) string {
		return digest(strings.Replace(small, "[sink.a]", "[key.kms]\nprovider = \"alikms\"\nendpoint = \"https://kms.cn-hangzhou.aliyuncs.com\"\nkey_id = \"k\"\n"+
			"credentials = { type = \"env\" }\nroute = { proxy = \""+url+"\" }\n[sink.a]", 1))
	}
	if a, b, c := proxy("http://u:one@proxy:1"), proxy("http://u:two@proxy:1"), proxy("http://u:one@other:1"); a != b || a == c {
		t.Errorf("got %s and %s with two passwords, %s with another proxy", a, b, c)
	}
	for name, test := range map[string]struct {
		text string
		same bool
	}{
		"comment":     {"# hello\n" + small, true},
		"default":     {small + "batch = { max_bytes = 2097152 }\n", true},
		"environment": {strings.Replace(small, "/srv/sealed", "${DIR}", 1), true},
		"value":       {small + "batch = { max_bytes = \"1MiB\" }\n", false},
		"tag":         {small + "tags = { a = \"b\" }\n", false},
		"suite":       {strings.Replace(small, "sm4-gcm", "aes-256-gcm", 1), false},
	} {
		if got := digest(test.text); (got == base) != test.same {
			t.Errorf("%s: got %s beside %s, want same %v", name, got, base, test.same)
		}
	}
}

func TestBytes(t *testing.T) {
	for _, test := range []struct {
		text string
		want conf.Bytes
		bad  bool
	}{
		{text: "0", want: 0}, {text: "1", want: 1}, {text: "1B", want: 1}, {text: "64KiB", want: 65536},
		{text: "2 MiB", want: 2 << 20}, {text: "1.5GiB", want: 3 << 29}, {text: "7TiB", want: 7 << 40},
		{text: "9223372036854775807", want: 1<<63 - 1}, {text: "9223372036854775808", bad: true},
		{text: "8388608TiB", bad: true}, {text: "8388607TiB", want: 8388607 << 40},
		{text: "", bad: true}, {text: "MiB", bad: true}, {text: "2MB", bad: true}, {text: "-1", bad: true},
		{text: "1e3", bad: true}, {text: "0x10", bad: true}, {text: "1.0001KiB", bad: true}, {text: "Inf", bad: true},
		{text: "NaN", bad: true},
	} {
		got, err := conf.ParseBytes(test.text)
		if got != test.want || (err != nil) != test.bad {
			t.Errorf("%q: got %d, %v, want %d, bad %v", test.text, got, err, test.want, test.bad)
		}
		if err == nil {
			if again, err := conf.ParseBytes(got.String()); err != nil || again != got {
				t.Errorf("%q: got %d, %v of %q, want %d", test.text, again, err, got.String(), got)
			}
		}
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		text string
		want conf.Percent
		bad  bool
	}{
		{text: "0%"}, {text: "5%", want: 0.05}, {text: "0.5%", want: 0.005}, {text: "7%", want: 0.07}, {text: "100%", want: 1},
		{text: "101%", bad: true}, {text: "-1%", bad: true}, {text: "5", bad: true}, {text: "%", bad: true}, {text: "NaN%", bad: true},
	} {
		if got, err := conf.ParsePercent(test.text); got != test.want || (err != nil) != test.bad {
			t.Errorf("%q: got %v, %v, want %v, bad %v", test.text, got, err, test.want, test.bad)
		} else if err == nil && got.String() != test.text {
			t.Errorf("%q: got %q", test.text, got.String())
		}
	}
}

func TestLoad(t *testing.T) {
	if _, err := conf.Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
	big := filepath.Join(t.TempDir(), "big.toml")
	if err := os.WriteFile(big, make([]byte, conf.MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	var faults conf.Faults
	if _, err := conf.Load(big); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Problem != "longer than 256KiB" {
		t.Errorf("got %v, want longer than 256KiB", err)
	}
}

// Nothing panics, and every fault says where it is.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no testdata/*.toml: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("[[stream]]\n\"a.b\" = \"\"\"x\\\ny\"\"\"\nc = [[{d=1},\n2],]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := conf.Parse("f", data, env)
		if err == nil && (len(c.Streams) == 0 || c.Digest == "") {
			t.Error("got a config without streams or digest")
		}
		if err == nil {
			c, err = conf.ParseReader("f", data, env)
			if err == nil && len(c.Reader.Sinks) == 0 {
				t.Error("got a config for the reader without sinks")
			}
		}
		if err == nil {
			return
		}
		var faults conf.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("got %v, want faults", err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, f := range faults {
			if f.Line > lines || f.Line < 0 || f.Problem == "" {
				t.Errorf("got fault %+v in %d lines", f, lines)
			}
		}
	})
}

// The state directory of a file is found whatever else is wrong with it.
func TestStateDir(t *testing.T) {
	t.Setenv("WHERE", "/srv/x")
	for text, want := range map[string]string{
		"":                                      "/var/lib/sealtail",
		"[agent]\nstate_dir = \"${WHERE}/s\"\n": "/srv/x/s",
		"[agent]\nstate_dir = \"/a/../b\"\nhots = 3\n[[stream]]\n": "/b",
		"[agent]\nstate_dir = 3\n":                                 "",
		"[agent]\nstate_dir = \"a\"\n":                             "",
		"[agent\n":                                                 "",
	} {
		file := filepath.Join(t.TempDir(), "sealtail.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := conf.StateDir(file); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
}

// A secret that is written, by a slip, where its file or an address is wanted
// is repeated by nobody.
func TestSlips(t *testing.T) {
	const canary = "PWCANARY77"
	credentials := func(key string) string {
		return strings.Replace(`credentials = { type = "file", access_key_id_file = "/id", access_key_secret_file = "/secret", security_token_file = "/token" }`,
			key, key[:strings.Index(key, " ")]+` = "${SLIP}"`, 1)
	}
	for _, tt := range []struct{ key, line string }{
		{"access_key_id_file", credentials(`access_key_id_file = "/id"`)},
		{"access_key_secret_file", credentials(`access_key_secret_file = "/secret"`)},
		{"security_token_file", credentials(`security_token_file = "/token"`)},
		{"type", credentials(`type = "file"`)},
		{"credentials", `credentials = "${SLIP}"`},
		{"credentials", `credentials = "PWCANARY77"`},
		{"route", `route = "http://user:${SLIP}@proxy"`},
		{"route", `route = "http://user:PWCANARY77@proxy"`},
		{"ca_file", `route = { ca_file = "${SLIP}" }`},
		{"proxy", `route = { proxy = "${SLIP}" }`},
		{"dial_address", `route = { dial_address = "${SLIP}" }`},
		{"endpoint", `endpoint = "${SLIP}"`},
	} {
		t.Run(tt.key, func(t *testing.T) {
			text := "[key.kms]\nprovider = \"alikms\"\nkey_id = \"k\"\n" + tt.line + "\n"
			_, err := conf.Parse("slip.toml", []byte(text), func(string) (string, bool) { return canary, true })
			var faults conf.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want faults", err)
			}
			found := false
			for _, f := range faults {
				found = found || strings.HasSuffix(f.Key, "."+tt.key) && f.Problem != "missing"
				if strings.Contains(fmt.Sprintf("%+v", f), canary) {
					t.Errorf("repeated: %+v", f)
				}
			}
			if !found {
				t.Errorf("got no fault of %s: %v", tt.key, err)
			}
		})
	}
}
