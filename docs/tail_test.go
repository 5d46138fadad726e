package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	caseRow  = regexp.MustCompile(`(?m)^\| (H\d\d) \|.*\|$`)
	caseTest = regexp.MustCompile("`(\\w[\\w/]*) (Test\\w+)`")
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// TestTailCases wants each case of TAIL.md once, in order, with tests that
// exist and are named after it.
func TestTailCases(t *testing.T) {
	page, err := os.ReadFile("TAIL.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]bool)
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		pkg, _ := filepath.Rel("..", filepath.Dir(path))
		for _, f := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests[pkg+" "+f[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, row := range caseRow.FindAllStringSubmatch(string(page), -1) {
		id := row[1]
		if id <= last {
			t.Errorf("%s comes after %s", id, last)
		}
		last = id
		named := caseTest.FindAllStringSubmatch(row[0], -1)
		if len(named) == 0 {
			t.Errorf("%s: no test", id)
		}
		for _, n := range named {
			if !tests[n[1]+" "+n[2]] {
				t.Errorf("%s: %s has no %s", id, n[1], n[2])
			}
			if !strings.HasPrefix(n[2], "Test"+id+"_") {
				t.Errorf("%s: %s is not named after it", id, n[2])
			}
		}
	}
	if last == "" {
		t.Error("no case in TAIL.md")
	}
}
