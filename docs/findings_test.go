package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sealtail/reader"
)

// TestFindings holds the names and exit codes of findings in FORMAT.md and in
// the reader's help against the reader.
func TestFindings(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../reader/finding.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := make(map[string]int)
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Kind" {
				name, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				codes[name] = reader.Kind(name).ExitCode()
			}
		}
		return true
	})
	if len(codes) < 20 {
		t.Fatalf("got %d findings of the reader", len(codes))
	}

	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(format), "\n## What the reader and the verifier report")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| (\d)[^|]*\|(.*)\|$`)
	names := regexp.MustCompile("`([a-z-]+)`")
	inFormat := make(map[string]int)
	for _, row := range rows.FindAllStringSubmatch(section, -1) {
		text := regexp.MustCompile(`\([^()]*\)`).ReplaceAllString(row[2], "")
		for _, name := range names.FindAllStringSubmatch(text, -1) {
			inFormat[name[1]], _ = strconv.Atoi(row[1])
		}
	}
	if got, want := fmt.Sprint(inFormat), fmt.Sprint(codes); got != want {
		t.Errorf("FORMAT.md has\n%s\nthe reader\n%s", got, want)
	}

	inHelp := make(map[string]int)
	for _, verb := range []string{"open", "verify"} {
		out, err := exec.Command("go", "run", "../cmd/reader", "help", verb).Output()
		if err != nil {
			t.Fatalf("sealtail-reader help %s: %v", verb, err)
		}
		_, table, _ := strings.Cut(string(out), "\n  exit  findings")
		code := 0
		for _, line := range strings.Split(table, "\n")[1:] {
			if len(line) < 8 || !strings.HasPrefix(line, "  ") {
				break
			}
			if n, err := strconv.Atoi(strings.TrimSpace(line[2:8])); err == nil {
				code = n
			}
			list, _, _ := strings.Cut(line[8:], ":")
			for _, name := range strings.Split(list, ",") {
				name, _, _ = strings.Cut(strings.TrimSpace(name), " ")
				if name != "" {
					inHelp[name] = code
				}
			}
		}
	}
	if got, want := fmt.Sprint(inHelp), fmt.Sprint(codes); got != want {
		t.Errorf("the help has\n%s\nthe reader\n%s", got, want)
	}
}
