package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// archives makes one for each architecture, for systems without packages.
func (r *release) archives() error {
	for _, arch := range r.arches {
		dir := fmt.Sprintf("sealtail-%s-linux-%s", r.version, arch)
		var b bytes.Buffer
		t := tar.NewWriter(&b)
		for _, f := range []struct {
			from, to string
			mode     int64
		}{
			{filepath.Join(r.stage, arch, "sealtail"), "sealtail", 0o755},
			{filepath.Join(r.stage, arch, "sealtail-reader"), "sealtail-reader", 0o755},
			{filepath.Join(r.root, "systemd/sealtail.service"), "sealtail.service", 0o644},
			{filepath.Join(r.root, "systemd/sealtail.sysusers"), "sealtail.sysusers", 0o644},
			{filepath.Join(r.stage, "sealtail.1.gz"), "sealtail.1.gz", 0o644},
			{filepath.Join(r.stage, "sealtail-reader.1.gz"), "sealtail-reader.1.gz", 0o644},
			{filepath.Join(r.stage, "sealtail.toml.5.gz"), "sealtail.toml.5.gz", 0o644},
			{filepath.Join(r.stage, "third-party-licenses.gz"), "third-party-licenses.gz", 0o644},
			{filepath.Join(r.root, "LICENSE"), "LICENSE", 0o644},
		} {
			data, err := os.ReadFile(f.from)
			if err != nil {
				return err
			}
			if err := t.WriteHeader(&tar.Header{Name: dir + "/" + f.to, Mode: f.mode, Size: int64(len(data)), ModTime: r.date}); err != nil {
				return err
			}
			if _, err := t.Write(data); err != nil {
				return err
			}
		}
		if err := t.Close(); err != nil {
			return err
		}
		if err := r.put(dir+".tar.gz", compress(b.Bytes())); err != nil {
			return err
		}
	}
	return nil
}
