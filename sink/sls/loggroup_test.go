package sls_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"

	api "github.com/aliyun/aliyun-log-go-sdk"

	"sealtail/sink/sls"
)

// oracle encodes with the SDK.
func oracle(t testing.TB, cs []sls.Carrier, sealed [][]byte, why string, now uint32, topic, source string) []byte {
	g := &api.LogGroup{Topic: &topic, Source: &source}
	for i, c := range cs {
		v := "SE1"
		if why != "" {
			v = "SE1P"
		}
		fields := [][2]string{
			{"_v", v}, {"_sid", hex.EncodeToString(c.StreamID[:])}, {"_ep", strconv.FormatUint(c.Epoch, 10)},
			{"_seq", strconv.FormatUint(c.Seq, 10)}, {"_dek", hex.EncodeToString(c.DEKID[:])},
			{"_t0", strconv.FormatInt(c.First, 10)}, {"_t1", strconv.FormatInt(c.Last, 10)},
		}
		if why != "" {
			fields = append(fields, [2]string{"_why", why})
		}
		fields = append(fields, [2]string{"_env", base64.StdEncoding.EncodeToString(sealed[i])})
		l := &api.Log{Time: &now}
		for _, f := range fields {
			l.Contents = append(l.Contents, &api.LogContent{Key: &f[0], Value: &f[1]})
		}
		g.Logs = append(g.Logs, l)
	}
	b, err := g.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeGroup(t *testing.T) {
	c := sls.Carrier{StreamID: [16]byte{0xab}, Epoch: 1<<64 - 1, Seq: 0, DEKID: [16]byte{15: 9}, First: -1, Last: 1<<63 - 1}
	for _, size := range []int{0, 1, 2, 3, 91, 92, 93, 94, 95, 96, 97, 12280, 12290, 737280} {
		for _, why := range []string{"", "InvalidKey"} {
			for _, n := range []int{0, 1, 3} {
				var cs []sls.Carrier
				var sealed [][]byte
				for i := range n {
					c.Seq = uint64(i * 1000)
					cs, sealed = append(cs, c), append(sealed, envelope(i, size)[:size])
				}
				if size < 8 {
					for i := range sealed {
						sealed[i] = make([]byte, size)
					}
				}
				topic := strings.Repeat("t", n*60)
				got, sizes := sls.EncodeGroup(cs, sealed, why, 1700000000, topic, "host")
				want := oracle(t, cs, sealed, why, 1700000000, topic, "host")
				if !bytes.Equal(got, want) {
					t.Fatalf("size %d, why %q, n %d: the SDK encodes otherwise", size, why, n)
				}
				sum := 0
				for _, s := range sizes {
					sum += s
				}
				if rest := len(got) - sum; n > 0 && (rest < 2*n || rest > 4*n+2*2+len(topic)+len("host")+2) {
					t.Errorf("size %d, n %d: sizes %v of %d bytes", size, n, sizes, len(got))
				}
			}
		}
	}
}

// list makes a LogGroupList of LogGroups.
func list(groups ...[]byte) (b []byte) {
	for _, g := range groups {
		b = append(b, 0x0a)
		n := len(g)
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		b = append(append(b, byte(n)), g...)
	}
	return b
}

func TestDecode(t *testing.T) {
	c := sls.Carrier{StreamID: [16]byte{0xab}, Epoch: 5, Seq: 6, DEKID: [16]byte{15: 9}, First: 1, Last: 2}
	stub := []byte("a stub")
	env := envelope(1, 5000)
	b := list(
		oracle(t, []sls.Carrier{c, c}, [][]byte{env, env}, "", 1700000000, "app", "h"),
		oracle(t, []sls.Carrier{c}, [][]byte{stub}, "InvalidKey", 1700000001, "app", "h"))
	var got []sls.Item
	if err := sls.DecodeList(b, func(topic, source string, it sls.Item) {
		if topic != "app" || source != "h" {
			t.Errorf("got topic %q, source %q", topic, source)
		}
		got = append(got, it)
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("got %d items, want 3", len(got))
	}
	for i, it := range got {
		want := env
		if i == 2 {
			want = stub
		}
		if it.Err != nil || it.Fields != c || !bytes.Equal(it.Sealed, want) || it.Stub != (i == 2) || (it.Why != "") != (i == 2) || it.Time != 1700000000+int64(i/2) {
			t.Errorf("item %d: got %+v", i, it)
		}
	}
}

// TestDecodeFaults changes one content of a log at a time.
func TestDecodeFaults(t *testing.T) {
	good := [][2]string{
		{"_v", "SE1"}, {"_sid", strings.Repeat("ab", 16)}, {"_ep", "5"}, {"_seq", "6"},
		{"_dek", strings.Repeat("cd", 16)}, {"_t0", "1"}, {"_t1", "2"}, {"_env", "AAAA"},
	}
	decode := func(fields [][2]string) error {
		now := uint32(1)
		l := &api.Log{Time: &now}
		for _, f := range fields {
			l.Contents = append(l.Contents, &api.LogContent{Key: &f[0], Value: &f[1]})
		}
		g, err := (&api.LogGroup{Logs: []*api.Log{l}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var fault error
		if err := sls.DecodeList(list(g), func(_, _ string, it sls.Item) { fault = it.Err }); err != nil {
			t.Fatal(err)
		}
		return fault
	}
	if err := decode(append(slices.Clone(good), [2]string{"__tag__:more", "x"})); err != nil {
		t.Errorf("a sound log: %v", err)
	}
	for i, f := range good {
		if decode(slices.Delete(slices.Clone(good), i, i+1)) == nil {
			t.Errorf("without %s: no fault", f[0])
		}
		if decode(append(slices.Clone(good), f)) == nil {
			t.Errorf("%s twice: no fault", f[0])
		}
		for _, bad := range []string{"", "x", "-", "SE2", "18446744073709551616", strings.Repeat("zz", 16), "AAA", "AAB="} {
			if f[0] == "_env" && len(bad) > 4 {
				continue // it is base64
			}
			fields := slices.Clone(good)
			fields[i][1] = bad
			if decode(fields) == nil {
				t.Errorf("%s = %q: no fault", f[0], bad)
			}
		}
	}
	if decode(append(slices.Clone(good), [2]string{"_why", "x"})) == nil {
		t.Error("_why of an envelope: no fault")
	}
}

func FuzzDecodeList(f *testing.F) {
	c := sls.Carrier{StreamID: [16]byte{0xab}, Epoch: 5, Seq: 6}
	f.Add(list(oracle(f, []sls.Carrier{c}, [][]byte{[]byte("env")}, "", 1700000000, "app", "h")))
	f.Add(list(oracle(f, []sls.Carrier{c}, [][]byte{[]byte("stub")}, "InvalidKey", 1700000000, "", "")))
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		err := sls.DecodeList(b, func(topic, source string, it sls.Item) {
			n++
			if it.Err != nil {
				return
			}
			// What decodes without a fault is what this package encodes.
			why := ""
			if it.Stub {
				if why = it.Why; why == "" {
					return
				}
			}
			again, _ := sls.EncodeGroup([]sls.Carrier{it.Fields}, [][]byte{it.Sealed}, why, uint32(it.Time), topic, source)
			if err := sls.DecodeList(list(again), func(_, _ string, again sls.Item) {
				if again.Err != nil || again.Fields != it.Fields || !bytes.Equal(again.Sealed, it.Sealed) {
					t.Errorf("got %+v again, want %+v", again, it)
				}
			}); err != nil {
				t.Error(err)
			}
		})
		var theirs api.LogGroupList
		if err == nil && theirs.Unmarshal(b) == nil {
			m := 0
			for _, g := range theirs.LogGroups {
				m += len(g.Logs)
			}
			if m != n {
				t.Errorf("got %d logs, the SDK %d", n, m)
			}
		}
	})
}
