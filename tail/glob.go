package tail

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// A pattern is an include glob: the directory above its first component with
// a wildcard, and the components from there on.
type pattern struct {
	base string
	rest []string
}

// compile divides a glob into patterns without braces.
func compile(glob string) ([]pattern, error) {
	if !path.IsAbs(glob) {
		return nil, fmt.Errorf("include %q: not an absolute path", glob)
	}
	if !doublestar.ValidatePattern(glob) {
		return nil, fmt.Errorf("include %q: %w", glob, doublestar.ErrBadPattern)
	}
	var ps []pattern
	for _, g := range expand(glob) {
		comps := strings.Split(strings.Trim(path.Clean(g), "/"), "/")
		n := 0
		for n < len(comps)-1 && !isGlob(comps[n]) {
			n++
		}
		ps = append(ps, pattern{base: "/" + path.Join(comps[:n]...), rest: comps[n:]})
	}
	return ps, nil
}

// checkExclude reports what is wrong with an exclude glob. It is matched with
// the whole path, so a bare name would never match.
func checkExclude(glob string) error {
	if !doublestar.ValidatePattern(glob) {
		return fmt.Errorf("exclude %q: %w", glob, doublestar.ErrBadPattern)
	}
	if !path.IsAbs(glob) && !strings.HasPrefix(glob, "**") {
		return fmt.Errorf("exclude %q: %w", glob, errors.New("begins neither with / nor with **"))
	}
	return nil
}

func isGlob(s string) bool { return strings.ContainsAny(s, `*?[{\`) }

// expand replaces the braces of a glob by its alternatives, since they may
// hold slashes.
func expand(glob string) []string {
	depth, open := 0, 0
	var commas []int
	for i := 0; i < len(glob); i++ {
		switch glob[i] {
		case '\\':
			i++
		case '[':
			for i++; i < len(glob) && glob[i] != ']'; i++ {
				if glob[i] == '\\' {
					i++
				}
			}
		case '{':
			if depth++; depth == 1 {
				open = i
			}
		case ',':
			if depth == 1 {
				commas = append(commas, i)
			}
		case '}':
			if depth--; depth > 0 {
				continue
			}
			var all []string
			from := open + 1
			for _, to := range append(commas, i) {
				all = append(all, expand(glob[:open]+glob[from:to]+glob[i+1:])...)
				from = to + 1
			}
			return all
		}
	}
	return []string{glob}
}

// A state is what is left of a pattern at some directory.
type state []string

// states adds to each what it is when its ** stands for no directory.
func states(ss []state) []state {
	var all []state
	for _, s := range ss {
		for {
			if !slices.ContainsFunc(all, func(o state) bool { return slices.Equal(o, s) }) {
				all = append(all, s)
			}
			if s[0] != "**" || len(s) == 1 {
				break
			}
			s = s[1:]
		}
	}
	return all
}

// step returns the states inside the directory of that name.
func step(ss []state, name string) []state {
	var in []state
	for _, s := range ss {
		switch {
		case s[0] == "**":
			in = append(in, s)
		case len(s) > 1 && doublestar.MatchUnvalidated(s[0], name):
			in = append(in, s[1:])
		}
	}
	return states(in)
}

// matches reports whether a file of that name is meant.
func matches(ss []state, name string) bool {
	for _, s := range ss {
		if len(s) == 1 && doublestar.MatchUnvalidated(s[0], name) {
			return true
		}
	}
	return false
}

// matches reports whether the stream takes files at that path.
func (t *Tailer) matches(p string) bool {
	return !t.excluded(p) && slices.ContainsFunc(t.o.Include, func(g string) bool {
		return doublestar.MatchUnvalidated(g, p)
	})
}

func (t *Tailer) excluded(p string) bool {
	return slices.ContainsFunc(t.o.Exclude, func(g string) bool { return doublestar.MatchUnvalidated(g, p) })
}

// pruned reports whether all below a directory is excluded.
func (t *Tailer) pruned(dir string) bool {
	return slices.ContainsFunc(t.o.Exclude, func(g string) bool { return prunes(g, dir) })
}

func prunes(exclude, dir string) bool {
	return strings.HasSuffix(exclude, "/**") && doublestar.MatchUnvalidated(exclude, dir)
}
