package e2e_test

import (
	"os"
	"slices"
	"testing"
)

// testdata/state-1 is what the agent of commit 04e637a, whose state had version
// 1, left when it was killed while its sink refused: a batch that was shipped
// and some that wait, which hold lines 1 to 5 and a loss of 10 bytes. Its
// segment is without the zeros behind it.
func TestStateOfVersion1(t *testing.T) {
	t.Parallel()
	r := newRig(t, "sm4-gcm", "*.log", quickStream, "")
	r.env = []string{"NODE_NAME=of-version-1"}
	for _, own := range []string{"offline.json", "public.json", "state"} {
		if err := os.RemoveAll(r.path(own)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(r.dir, os.DirFS("testdata/state-1")); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"state": 0o700, "state/signing.key": 0o600, "state/identity.key": 0o600, "offline.json": 0o600} {
		if err := os.Chmod(r.path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(r.path("state", "streams", "app", "00000002.seg"), 16<<20); err != nil {
		t.Fatal(err)
	}
	r.run("sealtail", "keyring", "export-public", "-f", r.path("offline.json"), "--out", r.path("public.json"))
	r.signers()
	appendTo(t, r.path("logs", "new.log"), "line 6\n")
	r.start()
	var got []string
	r.until("what is new", func() bool {
		got = nil
		for _, o := range r.printed(r.run("sealtail-reader", "open", "--events", "--format", "json", "--dir", r.path("sealed"),
			"--keyring", r.path("offline.json"), "--signers", r.path("signers"))) {
			switch o.Event {
			case "":
				got = append(got, o.text(t))
			case "loss":
				got = append(got, o.Event)
			}
		}
		return slices.Contains(got, "line 6")
	})
	r.stop()
	if want := []string{"line 1", "line 2", "line 3", "line 4", "line 5", "loss", "line 6"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
