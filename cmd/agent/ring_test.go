package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"sealtail/seal"
	"sealtail/seal/keyring"
)

// A keyring makes data keys just as long as the keys of what waits are there,
// in whatever file: one that has lost one is refused, and why is told; one that
// says it is destroyed goes on, and that is told.
func TestRingOfWhatWaits(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	made := func(name string, kind keyring.Kind) (file, id string) {
		file = filepath.Join(dir, name)
		id, err := keyring.New(file, kind)
		must(err)
		return file, id
	}
	rotated, before := made("rotated", keyring.AES256GCM)
	_, err := keyring.Rotate(rotated, "")
	must(err)
	destroyed, gone := made("destroyed", keyring.AES256GCM)
	_, err = keyring.Rotate(destroyed, "")
	must(err)
	must(keyring.Destroy(destroyed, gone))
	private, public := made("private", keyring.HPKE)
	exported := filepath.Join(dir, "exported")
	must(keyring.ExportPublic(private, exported))
	other, own := made("other", keyring.HPKE)

	for _, tt := range []struct {
		name            string
		file            string
		ids, files      []string
		lost, destroyed []string
	}{
		{"nothing waits", other, nil, nil, nil, nil},
		{"its own key waits", other, []string{own}, nil, nil, nil},
		{"the key before waits", rotated, []string{before}, nil, nil, nil},
		{"the public half is here", exported, []string{public}, nil, nil, nil},
		{"a symmetric key is lost", other, []string{before}, []string{other}, []string{before}, nil},
		{"the public half is lost", other, []string{public}, []string{other}, []string{public}, nil},
		{"one of two is lost", rotated, []string{before, public}, []string{rotated}, []string{public}, nil},
		{"another keyring has it", other, []string{before}, []string{other, rotated}, nil, nil},
		{"another keyring that has it is gone", other, []string{before}, []string{other, filepath.Join(dir, "none")}, []string{before}, nil},
		{"it is destroyed", destroyed, []string{gone}, []string{destroyed}, nil, []string{gone}},
		{"it is destroyed elsewhere", other, []string{gone}, []string{other, destroyed}, nil, []string{gone}},
		{"one is destroyed, one lost", destroyed, []string{gone, own}, []string{destroyed}, []string{own}, []string{gone}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zap.ErrorLevel)
			r := openRing(tt.file, func() neededKeys { return neededKeys{tt.ids, tt.files} }, zap.New(core))
			var err error
			for range 2 {
				var d seal.DataKey
				d, err = r.Generate(t.Context(), checkContext)
				d.Plain.Wipe()
			}
			if len(tt.lost) == 0 && err != nil {
				t.Errorf("got %v", err)
			}
			if len(tt.lost) > 0 {
				e, ok := errors.AsType[*seal.KMSError](err)
				if !ok || e.Class != seal.Revoked || e.Code != "LostKey" || !strings.Contains(e.Error(), tt.file+" lost key "+strings.Join(tt.lost, ", ")) {
					t.Errorf("got %v, want LostKey of %q", err, tt.lost)
				}
			}
			if got := r.destroyedOf(append(tt.ids, "more")); !slices.Equal(got, tt.destroyed) {
				t.Errorf("destroyed: got %q, want %q", got, tt.destroyed)
			}
			if got, want := logs.Len(), min(1, len(tt.destroyed)); got != want {
				t.Errorf("got %d errors in the log, want %d", got, want)
			}
		})
	}
	if got := (*ring)(nil).destroyedOf([]string{"a"}); got != nil {
		t.Errorf("of a KMS: got %q", got)
	}
}
