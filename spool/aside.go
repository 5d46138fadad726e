package spool

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"sealtail/internal/durable"
)

// What is set aside stays until somebody moves it away, so it is told until then.

// Aside is what a spool has set aside.
type Aside struct {
	Rejected int      // envelopes, by Park
	Damaged  int      // places of segments that did not verify
	Missing  []string // segments that were not there, such as "7" or "9 to 10"
}

const missingSuffix = ".missing" // a note in damagedDir

// Aside looks what is set aside, or should be: in directories that are not there,
// nothing.
func (s *Spool) Aside() (a Aside) {
	each := func(dir string, do func(name string)) {
		list, _ := s.fs.ReadDir(dir)
		for _, e := range list {
			do(e.Name())
		}
	}
	each(filepath.Join(s.dir, rejectedDir), func(name string) {
		if strings.HasSuffix(name, ".se1") {
			a.Rejected++
		}
	})
	each(s.dir, func(name string) {
		if strings.HasSuffix(name, damagedSuffix) {
			a.Damaged++
		}
	})
	each(filepath.Join(s.dir, damagedDir), func(name string) {
		if strings.HasSuffix(name, ".tmp") { // a crash left it
			return
		}
		var d Damage
		if _, err := fmt.Sscanf(name, "%d-%d"+missingSuffix, &d.First, &d.Segment); err == nil {
			a.Missing = append(a.Missing, d.segments())
			return
		}
		a.Damaged++
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segs {
		if seg.loose {
			a.Damaged++
		}
	}
	for _, d := range s.damages {
		if d.File == "" && d.To == 0 && !d.Known {
			a.Missing = append(a.Missing, d.segments())
		}
	}
	return a
}

// noteMissing leaves a file beside damaged bytes that names missing segments. It
// returns its name.
func (s *Spool) noteMissing(d Damage) (string, error) {
	dir := filepath.Join(s.dir, damagedDir)
	name := filepath.Join(dir, fmt.Sprintf("%08d-%08d", d.First, d.Segment)+missingSuffix)
	if err := durable.MkdirAll(s.fs, dir, 0o700); err != nil {
		return "", err
	}
	if err := durable.WriteFile(s.fs, name, fmt.Appendf(nil, "%s: %v\n", time.Now().UTC().Format(time.RFC3339), d), 0o600); err != nil {
		return "", err
	}
	return name, nil
}
