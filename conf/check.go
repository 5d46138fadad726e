package conf

import (
	"errors"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"
)

const (
	maxName = 100
	maxTags = 8 << 10

	maxSource = 128 // bytes of a host's name that SLS takes
)

// check holds the decoded values against each other. What is wrong with a
// single value has been said; where a value is missing, nothing more is said.
func (d *decoder) check(c *Config) {
	d.checkAgent(&c.Agent)
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		d.checkKey(join("key", name), name, c.Keys[name], c)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sinks)) {
		d.checkSink(join("sink", name), name, c.Sinks[name], c)
	}
	if len(c.Streams) == 0 && d.tree["stream"] == nil && !d.reader {
		d.fault("", "add a [[stream]]", "nothing to follow: there is no [[stream]]")
	}
	own := ownFiles(c)
	for i, s := range c.Streams {
		d.checkStream(index("stream", i), s, c, own)
	}
	d.checkTogether(c)
	d.checkReader(c)
}

func (d *decoder) checkAgent(a *Agent) {
	if a.Host == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			d.fault("agent.host", "set it", "is empty and the system has no host name")
		}
		a.Host = name
	}
	odd := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	if strings.ContainsFunc(a.Host, odd) || len(a.Host) > 255 {
		d.fault("agent.host", "write one word of letters, digits, \".\", \"-\"", "%q is no host name", a.Host)
	}
	d.checkPath("agent.state_dir", &a.StateDir)
	d.checkListen("agent.listen", a.Listen)
}

// checkListen wants an address that only this host reaches, or says so.
func (d *decoder) checkListen(at, address string) {
	if address == "" {
		return
	}
	host, port, err := net.SplitHostPort(address)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 {
		d.fault(at, `write one such as "127.0.0.1:19470", or "" for none`, "%q is no HOST:PORT", address)
		return
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		d.warn(at, "", "%q may be reached from other hosts: whoever asks is told names of streams, numbers and errors", address)
	}
}

// checkPath wants an absolute path and cleans it. A path that could not be
// read is empty and has its fault already. What is no path is not repeated: by
// a slip it is the secret instead of the name of its file.
func (d *decoder) checkPath(at string, p *string) {
	if *p == "" {
		return
	}
	if !filepath.IsAbs(*p) {
		d.fault(at, "write the whole path, from /", "is no absolute path")
		*p = ""
		return
	}
	*p = filepath.Clean(*p)
}

func goodName(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		case c == '.' && i > 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

func (d *decoder) checkName(at, name string) {
	if !goodName(name) {
		d.fault(at, `use letters, digits, "_", "-" and, not first, "."; at most 100`, "%q is no name", name)
	}
}

func (d *decoder) checkKey(at, name string, k Key, c *Config) {
	d.checkName(at, name)
	d.checkPath(join(at, "file"), &k.File)
	if k.Provider == "alikms" {
		d.checkEndpoint(join(at, "endpoint"), k.Endpoint, k.Route)
		d.checkCredentials(join(at, "credentials"), &k.Credentials)
		d.checkRoute(join(at, "route"), &k.Route)
	}
	c.Keys[name] = k
	if k.Refresh == 0 || k.Rotate == 0 || k.HardAge == 0 {
		return
	}
	if k.Refresh >= k.Rotate {
		d.fault(join(at, "refresh"), "make rotate longer, or refresh shorter",
			"%s is not shorter than rotate, %s", formatDuration(k.Refresh), formatDuration(k.Rotate))
	}
	if k.Rotate > k.HardAge {
		d.fault(join(at, "rotate"), "make hard_age longer, or rotate shorter",
			"%s is longer than hard_age, %s", formatDuration(k.Rotate), formatDuration(k.HardAge))
	}
	if k.Confirm >= k.HardAge {
		d.fault(join(at, "confirm"), "make it shorter", "%s is not shorter than hard_age, %s",
			formatDuration(k.Confirm), formatDuration(k.HardAge))
	}
	if life := k.HardAge + k.Grace; life > 2*time.Hour {
		d.warn(join(at, "hard_age"), "", "with grace, a data key may stay in memory for %s", formatDuration(life))
	}
}

func (d *decoder) checkSink(at, name string, s Sink, c *Config) {
	d.checkName(at, name)
	d.checkPath(join(at, "path"), &s.Path)
	if s.Path != "" && c.Agent.StateDir != "" && inside(s.Path, c.Agent.StateDir) {
		d.fault(join(at, "path"), "choose another directory", "lies in agent.state_dir")
	}
	if s.Type == "sls" {
		d.checkEndpoint(join(at, "endpoint"), s.Endpoint, s.Route)
		d.checkCloudNames(at, s)
		d.checkCredentials(join(at, "credentials"), &s.Credentials)
		d.checkRoute(join(at, "route"), &s.Route)
		d.checkEncryption(join(at, "encryption"), s.Encryption, s.Region)
	}
	c.Sinks[name] = s
}

// inside tells whether p is dir or below it.
func inside(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func (d *decoder) checkStream(at string, s Stream, c *Config, own []ownFile) {
	if s.Name != "" {
		d.checkName(join(at, "name"), s.Name)
	}
	d.reference(join(at, "key"), "key", s.Key, slices.Sorted(maps.Keys(c.Keys)))
	d.reference(join(at, "sink"), "sink", s.Sink, slices.Sorted(maps.Keys(c.Sinks)))
	if s.Include != nil && len(s.Include) == 0 {
		d.fault(join(at, "include"), `write a pattern such as "/var/log/app/*.log"`, "is empty")
	}
	for i, p := range s.Include {
		d.checkPattern(index(join(at, "include"), i), p, false)
	}
	for i, p := range s.Exclude {
		d.checkPattern(index(join(at, "exclude"), i), p, true)
	}
	for i, p := range s.Rotated {
		d.checkPattern(index(join(at, "rotated"), i), p, false)
	}
	d.checkRecords(at, s)
	d.checkTags(join(at, "tags"), s.Tags)
	d.checkOwnFiles(at, s, own)
	if s.Heartbeat > 5*time.Minute {
		d.warn(join(at, "heartbeat"), "", "a reader takes a stream for dead after 15m without an envelope")
	}
}

// checkRecords looks at what makes records of lines.
func (d *decoder) checkRecords(at string, s Stream) {
	if (s.Format == "cri" || s.Format == "docker") && s.Encoding != "utf-8" && s.Encoding != "" {
		d.fault(join(at, "encoding"), "remove it", "the lines of format %q are utf-8", s.Format)
	}
	for i, re := range s.Keep {
		d.checkRegexp(index(join(at, "keep"), i), re)
	}
	for i, re := range s.Drop {
		d.checkRegexp(index(join(at, "drop"), i), re)
	}
	m, multiline := s.Multiline, join(at, "multiline")
	if m == (Multiline{}) {
		return
	}
	n := 0
	for _, re := range [][2]string{{"preset", m.Preset}, {"start", m.Start}, {"continuation", m.Continuation}, {"end", m.End}} {
		if re[1] == "" {
			continue
		}
		n++
		if re[0] != "preset" {
			d.checkRegexp(join(multiline, re[0]), re[1])
		}
	}
	if n != 1 {
		d.fault(multiline, "set one of preset, start, continuation and end", "has %d of preset, start, continuation and end", n)
	}
}

func (d *decoder) checkRegexp(at, re string) {
	if re == "" {
		if d.lines[at] > 0 && !d.faulted(at) {
			d.fault(at, "write an expression, or remove it", "is empty: it matches all")
		}
		return
	}
	if _, err := regexp.Compile(re); err != nil {
		var bad *syntax.Error
		why := err.Error()
		if errors.As(err, &bad) {
			why = bad.Code.String() + ": " + bad.Expr
		}
		d.fault(at, "write a regular expression of RE2, in single quotes", "%q: %s", re, why)
	}
}

// reference wants a name among those of a kind.
func (d *decoder) reference(at, kind, name string, names []string) {
	if name == "" || slices.Contains(names, name) {
		return
	}
	fix := "add a [" + kind + "." + name + "]"
	if near := nearest(name, names); near != "" {
		fix = "did you mean " + near + "?"
	}
	d.fault(at, fix, "there is no [%s.%s]", kind, name)
}

func (d *decoder) checkPattern(at, p string, exclude bool) {
	switch {
	case p == "":
		if d.lines[at] > 0 && !d.faulted(at) {
			d.fault(at, "write a pattern, or remove it", "is empty")
		}
	case !doublestar.ValidatePattern(p):
		d.fault(at, `close every "[" and "{"; a "\" must not be last`, "%q is no pattern", p)
	case exclude && !filepath.IsAbs(p) && !strings.HasPrefix(p, "**/"):
		d.fault(at, `begin it with "/" or "**/"`, "%q matches nothing: files have absolute paths", p)
	case !exclude && !filepath.IsAbs(p):
		d.fault(at, "write the whole path, from /", "%q is not absolute", p)
	case p != "/" && path.Clean(p) != p:
		d.fault(at, "write "+path.Clean(p), "%q matches nothing: paths are compared without //, /./ and /../", p)
	}
}

func (d *decoder) faulted(at string) bool {
	return slices.ContainsFunc(d.faults, func(f Fault) bool { return f.Key == d.shown(at) })
}

func (d *decoder) checkTags(at string, tags map[string]string) {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		total += len(name) + len(tags[name])
		switch {
		case name == "":
			d.fault(at, "give it a name", "a tag without a name")
		case strings.HasPrefix(name, "__"):
			d.fault(join(at, name), "choose a name without leading __", "is a name of the agent's own")
		}
	}
	if total > maxTags {
		d.fault(at, "keep them within "+Bytes(maxTags).String(), "names and values take %d bytes", total)
	}
}

// An ownFile is one that the agent writes or holds secrets in.
type ownFile struct {
	what, where string
	exclude     string // pattern of all that are where it is
	path        string
}

// ownFiles returns one file of each kind, as a pattern would meet it. The names
// are those that docs/SPOOL.md and docs/FORMAT.md give; each may be followed by
// ".tmp" for a moment.
func ownFiles(c *Config) (all []ownFile) {
	add := func(what, dir string, files ...string) {
		for _, file := range files {
			if dir != "" {
				all = append(all, ownFile{what, dir, dir + "/**", path.Join(dir, file)})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sinks)) {
		for _, s := range c.Streams {
			add("the path of sink "+name, c.Sinks[name].Path, s.Name+"/20060102T150405Z-000000.se1")
		}
	}
	const state = "agent.state_dir"
	add(state, c.Agent.StateDir, "identity.key", "identity.key.tmp", "signing.key", "signing.key.tmp", "lock")
	const hash = "0123456789abcdef0123456789abcdef"
	for _, s := range c.Streams {
		dir := "streams/" + s.Name + "/"
		add(state, c.Agent.StateDir, dir+"00000001.seg", dir+"00000002.new", dir+"00000001.damaged", dir+"0.spare", dir+"shipped",
			dir+"damaged/00000001-8192-12288", dir+"rejected/"+hash+".se1", dir+"rejected/"+hash+".why")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		if file := c.Keys[name].File; file != "" {
			all = append(all, ownFile{"the keyring of key " + name, file, file + "*", file})
		}
	}
	return all
}

// checkOwnFiles refuses a stream that would follow what the agent writes:
// each batch would make the next one.
func (d *decoder) checkOwnFiles(at string, s Stream, own []ownFile) {
	for i, p := range s.Include {
		if !filepath.IsAbs(p) || !doublestar.ValidatePattern(p) {
			continue
		}
		base, _ := doublestar.SplitPattern(p)
		for _, o := range own {
			if !inside(o.path, base) {
				continue // soon said, of many streams times many files
			}
			excluded := func(x string) bool { return match(x, o.path) }
			if match(p, o.path) && !slices.ContainsFunc(s.Exclude, excluded) {
				d.fault(index(join(at, "include"), i), "exclude "+o.exclude+", or move it",
					"would follow the agent's own files: %s, %s", o.what, o.where)
				break
			}
		}
	}
}

func match(pattern, name string) bool {
	ok, err := doublestar.Match(pattern, name)
	return err == nil && ok
}

// checkTogether looks at all streams: names, equal patterns, what is unused.
func (d *decoder) checkTogether(c *Config) {
	isSLS := func(s Sink) bool { return s.Type == "sls" }
	if n := len(c.Agent.Host); n > maxSource && slices.ContainsFunc(slices.Collect(maps.Values(c.Sinks)), isSLS) {
		d.fault("agent.host", "write a shorter one", "takes %d bytes, Log Service takes %d", n, maxSource)
	}
	names := make(map[string]int)
	patterns := make(map[string]int)
	keys, sinks := make(map[string]bool), make(map[string]bool)
	for i, s := range c.Streams {
		at := index("stream", i)
		keys[s.Key], sinks[s.Sink] = true, true
		if first, ok := names[s.Name]; ok && s.Name != "" {
			d.fault(join(at, "name"), "choose another name", "the stream of line %d has this name too", d.lines[index("stream", first)])
		} else {
			names[s.Name] = i
		}
		for j, p := range s.Include {
			if first, ok := patterns[p]; ok && first != i && p != "" {
				d.warn(index(join(at, "include"), j), "", "stream %s follows the same files: they are shipped twice", c.Streams[first].Name)
			} else {
				patterns[p] = i
			}
		}
	}
	if d.reader {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		if !keys[name] {
			d.warn(join("key", name), "", "no stream uses it")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sinks)) {
		if !sinks[name] {
			d.warn(join("sink", name), "", "no stream uses it")
		}
	}
}
