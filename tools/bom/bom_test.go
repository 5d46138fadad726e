package bom_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"sealtail/tools/bom"
)

const crypto = "../../packaging/crypto.toml"

// TestCrypto holds what is said of cryptography against the imports.
func TestCrypto(t *testing.T) {
	assets, err := bom.Assets(crypto)
	if err != nil {
		t.Fatal(err)
	}
	if err := bom.Check(assets, "../..", "./cmd/agent", "./cmd/reader"); err != nil {
		t.Error(err)
	}
	if err := bom.Check(assets[1:], "../..", "./cmd/agent", "./cmd/reader"); err == nil || !strings.Contains(err.Error(), "sealtail/seal imports crypto/aes") {
		t.Errorf("without the first: got %v", err)
	}
	if err := bom.Check(append(assets, bom.Asset{Uses: map[string][]string{"sealtail/tail": {"crypto/des"}}}), "../..", "./cmd/agent", "./cmd/reader"); err == nil || !strings.Contains(err.Error(), "crypto/des") {
		t.Errorf("with one too many: got %v", err)
	}
	for _, a := range assets {
		if a.Name == "" || a.Purpose == "" || (a.Primitive == "") == (a.Protocol == "") || len(a.Uses) == 0 {
			t.Errorf("%q: it needs a name, a purpose, a primitive or protocol, and uses", a.Name)
		}
	}
	modules := []bom.Module{{Path: "std", Version: "1.26"}, {Path: "github.com/emmansun/gmsm", Version: "v0.44.0", License: "MIT"}}
	b, err := bom.Cryptography(bom.Subject{Name: "x", Version: "1", License: "MIT", Date: time.Unix(0, 0)}, assets, modules)
	if err != nil {
		t.Fatal(err)
	}
	var bill cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(b), cdx.BOMFileFormatJSON).Decode(&bill); err != nil {
		t.Fatal(err)
	}
	if len(*bill.Components) != len(assets) || !bytes.Contains(b, []byte("github.com/emmansun/gmsm/sm4@v0.44.0")) {
		t.Errorf("got %d components of %d, or no version", len(*bill.Components), len(assets))
	}
}
