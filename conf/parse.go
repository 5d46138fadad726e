package conf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile is the longest configuration file that is read.
const maxFile = 256 << 10

// maxFaults are told at once; a file with more is no configuration.
const maxFaults = 1000

// A Fault is one thing wrong with the file, or worth a warning.
type Fault struct {
	File    string
	Line    int    // from 1; 0 = unknown
	Key     string // such as stream.audit.batch.max_bytes; "" = the file as a whole
	Problem string
	Fix     string // what to do; may be ""
}

// Error returns file, line, key and problem; not the fix.
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if f.Key != "" {
		b.WriteString(": " + f.Key)
	}
	return b.String() + ": " + f.Problem
}

// Faults are all faults of a file, in the order of their lines. There is at
// least one.
type Faults []Fault

// Error returns one line a fault, each with its fix.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
		if f.Fix != "" {
			lines[i] += "; " + f.Fix
		}
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks the file. What is wrong with its contents comes back
// as [Faults]; any other error is of reading it.
func Load(file string) (*Config, error) { return load(file, Parse) }

// LoadReader is Load for the reader: [[stream]] may be missing, and what else
// the agent alone needs; what the reader needs must be there.
func LoadReader(file string) (*Config, error) { return load(file, ParseReader) }

func load(file string, parse func(string, []byte, func(string) (string, bool)) (*Config, error)) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return parse(file, data, os.LookupEnv)
}

// DefaultStateDir returns agent.state_dir of a file that does not say it.
func DefaultStateDir() string {
	field, _ := reflect.TypeFor[Agent]().FieldByName("StateDir")
	return field.Tag.Get("default")
}

// StateDir returns agent.state_dir, whatever else is wrong with the file: for
// who asks a running agent why it refused it.
func StateDir(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var own struct {
		Agent struct {
			StateDir string `toml:"state_dir"`
		} `toml:"agent"`
	}
	own.Agent.StateDir = DefaultStateDir()
	if _, err := toml.Decode(string(data), &own); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	d := &decoder{file: file, env: os.LookupEnv}
	dir, _ := d.expand("agent.state_dir", own.Agent.StateDir)
	d.checkPath("agent.state_dir", &dir)
	if len(d.faults) > 0 {
		return "", Faults(d.faults)
	}
	return dir, nil
}

// Parse checks the text of a configuration; file is its name in faults, env
// looks up "${NAME}". An error is always [Faults].
func Parse(file string, data []byte, env func(name string) (value string, ok bool)) (*Config, error) {
	return parse(&decoder{file: file, env: env}, data)
}

// ParseReader is Parse for the reader, as [LoadReader] is Load.
func ParseReader(file string, data []byte, env func(name string) (value string, ok bool)) (*Config, error) {
	return parse(&decoder{file: file, env: env, reader: true}, data)
}

func parse(d *decoder, data []byte) (*Config, error) {
	file := d.file
	if len(data) > maxFile {
		return nil, Faults{{File: file, Problem: "longer than " + Bytes(maxFile).String()}}
	}
	text := string(data)
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		f := Fault{File: file, Problem: strings.TrimPrefix(err.Error(), "toml: ")}
		var pe toml.ParseError
		if errors.As(err, &pe) {
			f.Line, f.Problem, f.Fix = pe.Position.Line, pe.Message, firstLine(pe.Usage)
		}
		return nil, Faults{f}
	}
	c := &Config{File: file}
	d.lines, d.tree = locate(text), tree
	d.decode(c)
	d.check(c)
	if len(d.faults) > 0 {
		return nil, Faults(sorted(d.faults))
	}
	c.Warnings = sorted(d.warnings)
	c.lines = make(map[string]int)
	for path, line := range d.lines {
		c.lines[d.shown(path)] = line
	}
	sum := sha256.Sum256([]byte(c.effective()))
	c.Digest = hex.EncodeToString(sum[:])[:16]
	return c, nil
}

// Fault returns a fault of a key, named as faults name it, with its line: for
// what only shows where the configuration is used.
func (c *Config) Fault(key, problem, fix string) Fault {
	return Fault{File: c.File, Line: lineOf(c.lines, key), Key: key, Problem: problem, Fix: fix}
}

// lineOf returns the line of a path, or of the nearest table around it.
func lineOf(lines map[string]int, path string) (line int) {
	for ; line == 0 && path != ""; path = parent(path) {
		line = lines[path]
	}
	return line
}

func sorted(fs []Fault) []Fault {
	slices.SortStableFunc(fs, func(a, b Fault) int { return a.Line - b.Line })
	return fs
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSuffix(s, ":")
}
