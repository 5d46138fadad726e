package conf

import "strings"

// expand replaces "${NAME}" and "$$".
func (d *decoder) expand(path, s string) (string, bool) {
	var b strings.Builder
	good := true
	for {
		before, after, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String(), good
		}
		if rest, ok := strings.CutPrefix(after, "$"); ok {
			b.WriteByte('$')
			s = rest
			continue
		}
		name, rest, ok := strings.Cut(strings.TrimPrefix(after, "{"), "}")
		if !strings.HasPrefix(after, "{") || !ok || !goodVariable(name) {
			d.fault(path, `write "$$" for a dollar sign, "${NAME}" for an environment variable`, "a lone %q", "$")
			return "", false
		}
		value, ok := d.env(name)
		if !ok {
			d.fault(path, "set it, or write the value here", "environment variable %s is not set", name)
			good = false
		}
		b.WriteString(value)
		s = rest
	}
}

func goodVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return name != ""
}
