package k8s_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// image writes an archive, as of docker save, of an image with one program
// under several names.
func image(t *testing.T, archive, tag, program string, names ...string) {
	t.Helper()
	body, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, name := range names {
		add(t, w, name, 0o755, body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config := marshal(t, map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/" + names[0]}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer.Bytes()))}},
	})
	var all bytes.Buffer
	w = tar.NewWriter(&all)
	add(t, w, "layer.tar", 0o644, layer.Bytes())
	add(t, w, "config.json", 0o644, config)
	add(t, w, "manifest.json", 0o644, marshal(t, []any{map[string]any{
		"Config": "config.json", "RepoTags": []string{tag}, "Layers": []string{"layer.tar"},
	}}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, all.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, w *tar.Writer, name string, mode int64, body []byte) {
	t.Helper()
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
