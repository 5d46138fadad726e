package reader_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sealtail/reader"
	"sealtail/seal"
)

// TestState verifies twice: before, remembering, and after.
func TestState(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			other := seal.AES256GCM + seal.SM4GCM - suite
			h, thief := newHost(t), newHost(t)
			e1, head1 := h.run(suite, nil, 1, 6, false)
			e2, head2 := h.run(suite, head1, 2, 4, false)
			c := h.chain(suite, nil, 1)
			var heads []seal.Head
			var e [][]byte
			for range 6 {
				e = append(e, h.seal(c, 0, base, base, nil))
				heads = append(heads, c.Head())
			}
			rolled, _ := h.run(suite, &heads[2], 2, 3, false)
			onward, _ := h.run(suite, &heads[5], 2, 3, false)
			changed, _ := h.run(other, head2, 3, 2, false)
			stolen, _ := thief.run(suite, head1, 2, 2, false)
			again, _ := h.run(suite, head1, 2, 4, false)

			for _, c := range []struct {
				name          string
				before, after []byte
				want          []string
				next          []string // of the same input once more
			}{
				{"the same", join(e1), join(e1), []string{"anchored 1:0"}, []string{"anchored 1:0"}},
				{"more", join(e1), join(e1, e2), []string{"anchored 1:0"}, []string{"anchored 1:0"}},
				{"goes on from the head", join(e1), join(e2), []string{"anchored 2:0"}, []string{"unanchored-start 2:0"}},
				{"begins with the head", join(e1), join(e1[5], e2), []string{"anchored 1:5"}, []string{"unanchored-start 1:5"}},
				{"begins before the head", join(e1), join(e1[4:], e2), []string{"unanchored-start 1:4"}, []string{"unanchored-start 1:4"}},
				{"goes on inside the epoch", join(e1[:3]), join(e1[3:]), []string{"anchored 1:3"}, []string{"unanchored-start 1:3"}},
				{"tail cut off", join(e1), join(e1[:4]), []string{"anchored 1:0", "rollback 1:5"}, []string{"anchored 1:0", "rollback 1:5"}},
				{"epoch cut off", join(e1, e2), join(e1), []string{"anchored 1:0", "rollback 2:3"}, []string{"anchored 1:0", "rollback 2:3"}},
				{"stream gone", join(e1), nil, []string{"rollback 1:5"}, []string{"rollback 1:5"}},
				{"rolled back and gone on", join(e), join(e[:3], rolled), []string{"anchored 1:0", "rollback 1:5"}, []string{"anchored 1:0", "rollback 1:5"}},
				{"rolled back, both there", join(e), join(e, rolled), []string{"anchored 1:0", "fork 2:0"}, []string{"anchored 1:0", "fork 2:0"}},
				{"rolled back, seen from the head", join(e), join(e[4], onward), []string{"unanchored-start 1:4", "gap 1:5.."}, nil},
				{"gap behind the head", join(e1[:3]), join(e1[4:]), []string{"unanchored-start 1:4", "gap 1:3"}, []string{"unanchored-start 1:4"}},
				{"gap in the next epoch", join(e1), join(e2[2:]), []string{"unanchored-start 2:2", "gap 2:0-1"}, []string{"unanchored-start 2:2"}},
				{"end of the epoch lost", join(e1[:3]), join(e2), []string{"unanchored-start 2:0", "gap 1:3.."}, []string{"unanchored-start 2:0"}},
				{"head in a gap", join(e1[:3]), join(e1[:2], e1[4:]), []string{"anchored 1:0", "gap 1:2-3"}, nil},
				{"head missing, its successor there", join(e1[:3]), join(e1[:2], e1[3:]), []string{"anchored 1:0", "gap 1:2"}, nil},
				{"does not follow the head", join(e1, e2[:1]), join(again[1:]), []string{"unanchored-start 2:1", "rollback 2:0"}, nil},
				{"another envelope in the head's place", join(e1, e2[:1]), join(e1, again[:1]), []string{"anchored 1:0", "rollback 2:0"}, nil},
				{"new suite", join(e1, e2), join(e1, e2, changed), []string{"anchored 1:0", "suite-change 3:0"}, []string{"anchored 1:0", "suite-change 3:0"}},
				{"new signer", join(e1), join(stolen), []string{"signer-change 2:0-1"}, nil},
			} {
				t.Run(c.name, func(t *testing.T) {
					r := read(t, reader.Options{}, c.before)
					r.Verify()
					st, err := reader.ParseState(r.Remember().Marshal())
					if err != nil {
						t.Fatal(err)
					}
					r = read(t, reader.Options{State: st}, c.after)
					rep := r.Verify()
					want(t, "findings", words(rep), c.want)
					if c.next == nil {
						return
					}
					rep = read(t, reader.Options{State: r.Remember()}, c.after).Verify()
					want(t, "findings of a third run", words(rep), c.next)
				})
			}
		})
	}
}

const someState = `{
  "version": 1,
  "streams": {
    "000102030405060708090a0b0c0d0e0f": {
      "epoch": 1764100000000000000,
      "seq": 41,
      "digest": "2a702b7d56723cb16dae1665dd9896d9b9b76007baa3e098dbf0bfbbe7c00237",
      "suite": "aes-256-gcm",
      "last": "2025-11-25T20:00:00Z",
      "signers": {
        "aes-256-gcm": "0000000000000000000000000000000000000000000000000000000000000001"
      }
    }
  }
}
`

func TestParseState(t *testing.T) {
	st, err := reader.ParseState([]byte(someState))
	if err != nil || string(st.Marshal()) != someState {
		t.Errorf("got %v, %s", err, st.Marshal())
	}
	for _, c := range []struct{ name, old, new string }{
		{"newer", `"version": 1`, `"version": 2`},
		{"older", `"version": 1`, `"version": 0`},
		{"no JSON", "{", "["},
		{"unknown member", `"seq"`, `"sequence"`},
		{"something behind it", "}\n}\n", "}\n}\n{}"},
		{"stream id of 15 bytes", `"00010203`, `"010203`},
		{"stream id in capitals", `0a0b0c`, `0A0B0C`},
		{"digest of 31 bytes", `"2a70`, `"70`},
		{"no suite", `"suite": "aes-256-gcm"`, `"suite": "rot13"`},
		{"negative seq", `41`, `-41`},
		{"far future", `2025-11`, `9999-11`},
		{"signer of no suite", `"aes-256-gcm": "0`, `"des": "0`},
		{"signer in no hex", `"aes-256-gcm": "0`, `"aes-256-gcm": "z`},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.Replace(someState, c.old, c.new, 1)
			if bad == someState {
				t.Fatal("nothing was changed")
			}
			if _, err := reader.ParseState([]byte(bad)); !errors.Is(err, reader.ErrState) {
				t.Errorf("got %v, want %v", err, reader.ErrState)
			}
		})
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(someState))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"streams":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := reader.ParseState(b)
		if err != nil {
			return
		}
		out := st.Marshal()
		again, err := reader.ParseState(out)
		if err != nil || !bytes.Equal(again.Marshal(), out) {
			t.Errorf("%s: marshalled as %s, parses as %v", b, out, err)
		}
	})
}
