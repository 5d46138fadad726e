package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// packages makes a deb and an rpm of each program for each architecture.
func (r *release) packages() error {
	for _, config := range []string{"sealtail.yaml", "sealtail-reader.yaml"} {
		for _, arch := range r.arches {
			for _, format := range []string{"deb", "rpm"} {
				if err := r.pack(filepath.Join(r.root, "packaging", config), arch, format); err != nil {
					return fmt.Errorf("%s, %s for %s: %w", config, format, arch, err)
				}
			}
		}
	}
	return nil
}

func (r *release) pack(config, arch, format string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	text = []byte(os.Expand(string(text), func(name string) string {
		return map[string]string{"STAGE": r.stage, "ROOT": r.root, "ARCH": arch, "VERSION": r.version}[name]
	}))
	c, err := nfpm.Parse(bytes.NewReader(text))
	if err != nil {
		return err
	}
	info, err := c.Get(format)
	if err != nil {
		return err
	}
	info.MTime, info.Maintainer = r.date, r.maintainer
	for _, content := range info.Contents {
		content.FileInfo.MTime = r.date
		if format == "rpm" && isDocument(content.Destination) {
			content.Type = files.TypeRPMDoc
		}
	}
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	name := packager.ConventionalFileName(info)
	if err := packager.Package(info, &b); err != nil {
		return err
	}
	return r.put(name, b.Bytes())
}

// isDocument reports what rpm marks as such; others find it by its place.
func isDocument(name string) bool {
	return strings.HasPrefix(name, "/usr/share/doc/") || strings.HasPrefix(name, "/usr/share/man/")
}
