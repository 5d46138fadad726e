package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An opened is a record as the reader gives it.
type opened struct {
	Stream  string `json:"stream"`
	Content string `json:"content"`
}

// open has the reader open all that was shipped.
func (t *tour) open(ctx context.Context) ([]opened, error) {
	stdout, stderr, err := t.quiet(ctx, "sealtail-reader", t.openArgs()...)
	if err != nil {
		return nil, fmt.Errorf("sealtail-reader open: %w\n%s", err, stderr)
	}
	var all []opened
	for d := json.NewDecoder(strings.NewReader(stdout)); ; {
		var o opened
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what the reader gave: %w", err)
		}
		all = append(all, o)
	}
}

func (t *tour) openArgs() []string {
	return slices.Concat([]string{"open"}, t.inputs, t.opens, []string{"--signers", t.path("office/signers"), "--format", "json"})
}

// look shows one sealed batch: its bytes, and what the reader says of them.
func (t *tour) look(ctx context.Context) error {
	t.title("Look: one sealed batch of the audit stream, as it lies in the store")
	env, err := t.anEnvelope("audit")
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.path("one.se1"), env, 0o600); err != nil {
		return err
	}
	t.show(annotate(env))
	out, err := t.do(ctx, "sealtail-reader", "inspect", t.path("one.se1"))
	if err != nil {
		return err
	}
	t.show(out)
	return nil
}

// anEnvelope returns the first envelope of a stream's newest file.
func (t *tour) anEnvelope(stream string) ([]byte, error) {
	files := sealed(t.path("store/" + stream))
	if len(files) == 0 {
		return nil, fmt.Errorf("no file of stream %s in the store", stream)
	}
	b, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		return nil, err
	}
	n := envelopeLen(b)
	if n == 0 {
		return nil, errors.New("no whole envelope in the newest file")
	}
	return b[:n], nil
}

// sealed returns the sealed files in dir, in the order of their names.
func sealed(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "*.se1")) // the pattern is good
	return files
}

const commitmentLen = 32

// envelopeLen returns the length of the envelope that b begins with, or 0.
// docs/FORMAT.md: header ‖ commitment ‖ key section ‖ payload ‖ signature section.
func envelopeLen(b []byte) int {
	if len(b) < 170 {
		return 0
	}
	n := int(binary.BigEndian.Uint16(b[8:])) + commitmentLen
	if len(b) < n+2 {
		return 0
	}
	n += 2 + int(binary.BigEndian.Uint16(b[n:])) + int(binary.BigEndian.Uint32(b[12:]))
	if len(b) < n+1 {
		return 0
	}
	n += 1 + int(b[n]) + 64
	if len(b) < n {
		return 0
	}
	return n
}

// annotate shows the parts of an envelope's beginning in hex.
func annotate(env []byte) string {
	var b strings.Builder
	at := 0
	show := func(n int, meaning string) {
		const row = 16
		for shown := 0; shown < n; shown += row {
			bytes := fmt.Sprintf("% x", env[at+shown:at+min(n, shown+row)])
			b.WriteString(strings.TrimRight(fmt.Sprintf("%04d  %-47s  %s", at+shown, bytes, meaning), " ") + "\n")
			meaning = ""
		}
		at += n
	}
	stamp := func(off int) string {
		return time.Unix(0, int64(binary.BigEndian.Uint64(env[off:]))).UTC().Format(time.RFC3339)
	}
	number := func(off int) uint64 { return binary.BigEndian.Uint64(env[off:]) }
	show(4, "magic")
	show(1, "version")
	show(1, "suite: 2 is SM4-GCM, signed with SM2")
	show(1, "flags")
	show(1, "codec: 1 is zstd")
	show(2, "length of the header")
	show(2, "reserved")
	show(4, "length of the payload")
	show(16, "stream")
	show(8, "epoch: this start of the agent")
	show(8, fmt.Sprintf("number in the epoch: %d", number(40)))
	show(8, "oldest record: "+stamp(48))
	show(8, "newest record: "+stamp(56))
	show(16, "data key")
	show(24, "salt")
	show(32, "digest of the batch before: the chain")
	show(32, "who signed")
	fmt.Fprintf(&b, "      … context, commitment, wrapped key …\n")
	header := int(binary.BigEndian.Uint16(env[8:]))
	at = header + commitmentLen + 2 + int(binary.BigEndian.Uint16(env[header+commitmentLen:]))
	show(32, "the payload begins: here are your lines")
	fmt.Fprintf(&b, "      … %d bytes in all", len(env))
	return b.String()
}

// tamper changes one byte in a copy of the store and asks the reader.
func (t *tour) tamper(ctx context.Context) error {
	t.title("Tamper: one bit is flipped in a copy of the store")
	if err := os.CopyFS(t.path("tampered"), os.DirFS(t.path("store"))); err != nil {
		return err
	}
	files := sealed(t.path("tampered/audit"))
	if len(files) == 0 {
		return errors.New("no file of stream audit in the copy")
	}
	file := files[0]
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	first := envelopeLen(b)
	second := envelopeLen(b[first:])
	if first == 0 || second == 0 {
		return errors.New("no two whole envelopes in the oldest file")
	}
	at := first + second/2 // in the second one's payload
	b[at] ^= 0x10
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return err
	}
	t.say("byte %d of %s: %02x is %02x now", at, strings.TrimPrefix(file, t.dir+"/"), b[at]^0x10, b[at])
	args := []string{"verify", "--dir", t.path("tampered"), "--signers", t.path("office/signers")}
	t.command("sealtail-reader", args...)
	stdout, stderr, err := t.quiet(ctx, "sealtail-reader", args...)
	t.show(stdout + stderr)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 {
		return fmt.Errorf("verify should end with 5, tampering; it ended with: %v", err)
	}
	t.say("Exit code 5: tampering. No key that decrypts was needed to find it.")
	return nil
}

// prove stops the agent and counts.
func (t *tour) prove(ctx context.Context) error {
	t.title("Prove: stop, verify, open, count")
	if err := t.stopAndCount(ctx, 12); err != nil {
		return err
	}
	if err := t.inClear("host/state", "store", "agent.log"); err != nil {
		return err
	}
	t.say("No line is in clear anywhere in state, store or log of the agent.")
	return nil
}

// stopAndCount stops the agent, and holds what the reader verifies and opens
// against what was written. Of what verify says it shows the last lines.
func (t *tour) stopAndCount(ctx context.Context, lines int) error {
	if err := t.agent.stop(ctx); err != nil {
		return err
	}
	args := slices.Concat([]string{"verify"}, t.inputs, []string{"--signers", t.path("office/signers")})
	verified, err := t.do(ctx, "sealtail-reader", args...)
	if err != nil {
		return err
	}
	t.show(lastLines(verified, lines))
	if strings.Contains(verified, "duplicate") {
		t.say("A duplicate is harmless: an agent ships again what it does not know to have arrived.")
	}
	t.command("sealtail-reader", t.openArgs()...)
	got, err := t.open(ctx)
	if err != nil {
		return err
	}
	return t.count(got)
}

// count holds what came back against what was written: per file every line,
// once, in its order.
func (t *tour) count(got []opened) error {
	back := make(map[string][]string)
	for _, o := range got {
		label, _, _ := strings.Cut(o.Content, " ")
		back[label] = append(back[label], o.Content)
	}
	wrong := 0
	fmt.Printf("\n    %-6s %-24s %8s %8s  %s\n", "file", "last name", "written", "back", "")
	for _, f := range t.logs.files {
		lines, verdict := back[f.label], "ok"
		delete(back, f.label)
		if d := firstDifference(lines, f.lines); d >= 0 {
			verdict = fmt.Sprintf("WRONG from line %d", d)
			wrong++
		}
		name, _ := filepath.Rel(t.logs.dir, f.path)
		fmt.Printf("    %-6s %-24s %8d %8d  %s; %s\n", f.label, name, len(f.lines), len(lines), verdict, f.fate)
	}
	fmt.Println()
	if wrong > 0 || len(back) > 0 {
		return fmt.Errorf("%d files came back wrong, %d were never written", wrong, len(back))
	}
	return nil
}

// firstDifference returns the first index at which a and b differ, or -1.
func firstDifference(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

// inClear searches what the agent wrote or sent for the text of the lines.
func (t *tour) inClear(roots ...string) error {
	for _, root := range roots {
		err := filepath.WalkDir(t.path(root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, word := range []string{"GET /shop/", "type=USER_LOGIN", "用户登录"} {
				if bytes.Contains(b, []byte(word)) {
					return fmt.Errorf("%s holds %q in clear", path, word)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
