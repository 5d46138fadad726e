package keyring_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/internal/durable"
	"sealtail/seal"
	"sealtail/seal/keyring"
)

var (
	kinds = []keyring.Kind{keyring.AES256GCM, keyring.SM4GCM, keyring.HPKE}
	where = []byte("\x00\x01\x00\x03fmt\x00\x03SE1")
)

// made returns the path of a new keyring and its key's id.
func made(t testing.TB, kind keyring.Kind) (path, id string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keyring.json")
	id, err := keyring.New(path, kind)
	if err != nil {
		t.Fatal(err)
	}
	return path, id
}

// wantClass checks an error of Generate.
func wantClass(t *testing.T, err error, class seal.Class, code, text string) {
	t.Helper()
	e, ok := errors.AsType[*seal.KMSError](err)
	if !ok || e.Class != class || e.Code != code || !strings.Contains(e.Error(), text) {
		t.Errorf("got %v, want class %v, code %s, and %q", err, class, code, text)
	}
}

func TestVectors(t *testing.T) {
	var v struct {
		DEK        string
		Recipients []struct {
			Name, Context, Wrapped string
			Type                   uint8
			KeyID                  string `json:"key_id"`
			Opens                  bool
		}
	}
	b, err := os.ReadFile("testdata/recipients.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	b, err = os.ReadFile("testdata/keyring.json")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keyring.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r := keyring.Open(path)
	if err := r.SelfTest(); err != nil {
		t.Fatal(err)
	}
	opened := map[uint8]int{}
	for _, tt := range v.Recipients {
		wrapped, _ := hex.DecodeString(tt.Wrapped)
		context, _ := hex.DecodeString(tt.Context)
		dek, err := r.Unwrap(t.Context(), seal.Recipient{Type: tt.Type, KeyID: []byte(tt.KeyID), Wrapped: wrapped}, context)
		if (err == nil) != tt.Opens || tt.Opens && hex.EncodeToString(dek.Bytes()) != v.DEK {
			t.Errorf("%s: got %x, %v, want opens %v", tt.Name, dek.Bytes(), err, tt.Opens)
		}
		if tt.Opens {
			opened[tt.Type]++
		}
	}
	if opened[5] == 0 || opened[6] == 0 {
		t.Errorf("vectors that open: got %v, want some of type 5 and 6", opened)
	}
}

func TestWrapUnwrap(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			path, id := made(t, kind)
			r := keyring.Open(path)
			a, err := r.Generate(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			b, err := r.Generate(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Plain.Bytes()) != 32 || bytes.Equal(a.Plain.Bytes(), b.Plain.Bytes()) || len(a.Recipients) != 1 || string(a.Recipients[0].KeyID) != id {
				t.Fatalf("got %d bytes for %d recipients", len(a.Plain.Bytes()), len(a.Recipients))
			}
			w := a.Recipients[0]
			dek, err := r.Unwrap(t.Context(), w, where)
			if err != nil || !bytes.Equal(dek.Bytes(), a.Plain.Bytes()) {
				t.Fatalf("unwrap: got %v, want the data key", err)
			}
			if _, err := r.Unwrap(t.Context(), w, append(where[:len(where):len(where)], 0)); err == nil {
				t.Error("unwrapped under another context")
			}
			for i := range w.Wrapped {
				bad := w
				bad.Wrapped = bytes.Clone(w.Wrapped)
				bad.Wrapped[i] ^= 1
				if _, err := r.Unwrap(t.Context(), bad, where); err == nil {
					t.Fatalf("unwrapped with byte %d changed", i)
				}
			}
			for _, n := range []int{0, 1, len(w.Wrapped) / 2, len(w.Wrapped) - 1} {
				bad := w
				bad.Wrapped = w.Wrapped[:n]
				if _, err := r.Unwrap(t.Context(), bad, where); err == nil {
					t.Errorf("unwrapped %d of %d bytes", n, len(w.Wrapped))
				}
			}
			for name, other := range map[string]seal.Recipient{
				"of a service":    {Type: 1, KeyID: w.KeyID, Wrapped: w.Wrapped},
				"of another id":   {Type: w.Type, KeyID: []byte("x"), Wrapped: w.Wrapped},
				"of another type": {Type: 11 - w.Type, KeyID: w.KeyID, Wrapped: w.Wrapped},
			} {
				if _, err := r.Unwrap(t.Context(), other, where); !errors.Is(err, seal.ErrNotMine) {
					t.Errorf("%s: got %v, want ErrNotMine", name, err)
				}
			}
		})
	}
}

func TestStates(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			path, first := made(t, kind)
			r := keyring.Open(path)
			d, err := r.Generate(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			unwraps := func(want bool, why string) {
				t.Helper()
				_, err := r.Unwrap(t.Context(), d.Recipients[0], where)
				if (err == nil) != want || err != nil && !strings.Contains(err.Error(), why) {
					t.Errorf("unwrap: got %v, want %v %s", err, want, why)
				}
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			unwraps(true, "")

			must(keyring.Disable(path, first))
			_, err = r.Generate(t.Context(), where)
			wantClass(t, err, seal.Revoked, "Disabled", "enable it")
			unwraps(false, "is disabled")

			must(keyring.Enable(path, first))
			if _, err := r.Generate(t.Context(), where); err != nil {
				t.Errorf("enabled again: %v", err)
			}

			if err := keyring.Destroy(path, first); err == nil || !strings.Contains(err.Error(), "rotate first") {
				t.Errorf("destroy the primary: got %v, want a refusal", err)
			}
			second, err := keyring.Rotate(path, "")
			must(err)
			e, err := r.Generate(t.Context(), where)
			if err != nil || string(e.Recipients[0].KeyID) != second {
				t.Errorf("after rotation: got key %s, %v, want %s", e.Recipients[0].KeyID, err, second)
			}
			unwraps(true, "")
			list, err := r.List()
			must(err)
			if len(list) != 2 || list[0].State != keyring.DecryptOnly || list[0].Primary || list[1].State != keyring.Enabled || !list[1].Primary ||
				list[1].ID != second || list[1].Kind != kind || !list[1].Opens || time.Since(list[1].Created) > time.Hour {
				t.Errorf("list: got %+v", list)
			}
			must(r.SelfTest())

			must(keyring.Destroy(path, first))
			must(keyring.Destroy(path, first))
			unwraps(false, "is destroyed")
			if err := keyring.Enable(path, first); err == nil {
				t.Error("a destroyed key came back")
			}
			must(r.SelfTest())
			if err := keyring.Disable(path, "nobody"); err == nil || !strings.Contains(err.Error(), "not in it") {
				t.Errorf("disable an unknown key: got %v", err)
			}
			info, err := os.Stat(path)
			must(err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("mode: got %v, want 0600", info.Mode())
			}
		})
	}
}

// Who is shown the keys decides whether one of them wraps.
func TestGenerateIf(t *testing.T) {
	path, first := made(t, keyring.HPKE)
	second, err := keyring.Rotate(path, "")
	if err != nil {
		t.Fatal(err)
	}
	r := keyring.Open(path)
	no := errors.New("no")
	d, err := r.GenerateIf(t.Context(), where, func(keys []keyring.Key) error {
		if len(keys) != 2 || keys[0].ID != first || keys[0].State != keyring.DecryptOnly || keys[1].ID != second || !keys[1].Primary {
			t.Errorf("got %+v", keys)
		}
		return no
	})
	if err != no || d.Plain.Bytes() != nil || d.Recipients != nil {
		t.Errorf("got %v, %d recipients, want what was returned", err, len(d.Recipients))
	}
	d, err = r.GenerateIf(t.Context(), where, func([]keyring.Key) error { return nil })
	if err != nil || string(d.Recipients[0].KeyID) != second {
		t.Errorf("got %v", err)
	}
	d.Plain.Wipe()
}

func TestNewNeverOverwrites(t *testing.T) {
	path, _ := made(t, keyring.AES256GCM)
	before, _ := os.ReadFile(path)
	if _, err := keyring.New(path, keyring.HPKE); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	hpke, _ := made(t, keyring.HPKE)
	if err := keyring.ExportPublic(hpke, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file changed")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.New(link, keyring.HPKE); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a link to nowhere: got %v, want fs.ErrExist", err)
	}
	if _, err := keyring.New(filepath.Join(t.TempDir(), "k"), "rot13"); err == nil {
		t.Error("made a key of kind rot13")
	}
}

// The agent reads as it did, whoever changed the file.
func TestChangesKeepOwnerAndMode(t *testing.T) {
	path, first := made(t, keyring.AES256GCM)
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 12345
	}
	if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		for verb, change := range map[string]func() error{
			"rotate":  func() error { _, err := keyring.Rotate(name, ""); return err },
			"disable": func() error { return keyring.Disable(name, first) },
			"enable":  func() error { return keyring.Enable(name, first) },
		} {
			before, _ := os.ReadFile(path)
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if after, _ := os.ReadFile(path); verb == "rotate" && bytes.Equal(before, after) {
				t.Errorf("%s %s: nothing changed", verb, name)
			}
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			if info.Mode() != 0o640 || int(st.Uid) != os.Geteuid() || int(st.Gid) != gid {
				t.Errorf("%s %s: got %v %d:%d, want 0640 %d:%d", verb, name, info.Mode(), st.Uid, st.Gid, os.Geteuid(), gid)
			}
		}
	}
	if err := keyring.Destroy(link, first); err != nil {
		t.Fatal(err)
	}
	if list, err := keyring.Open(path).List(); err != nil || list[0].State != keyring.Destroyed {
		t.Errorf("destroyed through a link: got %+v, %v", list, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link: got %v, %v", info, err)
	}
}

func TestLocked(t *testing.T) {
	path, id := made(t, keyring.AES256GCM)
	lock, err := durable.Lock(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.Disable(path, id); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if _, err := keyring.Open(path).Generate(t.Context(), where); err != nil {
		t.Errorf("a change under way stops sealing: %v", err)
	}
	lock.Close()
	if err := keyring.Disable(path, id); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Dir(path) + "/*"); err != nil || len(left) != 1 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestExportPublic(t *testing.T) {
	path, symmetric := made(t, keyring.SM4GCM)
	to := filepath.Join(t.TempDir(), "public.json")
	if err := keyring.ExportPublic(path, to); err == nil || !strings.Contains(err.Error(), "rotate to hpke") {
		t.Errorf("a symmetric primary: got %v, want a refusal", err)
	}
	id, err := keyring.Rotate(path, keyring.HPKE)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.ExportPublic(path, to); err != nil {
		t.Fatal(err)
	}
	host, reader := keyring.Open(to), keyring.Open(path)
	for r, want := range map[*keyring.Keyring]bool{host: false, reader: true} {
		if got, err := r.Opens(); got != want || err != nil {
			t.Errorf("opens: got %v, %v, want %v", got, err, want)
		}
		if err := r.SelfTest(); err != nil {
			t.Error(err)
		}
	}
	b, _ := os.ReadFile(to)
	for _, secret := range []string{"private", `"key"`, symmetric} {
		if strings.Contains(string(b), secret) {
			t.Errorf("the export holds %s", secret)
		}
	}
	d, err := host.Generate(t.Context(), where)
	if err != nil || string(d.Recipients[0].KeyID) != id {
		t.Fatalf("got %s, %v", d.Recipients[0].KeyID, err)
	}
	if _, err := host.Unwrap(t.Context(), d.Recipients[0], where); err == nil || !strings.Contains(err.Error(), "private half is not in this keyring") {
		t.Errorf("unwrap on the host: got %v, want a refusal", err)
	}
	if dek, err := reader.Unwrap(t.Context(), d.Recipients[0], where); err != nil || !bytes.Equal(dek.Bytes(), d.Plain.Bytes()) {
		t.Errorf("unwrap by the reader: %v", err)
	}
	for _, kind := range []keyring.Kind{"", keyring.AES256GCM} {
		if _, err := keyring.Rotate(to, kind); err == nil || !strings.Contains(err.Error(), "public halves only") {
			t.Errorf("rotate on the host: got %v, want a refusal", err)
		}
	}
}

func TestUnusableFiles(t *testing.T) {
	path, _ := made(t, keyring.AES256GCM)
	r := keyring.Open(path)
	for _, tt := range []struct {
		name       string
		do         func() error
		class      seal.Class
		code, text string
	}{
		{"open to others", func() error { return os.Chmod(path, 0o644) }, seal.Misfit, "NotPrivate", "mode 0644"},
		{"malformed", func() error { return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("{"), 0o600)) }, seal.Misfit, "Malformed", path},
		{"missing", func() error { return os.Remove(path) }, seal.Revoked, "NoFile", path},
		{"a directory", func() error { return os.Mkdir(path, 0o700) }, seal.Misfit, "NotPrivate", "not a regular file"},
	} {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		_, err := r.Generate(t.Context(), where)
		wantClass(t, err, tt.class, tt.code, tt.text)
		_, err = r.Unwrap(t.Context(), seal.Recipient{Type: 5}, where)
		wantClass(t, err, tt.class, tt.code, tt.text)
		wantClass(t, r.SelfTest(), tt.class, tt.code, tt.text)
		if _, err = r.List(); err == nil {
			t.Errorf("%s: listed", tt.name)
		}
		if _, err = r.Opens(); err == nil {
			t.Errorf("%s: opens", tt.name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Generate(ctx, where)
	wantClass(t, err, seal.Outage, "", "canceled")
}

// What is wrong with a file is told with the key and what to do.
func TestParseErrors(t *testing.T) {
	good, err := os.ReadFile("testdata/keyring.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"no object", string(good), "[]", "is no JSON object"},
		{"empty", string(good), "", "is no JSON object"},
		{"version", `"keyring": 1`, `"keyring": 2`, `"keyring" is 2`},
		{"no version", `"keyring": 1,`, ``, `"keyring" is 0`},
		{"version of another type", `"keyring": 1`, `"keyring": "1"`, `field "keyring"`},
		{"unknown field", `"keyring": 1`, `"keyring": 1, "x": 2`, `unknown field "x"; remove it`},
		{"field of another case", `"keyring": 1`, `"Keyring": 1`, `unknown field "Keyring"`},
		{"field twice", `"keyring": 1`, `"keyring": 1, "keyring": 1`, `field "keyring" is there twice`},
		{"trailing", string(good), string(good) + "{", "after top-level value"},
		{"keys of another type", string(good), `{"keyring":1,"primary":"a","keys":{}}`, `field "keys": is no array`},
		{"key of another type", string(good), `{"keyring":1,"primary":"a","keys":[1]}`, `key 1: is no JSON object`},
		{"material of another type", `"gYKDhIWGh4iJiouMjY6PkA=="`, `null`, `key "k-sm4": field "key": is no string`},
		{"no keys", string(good), `{"keyring":1,"primary":"a"}`, `"primary" is "a": name one`},
		{"no primary", `"primary": "k-aes"`, `"primary": "k"`, `"primary" is "k": name one of the keys`},
		{"id twice", `"id": "k-sm4"`, `"id": "k-aes"`, `key "k-aes": is there twice`},
		{"no id", `"id": "k-sm4",`, ``, `key 2: id "": use`},
		{"odd id", `"id": "k-sm4"`, `"id": "k sm4"`, `id "k sm4": use`},
		{"unknown field of a key", `"id": "k-sm4"`, `"id": "k-sm4", "y": 1`, `key "k-sm4": unknown field "y"`},
		{"kind", `"kind": "sm4-gcm"`, `"kind": "sm4"`, `key "k-sm4": kind "sm4": use aes256-gcm, sm4-gcm or hpke`},
		{"state", `"state": "enabled"`, `"state": "on"`, `key "k-aes": state "on": use enabled`},
		{"size", `"gYKDhIWGh4iJiouMjY6PkA=="`, `"gYKDhIWGh4iJiouMjY6P"`, `key "k-sm4": "key" has 15 bytes, want 16`},
		{"no key", `"key": "gYKDhIWGh4iJiouMjY6PkA==",`, ``, `key "k-sm4": "key" has 0 bytes, want 16`},
		{"base64", `"gYKDhIWGh4iJiouMjY6PkA=="`, `"gYKD*"`, `field "key": illegal base64`},
		{"syntax", `"primary"`, `primary`, `is no JSON`},
		{"destroyed with material", `"state": "enabled"`, `"state": "destroyed"`, `key "k-aes": is destroyed and yet has material`},
		{"public of a symmetric key", `"key": "gYKDhIWGh4iJiouMjY6PkA=="`, `"public": "gYKDhIWGh4iJiouMjY6PkA=="`, `key "k-sm4": has "public" or "private"`},
		{"created", `"created": "2026-11-23T00:00:00Z"`, `"created": "yesterday"`, `field "created"`},
		{"no created", `"created": "2026-11-23T00:00:00Z",`, ``, `key "k-aes": has no "created"`},
		{"private of another key", `"private": "k`, `"private": "l`, `key "k-hpke": "public" and "private" are of different keys`},
		{"private", `"private": "kJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq8="`, `"private": "kJGS"`, `key "k-hpke": "private" is no such key`},
		{"public", `"public": "3G`, `"public": "//`, `key "k-hpke": "public" `},
		{"key of an HPKE kind", `"private": "k`, `"key": "k`, `key "k-hpke": has "key"`},
		{"material of another id", `"id": "k-sm4"`, `"id": "sm4-gcm-00000000"`, `key "sm4-gcm-00000000": its material is that of sm4-gcm-`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(string(good), tt.old, tt.new, 1)
			if bad == string(good) {
				t.Fatal("nothing changed")
			}
			if _, err := keyring.ParseMarshal([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	vectors, err := os.ReadFile("testdata/keyring.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(vectors)
	for _, kind := range kinds {
		path, _ := made(f, kind)
		id, err := keyring.Rotate(path, kind)
		if err != nil {
			f.Fatal(err)
		}
		if err := keyring.Disable(path, id); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if again, err := keyring.ParseMarshal(b); err != nil || !bytes.Equal(again, b) {
			f.Fatalf("what is written is not canonical: %v", err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"keyring":1,"primary":"a","keys":[{"id":"a","kind":"sm4-gcm","state":"destroyed","created":"2026-11-01T08:00:00.5+08:00"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		canonical, err := keyring.ParseMarshal(b)
		if err != nil {
			return
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, canonical, "", "  "); err != nil || indented.String() != string(canonical) {
			t.Fatalf("not as JSON is indented: %v\n%s", err, canonical)
		}
		again, err := keyring.ParseMarshal(canonical)
		if err != nil {
			t.Fatalf("what was parsed marshals to what is not: %v", err)
		}
		if !bytes.Equal(again, canonical) {
			t.Fatalf("got\n%s\nwant\n%s", again, canonical)
		}
	})
}

// FuzzMembers holds the members found where they lie against those that
// encoding/json copies out.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, ` { "a" : [1,{"b":"}"}] , "c":"\\\"" ,"d":-1.5e3,"e":null,"":{}}	`, `{"\u0061":"é","x":[[],[{}]],"y":true}`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !json.Valid(b) || bytes.TrimSpace(b)[0] != '{' {
			return
		}
		var want []string
		twice := make(map[string]bool)
		d := json.NewDecoder(bytes.NewReader(b))
		d.Token()
		for d.More() {
			name, err := d.Token()
			var v json.RawMessage
			if err != nil || d.Decode(&v) != nil || twice[name.(string)] {
				return
			}
			twice[name.(string)] = true
			want = append(want, name.(string), string(v))
		}
		got, err := keyring.Members(b)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
}

// Disabling and enabling the key pauses and resumes an agent, by itself.
func TestKeysFollowTheFile(t *testing.T) {
	path, id := made(t, keyring.HPKE)
	synctest.Test(t, func(t *testing.T) {
		keys := seal.NewKeys(seal.KeyOptions{}, keyring.Open(path), seal.SM4GCM, where)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- keys.Run(ctx) }()
		defer func() { cancel(); <-done }()
		for _, step := range []struct {
			do     func() error
			phase  seal.Phase
			reason seal.Class
		}{
			{func() error { return nil }, seal.Ready, 0},
			{func() error { return keyring.Disable(path, id) }, seal.Paused, seal.Revoked},
			{func() error { return keyring.Enable(path, id) }, seal.Ready, 0},
			{func() error { return os.Rename(path, path+".away") }, seal.Paused, seal.Revoked},
			{func() error { return os.Rename(path+".away", path) }, seal.Ready, 0},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(7 * time.Minute)
			synctest.Wait()
			if s := keys.State(); s.Phase != step.phase || s.Reason != step.reason || step.phase == seal.Ready && s.KeyID != id {
				t.Fatalf("got %v(%v) under %q, want %v(%v)", s.Phase, s.Reason, s.KeyID, step.phase, step.reason)
			}
		}
	})
}

func BenchmarkGenerate(b *testing.B) {
	for _, kind := range kinds {
		b.Run(string(kind), func(b *testing.B) {
			path, _ := made(b, kind)
			r := keyring.Open(path)
			for b.Loop() {
				if _, err := r.Generate(b.Context(), where); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnwrap(b *testing.B) {
	for _, kind := range kinds {
		b.Run(string(kind), func(b *testing.B) {
			path, _ := made(b, kind)
			r := keyring.Open(path)
			d, err := r.Generate(b.Context(), where)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := r.Unwrap(b.Context(), d.Recipients[0], where); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
