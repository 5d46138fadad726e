package bom

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	cdx "github.com/CycloneDX/cyclonedx-go"
)

// An Asset is one use of cryptography.
type Asset struct {
	Name      string
	Primitive cdx.CryptoPrimitive
	Protocol  cdx.CryptoProtocolType // in the place of a primitive
	Parameter string
	Curve     string
	Mode      cdx.CryptoAlgorithmMode
	Functions []cdx.CryptoFunction
	Classical *int
	Level     *int `toml:"nist_level"`
	Purpose   string
	Uses      map[string][]string // package → libraries
}

// Assets reads them from a TOML file of tables [[asset]].
func Assets(file string) ([]Asset, error) {
	var v struct{ Asset []Asset }
	meta, err := toml.DecodeFile(file, &v)
	if err != nil {
		return nil, err
	}
	if extra := meta.Undecoded(); len(extra) > 0 {
		return nil, fmt.Errorf("%s: what is %s?", file, extra[0])
	}
	return v.Asset, nil
}

// Cryptography returns the bill of the assets, with the versions that the
// modules have.
func Cryptography(s Subject, assets []Asset, modules []Module) ([]byte, error) {
	b := s.bill()
	var components []cdx.Component
	for _, a := range assets {
		c := cdx.Component{
			BOMRef: "crypto/" + strings.ReplaceAll(a.Name, " ", "-"), Type: cdx.ComponentTypeCryptographicAsset, Name: a.Name, Description: a.Purpose,
		}
		if a.Protocol != "" {
			c.CryptoProperties = &cdx.CryptoProperties{AssetType: cdx.CryptoAssetTypeProtocol, ProtocolProperties: &cdx.CryptoProtocolProperties{Type: a.Protocol}}
		} else {
			c.CryptoProperties = &cdx.CryptoProperties{AssetType: cdx.CryptoAssetTypeAlgorithm, AlgorithmProperties: &cdx.CryptoAlgorithmProperties{
				Primitive: a.Primitive, ParameterSetIdentifier: a.Parameter, Curve: a.Curve, Mode: a.Mode,
				ExecutionEnvironment: cdx.CryptoExecutionEnvironmentSoftwarePlainRAM, CryptoFunctions: &a.Functions,
				ClassicalSecurityLevel: a.Classical, NistQuantumSecurityLevel: a.Level,
			}}
		}
		var properties []cdx.Property
		var occurrences []cdx.EvidenceOccurrence
		for _, pkg := range slices.Sorted(maps.Keys(a.Uses)) {
			occurrences = append(occurrences, cdx.EvidenceOccurrence{Location: pkg})
			for _, library := range a.Uses[pkg] {
				p := cdx.Property{Name: "library", Value: library + "@" + version(library, modules)}
				if !slices.Contains(properties, p) {
					properties = append(properties, p)
				}
			}
		}
		c.Properties, c.Evidence = &properties, &cdx.Evidence{Occurrences: &occurrences}
		components = append(components, c)
	}
	b.Components = &components
	return encode(b)
}

// version returns that of the module which holds a package.
func version(pkg string, modules []Module) string {
	for _, m := range modules {
		if pkg == m.Path || strings.HasPrefix(pkg, m.Path+"/") {
			return m.Version
		}
	}
	return "go" + modules[0].Version
}

// libraries are the trees of packages that are cryptography themselves.
var libraries = []string{"crypto", "golang.org/x/crypto", "github.com/emmansun/gmsm", "github.com/tjfoc/gmsm"}

func isLibrary(pkg string) bool {
	return slices.ContainsFunc(libraries, func(l string) bool { return pkg == l || strings.HasPrefix(pkg, l+"/") })
}

// Check holds the assets against the imports of all that is linked into the
// programs, which are packages of the module in dir.
func Check(assets []Asset, dir string, programs ...string) error {
	list := exec.Command("go", append([]string{"list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{range .Imports}} {{.}}{{end}}{{end}}`}, programs...)...)
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	imported := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) == 0 || isLibrary(words[0]) {
			continue
		}
		for _, i := range words[1:] {
			if isLibrary(i) {
				imported[words[0]+" imports "+i] = true
			}
		}
	}
	var all []error
	said := make(map[string]bool)
	for _, a := range assets {
		for pkg, uses := range a.Uses {
			for _, library := range uses {
				said[pkg+" imports "+library] = true
			}
		}
	}
	for _, pair := range slices.Sorted(maps.Keys(imported)) {
		if !said[pair] {
			all = append(all, fmt.Errorf("%s, which packaging/crypto.toml does not say", pair))
		}
	}
	for _, pair := range slices.Sorted(maps.Keys(said)) {
		if !imported[pair] {
			all = append(all, fmt.Errorf("packaging/crypto.toml says that %s", pair))
		}
	}
	return errors.Join(all...)
}
