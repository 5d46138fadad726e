// Package docs_test holds what the documents say against the code.
package docs_test

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// TestImports holds the import graph, without tests' imports, against
// IMPORTS.txt: a new arrow between our packages is a line in a diff.
func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	const module = "sealtail/"
	var graph strings.Builder
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		pkg = strings.TrimPrefix(pkg, module)
		if pkg == "docs" {
			continue
		}
		graph.WriteString(pkg + ":")
		for _, i := range strings.Fields(imports) {
			if ours, ok := strings.CutPrefix(i, module); ok {
				graph.WriteString(" " + ours)
			}
		}
		graph.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile("IMPORTS.txt", []byte(graph.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("IMPORTS.txt")
	if err != nil {
		t.Fatal(err)
	}
	if graph.String() != string(golden) {
		t.Errorf("the import graph is\n%s\nIMPORTS.txt says\n%s\nIf the new arrow is meant: go test ./docs -update, and say why in the commit", graph.String(), golden)
	}
}
