package tail

import (
	"errors"
	"fmt"
	"regexp"

	"sealtail/record"
)

// A filter drops records by what they say. The nil filter drops none.
type filter struct{ keep, drop []*regexp.Regexp }

func newFilter(keep, drop []string) (*filter, error) {
	if len(keep)+len(drop) == 0 {
		return nil, nil
	}
	f := new(filter)
	var errs []error
	compile := func(name string, patterns []string) (all []*regexp.Regexp) {
		for _, p := range patterns {
			re, err := regexp.Compile(p)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			all = append(all, re)
		}
		return all
	}
	f.keep, f.drop = compile("keep", keep), compile("drop", drop)
	return f, errors.Join(errs...)
}

// drops reports whether a whole record is dropped: it matches no keep pattern
// though there are some, or a drop pattern.
func (f *filter) drops(content []byte) bool {
	return f != nil && (len(f.keep) > 0 && !matchesAny(f.keep, content) || matchesAny(f.drop, content))
}

func matchesAny(all []*regexp.Regexp, b []byte) bool {
	for _, re := range all {
		if re.Match(b) {
			return true
		}
	}
	return false
}

// apply takes those of recs off that are dropped; the last of recs ends at end.
func (f *filter) apply(recs []record.Record, end int64) (kept []record.Record, n dropped) {
	if f == nil {
		return recs, n
	}
	kept = recs[:0]
	for i, r := range recs {
		next := end
		if i+1 < len(recs) {
			next = recs[i+1].Offset
		}
		if r.Part == nil && f.drops(r.Content) {
			n.records++
			n.bytes += next - r.Offset
			continue
		}
		kept = append(kept, r)
	}
	return kept, n
}
