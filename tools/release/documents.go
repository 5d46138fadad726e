package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"sealtail/tools/bom"
	"sealtail/tools/manual"
)

// documents writes what goes along with the programs into the stage, and the
// bills of materials to out, too.
func (r *release) documents() error {
	agent, err := r.program("sealtail")
	if err != nil {
		return err
	}
	reader, err := r.program("sealtail-reader", "open", "verify", "inspect", "logstores")
	if err != nil {
		return err
	}
	files := map[string]string{
		"sealtail.1": agent.Page(manual.Page{
			Summary: "follow log files, seal and ship them", Version: r.version, Date: r.date,
			Files: []manual.Item{
				{Term: "/etc/sealtail/sealtail.toml", Text: "The configuration that the service runs with."},
				{Term: "/var/lib/sealtail", Text: "Keys of this host, and what is sealed and not shipped yet."},
				{Term: "/usr/share/sealtail/systemd", Text: "Drop-ins for the service: to read more logs, and for encrypted credentials."},
				{Term: "/usr/share/doc/sealtail/examples", Text: "Configurations to begin with."},
			},
			SeeAlso: []string{"sealtail.toml(5)", "sealtail-reader(1)"},
		}),
		"sealtail-reader.1": reader.Page(manual.Page{
			Summary: "verify and open what sealtail shipped", Version: r.version, Date: r.date,
			SeeAlso: []string{"sealtail(1)", "sealtail.toml(5)"},
		}),
		"copyright": copyright,
	}
	for _, p := range []manual.Program{agent, reader} {
		files[p.Name+".changelog"] = fmt.Sprintf("%s (%s) stable; urgency=medium\n\n  * CHANGELOG.md of the source tells what is new.\n\n -- %s  %s\n",
			p.Name, r.version, r.maintainer, r.date.Format(time.RFC1123Z))
		files[p.Name+".bash"], files[p.Name+".zsh"], files[p.Name+".fish"] = p.Bash(), p.Zsh(), p.Fish()
	}
	config, err := os.ReadFile(filepath.Join(r.root, "docs/CONFIG.md"))
	if err != nil {
		return err
	}
	files["sealtail.toml.5"] = manual.Markdown("sealtail.toml", "configuration of sealtail", string(config), r.version, r.date)
	if err := r.bills(files); err != nil {
		return err
	}
	for name, text := range files {
		data := []byte(text)
		if strings.HasSuffix(name, ".1") || strings.HasSuffix(name, ".5") || strings.HasSuffix(name, ".changelog") || name == "third-party-licenses" {
			name, data = name+".gz", compress(data)
		}
		if err := os.WriteFile(filepath.Join(r.stage, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// program asks one for its help.
func (r *release) program(name string, topics ...string) (manual.Program, error) {
	file := filepath.Join(r.stage, runtime.GOARCH, name)
	text, err := exec.Command(file, "help").Output()
	if err != nil {
		return manual.Program{}, fmt.Errorf("%s help: %w", name, err)
	}
	return manual.Parse(string(text), topics, func(topic string) string {
		out, err := exec.Command(file, "help", topic).Output()
		if err != nil || bytes.Equal(out, text) {
			return ""
		}
		return string(out)
	}), nil
}

// bills adds bills of materials and licences to files.
func (r *release) bills(files map[string]string) error {
	assets, err := bom.Assets(filepath.Join(r.root, "packaging/crypto.toml"))
	if err != nil {
		return err
	}
	subject := bom.Subject{Name: "sealtail", Version: r.version, License: "Apache-2.0", Date: r.date}
	var both []string
	for _, name := range []string{"sealtail", "sealtail-reader"} {
		file := filepath.Join(r.stage, runtime.GOARCH, name)
		both = append(both, file)
		modules, err := bom.Modules(r.root, file)
		if err != nil {
			return err
		}
		s := subject
		s.Name = name
		bill, err := bom.Software(s, modules)
		if err != nil {
			return err
		}
		files[name+".sbom.json"] = string(bill)
		if err := r.put(name+".sbom.json", bill); err != nil {
			return err
		}
	}
	modules, err := bom.Modules(r.root, both...)
	if err != nil {
		return err
	}
	files["third-party-licenses"] = bom.Licenses(modules)
	bill, err := bom.Cryptography(subject, assets, modules)
	if err != nil {
		return err
	}
	files["sealtail.cbom.json"] = string(bill)
	return r.put("sealtail.cbom.json", bill)
}

// compress is gzip without name and time.
func compress(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a valid one
	z.Write(data)                                         // a Buffer takes everything
	z.Close()
	return b.Bytes()
}

const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: sealtail

Files: *
Copyright: 2026 The sealtail authors
License: Apache-2.0
 On Debian systems, the full text of the Apache License, Version 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
Comment: third-party-licenses.gz has the terms of what is linked in.
`
