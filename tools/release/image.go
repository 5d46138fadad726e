package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user runs the image's program unless somebody says otherwise.
const user = 65532

// image makes an archive of an OCI image for all architectures, from scratch:
// the agent, roots of certificates, time zones, and empty directories for
// configuration and state.
func (r *release) image() error {
	base, err := r.baseLayer()
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range r.arches {
		image, err := r.imageOf(arch, base)
		if err != nil {
			return fmt.Errorf("image for %s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	// An archive may hold many images: an outer index names ours.
	named := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add: index,
		Descriptor: v1.Descriptor{Annotations: map[string]string{
			"io.containerd.image.name":          "localhost/sealtail:" + r.tag(),
			"org.opencontainers.image.ref.name": r.tag(),
		}},
	})
	dir := filepath.Join(r.stage, "image")
	if _, err := layout.Write(dir, named); err != nil {
		return err
	}
	archive, err := r.archive(dir)
	if err != nil {
		return err
	}
	return r.put("sealtail-"+r.version+"-image.tar", archive)
}

// tag returns the version as a tag may be.
func (r *release) tag() string { return strings.NewReplacer("~", "-", "+", "-").Replace(r.version) }

func (r *release) imageOf(arch string, base v1.Layer) (v1.Image, error) {
	program, err := os.ReadFile(filepath.Join(r.stage, arch, "sealtail"))
	if err != nil {
		return nil, err
	}
	layer, err := r.layer([]entry{{name: "usr/bin/sealtail", mode: 0o755, data: program}})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), base, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", arch, v1.Time{Time: r.date}
	file.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", user, user),
		Entrypoint: []string{"/usr/bin/sealtail"},
		Cmd:        []string{"run", "-c", "/etc/sealtail/sealtail.toml"},
		StopSignal: "SIGTERM",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "sealtail",
			"org.opencontainers.image.version":  r.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.created":  r.date.Format(time.RFC3339),
		},
	}
	for i := range file.History {
		file.History[i] = v1.History{Created: v1.Time{Time: r.date}}
	}
	return mutate.ConfigFile(image, file)
}

// An entry is a file of a layer, or a directory where data is nil.
type entry struct {
	name  string
	mode  int64
	owner int
	data  []byte
}

func (r *release) baseLayer() (v1.Layer, error) {
	zones, err := timeZones()
	if err != nil {
		return nil, err
	}
	return r.layer(append([]entry{
		{name: "etc/passwd", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nsealtail:x:%d:%d:sealtail:/:/sbin/nologin\n", user, user)},
		{name: "etc/group", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:\nsealtail:x:%d:\n", user)},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: roots()},
		{name: "etc/sealtail", mode: 0o755},
		{name: "var/lib/sealtail", mode: 0o700, owner: user},
	}, zones...))
}

// roots returns Mozilla's certificates, of those that hold without a further
// condition.
func roots() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes everything
		}
	}
	return b.Bytes()
}

// timeZones returns those that come with Go.
func timeZones() ([]entry, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	z, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(out)), "lib/time/zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var all []entry
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		in, err := f.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(in)
		in.Close()
		if err != nil {
			return nil, err
		}
		all = append(all, entry{name: "usr/share/zoneinfo/" + f.Name, mode: 0o644, data: data})
	}
	return all, nil
}

// layer makes one of entries and the directories above them.
func (r *release) layer(entries []entry) (v1.Layer, error) {
	for i := 0; i < len(entries); i++ {
		above := path.Dir(entries[i].name)
		if above != "." && !slices.ContainsFunc(entries, func(e entry) bool { return e.name == above }) {
			entries = append(entries, entry{name: above, mode: 0o755})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.data)), ModTime: r.date, Typeflag: tar.TypeReg}
		if e.data == nil {
			h.Name, h.Typeflag = e.name+"/", tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

// archive returns a directory as a tar file.
func (r *release) archive(dir string) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return t.WriteHeader(&tar.Header{Name: name + "/", Mode: 0o755, ModTime: r.date, Typeflag: tar.TypeDir})
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: r.date}); err != nil {
			return err
		}
		_, err = t.Write(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b.Bytes(), t.Close()
}
