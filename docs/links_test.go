package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	links  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	titles = regexp.MustCompile(`(?m)^#+ +(.*)$`)
)

// TestLinks wants every relative link of the documents to lead somewhere, to
// a heading too where it names one.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	seen := 0
	for _, page := range append(pages, "../README.md", "../CHANGELOG.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			seen++
			name, anchor, _ := strings.Cut(link[1], "#")
			to := page
			if name != "" {
				to = filepath.Join(filepath.Dir(page), name)
			}
			there, err := os.ReadFile(to)
			if info, serr := os.Stat(to); serr == nil && info.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s: %s leads nowhere", page, link[1])
			} else if anchor != "" && !anchors(string(there))[anchor] {
				t.Errorf("%s: %s: no such heading", page, link[1])
			}
		}
	}
	if seen == 0 {
		t.Error("no link in any document")
	}
}

// anchors returns what a text's headings are linked by.
func anchors(text string) map[string]bool {
	all := make(map[string]bool)
	for _, title := range titles.FindAllStringSubmatch(text, -1) {
		a := strings.ToLower(regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(title[1], ""))
		all[strings.ReplaceAll(a, " ", "-")] = true
	}
	return all
}
