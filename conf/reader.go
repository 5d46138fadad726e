package conf

import (
	"maps"
	"slices"
	"strings"
)

// checkReader checks the [reader] section, and for the reader fills in its
// defaults and sees to it that what it needs is there.
func (d *decoder) checkReader(c *Config) {
	r := &c.Reader
	d.checkCredentials("reader.credentials", &r.Credentials)
	for i := range r.Keyrings {
		d.checkPath(index("reader.keyrings", i), &r.Keyrings[i])
	}
	for i, name := range r.Sinks {
		at := index("reader.sinks", i)
		d.reference(at, "sink", name, slices.Sorted(maps.Keys(c.Sinks)))
		switch {
		case name == "" || slices.Contains(r.Sinks[:i], name):
			d.fault(at, "remove it", "%q is no sink, or is there already", name)
		case c.Sinks[name].Type == "dir":
			d.fault(at, "remove it; sealtail-reader takes --dir "+c.Sinks[name].Path, "%q is of type dir: there is no Logstore to read", name)
		}
	}
	for i, id := range r.Allow {
		switch at := index("reader.allow", i); {
		case IsAlias(id):
			d.fault(at, "write the CMK's id or ARN", "%q is an alias, which may come to mean another CMK", id)
		case id == "":
			d.fault(at, "write the CMK's id or ARN, or remove it", "is empty")
		}
	}
	for i, from := range r.AcceptFrom {
		project, logstore, ok := strings.Cut(from, "/")
		if !ok || project == "" || logstore == "" || strings.Contains(logstore, "/") {
			d.fault(index("reader.accept_from", i), `write "PROJECT/LOGSTORE"`, "%q is no Logstore of a project", from)
		}
	}
	if d.reader {
		d.completeReader(c)
	}
}

// IsAlias reports whether a CMK is named by an alias, or the ARN of one.
func IsAlias(id string) bool {
	return strings.HasPrefix(id, "alias/") || strings.Contains(id, ":alias/")
}

func (d *decoder) completeReader(c *Config) {
	r := &c.Reader
	own := r.Credentials.Type != "" || d.lines["reader.credentials"] > 0
	all := r.Sinks == nil
	for _, name := range slices.Sorted(maps.Keys(c.Sinks)) {
		s, at := c.Sinks[name], join("sink", name)
		if all && s.Type == "sls" {
			r.Sinks = append(r.Sinks, name)
		}
		if slices.Contains(r.Sinks, name) && s.Type == "sls" && !own && d.lines[join(at, "credentials")] == 0 {
			d.fault(join(at, "credentials"), "add it, or reader.credentials", "missing")
		}
	}
	if len(r.Sinks) == 0 {
		d.fault("reader.sinks", `add a [sink.NAME] of type "sls"`, "nothing to read: there is no Logstore")
	}
	all = r.Allow == nil
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		k, at := c.Keys[name], join("key", name)
		if k.Provider != "alikms" {
			continue
		}
		if !own && d.lines[join(at, "credentials")] == 0 {
			d.fault(join(at, "credentials"), "add it, or reader.credentials", "missing")
		}
		switch {
		case !all || k.KeyID == "":
		case IsAlias(k.KeyID):
			d.fault(join(at, "key_id"), "name its CMK, by id or ARN, in reader.allow", "%q is an alias: what is sealed names the CMK itself", k.KeyID)
		default:
			r.Allow = append(r.Allow, k.KeyID)
		}
	}
}
