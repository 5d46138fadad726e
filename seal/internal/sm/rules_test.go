package sm_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const tjfoc = "github.com/tjfoc/gmsm"

// allowed is all that may be named of tjfoc/gmsm; the package doc says why.
var allowed = map[string][]string{
	tjfoc + "/sm2": {"Encrypt", "C1C3C2", "PublicKey", "P256Sm2"},
	tjfoc + "/sm3": {"Sm3Sum"},
	tjfoc + "/sm4": {"NewCipher"},
}

// forbidden are methods, which have no package in front of them.
var forbidden = []string{"Decrypt", "DecryptAsn1", "EncryptAsn1", "Sign", "Verify", "Sm3Digest", "SetIV", "Sm4GCM"}

// TestRules holds every use of tjfoc/gmsm in the module to what is allowed.
func TestRules(t *testing.T) {
	root := moduleRoot(t)
	home := filepath.Join(root, "seal", "internal", "sm")
	files, imports := 0, 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "testdata" || name != root && strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		n, faults := check(name, src, filepath.Dir(name) == home)
		imports += n
		for _, f := range faults {
			t.Error(f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 || imports != len(allowed) {
		t.Errorf("got %d imports in %d files, want %d", imports, files, len(allowed))
	}
}

// The rules bite.
func TestRulesBite(t *testing.T) {
	const ok = "package sm\nimport \"github.com/tjfoc/gmsm/sm4\"\nvar _ = sm4.NewCipher\n"
	if n, faults := check("x.go", []byte(ok), true); n != 1 || len(faults) != 0 {
		t.Errorf("got %d imports and %v, want 1 and no fault", n, faults)
	}
	for name, f := range map[string]struct {
		src  string
		home bool
	}{
		"elsewhere":  {ok, false},
		"function":   {strings.ReplaceAll(ok, "NewCipher", "Sm4GCM"), true},
		"renamed":    {"package sm\nimport x \"github.com/tjfoc/gmsm/sm4\"\nvar _ = x.SetIV\n", true},
		"dot import": {"package sm\nimport . \"github.com/tjfoc/gmsm/sm4\"\nvar _ = NewCipher\n", true},
		"blank":      {"package sm\nimport _ \"github.com/tjfoc/gmsm/sm4\"\n", true},
		"package":    {"package sm\nimport \"github.com/tjfoc/gmsm/gmtls\"\nvar _ = gmtls.Dial\n", true},
		"method":     {"package sm\nimport \"github.com/tjfoc/gmsm/sm2\"\nfunc f(k *sm2.PublicKey) { k.Verify(nil, nil) }\n", true},
		"type":       {"package sm\nimport \"github.com/tjfoc/gmsm/sm2\"\nvar _ sm2.PrivateKey\n", true},
		"hash.Hash":  {"package sm\nimport \"github.com/tjfoc/gmsm/sm3\"\nvar _ = sm3.New\n", true},
	} {
		if _, faults := check("x.go", []byte(f.src), f.home); len(faults) == 0 {
			t.Errorf("%s: no fault", name)
		}
	}
}

// check returns how often a file imports tjfoc/gmsm, and what it does with it
// that it must not. A file that does not parse is for the compiler to refuse.
func check(name string, src []byte, home bool) (imports int, faults []string) {
	set := token.NewFileSet()
	file, _ := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if file == nil {
		return 0, nil
	}
	fault := func(n ast.Node, what string) {
		faults = append(faults, set.Position(n.Pos()).String()+": "+what)
	}
	names := map[string][]string{} // of a package in this file
	for _, imp := range file.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil || path != tjfoc && !strings.HasPrefix(path, tjfoc+"/") {
			continue
		}
		imports++
		local := path[strings.LastIndex(path, "/")+1:]
		if imp.Name != nil {
			local = imp.Name.Name
		}
		switch what := allowed[path]; {
		case !home:
			fault(imp, "imports "+path)
		case what == nil || local == "." || local == "_":
			fault(imp, "imports "+path+" as "+local)
		default:
			names[local] = what
		}
	}
	if imports == 0 {
		return 0, nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, _ := s.X.(*ast.Ident)
		if x != nil && names[x.Name] != nil {
			if !slices.Contains(names[x.Name], s.Sel.Name) {
				fault(s, "uses "+x.Name+"."+s.Sel.Name)
			}
		} else if slices.Contains(forbidden, s.Sel.Name) {
			fault(s, "calls "+s.Sel.Name)
		}
		return true
	})
	return imports, faults
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above")
		}
		dir = up
	}
}
