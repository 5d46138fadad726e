package conf_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// docs/CONFIG.md says what the comments and tags of config.go say.
func TestConfigDoc(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("testdata/example.toml")
	if err != nil {
		t.Fatal(err)
	}
	d := &doc{types: make(map[string]*ast.TypeSpec), comments: make(map[string]string), written: make(map[string]bool)}
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			if ts, ok := spec.(*ast.TypeSpec); ok {
				d.types[ts.Name.Name] = ts
				d.comments[ts.Name.Name] = g.Doc.Text()
			}
		}
	}
	d.b.WriteString("# Configuration\n\nGenerated from the comments of conf/config.go by `go generate ./conf`.\n\n")
	_, about, _ := strings.Cut(file.Doc.Text(), "The file is read strictly.")
	about, _, _ = strings.Cut(about, "The comments of the types below")
	about = strings.NewReplacer("[Fault]", "fault", "[Load] returns all of them together as\n[Faults]", "all of them are told together",
		"[Config.Warnings]", "`sealtail check`", " for the reader, [LoadReader],", " for the reader", "for the reader, [LoadReader],", "for the reader").Replace(about)
	d.b.WriteString("The file is TOML and is read strictly. " + strings.TrimSpace(about) +
		"\n\nAn example, with every value that has a default at its default but for\n`exclude`, `tags` and the paths:\n\n")
	for line := range strings.Lines(strings.ReplaceAll(string(example), "${DIR}", "/srv/sealed")) {
		if line != "\n" {
			line = "    " + line
		}
		d.b.WriteString(line)
	}
	d.table("Config", "")
	if len(d.types) != d.seen+1 {
		t.Errorf("got %d types in the text, want %d", d.seen+1, len(d.types))
	}
	const golden = "../docs/CONFIG.md"
	if *update {
		if err := os.WriteFile(golden, []byte(d.b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d.b.String() != string(want) {
		t.Errorf("docs/CONFIG.md is not what config.go says: go generate ./conf")
	}
}

type doc struct {
	b        strings.Builder
	types    map[string]*ast.TypeSpec
	comments map[string]string
	written  map[string]bool
	seen     int
}

// table writes the keys of a type, then the tables below it.
func (d *doc) table(name, title string) {
	type below struct{ name, title string }
	var inner []below
	if d.written[name] {
		return
	}
	d.written[name] = true
	if title != "" {
		d.seen++
		fmt.Fprintf(&d.b, "\n## %s\n\n%s\n| key | default | allowed | meaning |\n|---|---|---|---|\n", title, sentence(name, d.comments[name]))
	}
	for _, f := range d.types[name].Type.(*ast.StructType).Fields.List {
		if f.Tag == nil {
			continue
		}
		raw, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			panic(err)
		}
		tag := reflect.StructTag(raw)
		key := tag.Get("toml")
		if key == "-" {
			continue
		}
		switch typ := f.Type.(type) {
		case *ast.MapType:
			if e := typ.Value.(*ast.Ident).Name; d.types[e] != nil {
				inner = append(inner, below{e, "[" + key + ".NAME]"})
				continue
			}
		case *ast.ArrayType:
			if e := typ.Elt.(*ast.Ident).Name; d.types[e] != nil {
				inner = append(inner, below{e, "[[" + key + "]]"})
				continue
			}
		case *ast.Ident:
			if d.types[typ.Name] != nil {
				if title == "" {
					inner = append(inner, below{typ.Name, "[" + key + "]"})
					continue
				}
				inner = append(inner, below{typ.Name, "[" + strings.Trim(title, "[]") + "." + key + "]"})
			}
		}
		fmt.Fprintf(&d.b, "| `%s` | %s | %s | %s |\n", key, defaultOf(tag), allowed(tag), strings.ReplaceAll(strings.Join(strings.Fields(f.Doc.Text()), " "), "*", `\*`))
	}
	for _, b := range inner {
		d.table(b.name, b.title)
	}
}

// sentence turns "A Key says …" into "Says …".
func sentence(name, comment string) string {
	comment = strings.TrimPrefix(strings.TrimPrefix(comment, "An "), "A ")
	comment = strings.TrimPrefix(comment, name+" ")
	return strings.ToUpper(comment[:1]) + comment[1:]
}

func defaultOf(tag reflect.StructTag) string {
	switch {
	case tag.Get("required") == "agent":
		return "required by the agent"
	case tag.Get("required") != "":
		return "required"
	case tag.Get("default") != "":
		return "`" + tag.Get("default") + "`"
	}
	return ""
}

func allowed(tag reflect.StructTag) string {
	if only := tag.Get("for"); only != "" {
		key, word, _ := strings.Cut(only, "=")
		only = "with `" + key + " = \"" + word + "\"`"
		if rest := allowed(reflect.StructTag(strings.ReplaceAll(string(tag), "for:", "was:"))); rest != "" {
			only = rest + "; " + only
		}
		return only
	}
	if words := strings.Fields(tag.Get("oneof")); len(words) > 0 {
		return "`" + strings.Join(words, "`, `") + "`"
	}
	if tag.Get("min") != "" {
		return tag.Get("min") + " to " + tag.Get("max")
	}
	return ""
}
