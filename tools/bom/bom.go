// Package bom tells what programs are made of: the modules that are linked, as
// a bill of materials of CycloneDX, their licences, and every use of
// cryptography, as another bill.
package bom

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// A Module is a dependency that is linked into a program.
type Module struct {
	Path, Version, Sum string
	License            string // SPDX
	Texts              []Text
}

// A Text is a file of a module that says under which terms it may be used.
type Text struct{ Name, Content string }

// Modules returns what is linked into the programs in these files, which were
// built from the module in dir, sorted by path. Go itself is the first.
func Modules(dir string, programs ...string) ([]Module, error) {
	var all []Module
	for _, name := range programs {
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = append(all, Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")})
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				return nil, fmt.Errorf("%s: module %s is replaced", name, m.Path)
			}
			if !slices.ContainsFunc(all, func(o Module) bool { return o.Path == m.Path }) {
				all = append(all, Module{Path: m.Path, Version: m.Version, Sum: m.Sum})
			}
		}
	}
	slices.SortFunc(all[1:], func(a, b Module) int { return strings.Compare(a.Path, b.Path) })
	for i := range all {
		m := &all[i]
		list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", m.Path)
		if m.Path == "std" {
			list = exec.Command("go", "env", "GOROOT")
		}
		list.Dir, list.Stderr = dir, os.Stderr
		out, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("find module %s: %w", m.Path, err)
		}
		if err := m.readLicense(strings.TrimSpace(string(out))); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (m *Module) readLicense(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !(strings.HasPrefix(name, "LICENSE") || strings.HasPrefix(name, "COPYING") || strings.HasPrefix(name, "NOTICE") || name == "PATENTS") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.Texts = append(m.Texts, Text{e.Name(), string(b)})
		if m.License == "" {
			m.License = identify(string(b))
		}
	}
	if m.License == "" {
		return fmt.Errorf("module %s: no licence that is known", m.Path)
	}
	return nil
}

// identify returns the SPDX identifier of a licence's text, or "".
func identify(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case has("Apache License") && has("Version 2.0"):
		return "Apache-2.0"
	case has("Redistribution and use in source and binary forms") && has("Neither the name"):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("Permission is hereby granted, free of charge"):
		return "MIT"
	}
	return ""
}

// Licenses returns the terms of all modules as one text.
func Licenses(modules []Module) string {
	var b strings.Builder
	b.WriteString("What is linked into these programs, and under which terms.\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "\n%s\n%s %s (%s)\n", strings.Repeat("=", 78), m.Path, m.Version, m.License)
		for _, t := range m.Texts {
			fmt.Fprintf(&b, "%s\n%s\n\n%s\n", strings.Repeat("-", 78), t.Name, strings.TrimSpace(t.Content))
		}
	}
	return b.String()
}

// A Subject is the program that a bill is about.
type Subject struct {
	Name, Version, License string
	Date                   time.Time
}

func (s Subject) bill() *cdx.BOM {
	b := cdx.NewBOM()
	b.Metadata = &cdx.Metadata{
		Timestamp: s.Date.UTC().Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: s.Name, Type: cdx.ComponentTypeApplication, Name: s.Name, Version: s.Version,
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: s.License}}},
		},
	}
	return b
}

// Software returns the bill of what is linked into a program.
func Software(s Subject, modules []Module) ([]byte, error) {
	b := s.bill()
	var components []cdx.Component
	var refs []string
	for _, m := range modules {
		c := cdx.Component{
			Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
			PackageURL: "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B"),
			Licenses:   &cdx.Licenses{{License: &cdx.License{ID: m.License}}},
		}
		c.BOMRef = c.PackageURL
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) == 32 {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
		}
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	b.Components, b.Dependencies = &components, &[]cdx.Dependency{{Ref: s.Name, Dependencies: &refs}}
	return encode(b)
}

func encode(b *cdx.BOM) ([]byte, error) {
	var out bytes.Buffer
	err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(b, cdx.SpecVersion1_6)
	return out.Bytes(), err
}
