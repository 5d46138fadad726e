package seal_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"sealtail/seal"
	"sealtail/seal/internal/schedule"
)

// memoryChild names the suite in the environment of the process whose memory
// is looked at.
const memoryChild = "SEALTAIL_TEST_MEMORY"

// tellingKMS makes random data keys and tells them, masked, on standard output:
// the process keeps no other copy of them.
type tellingKMS struct{ revoked chan struct{} }

func (k tellingKMS) Generate(context.Context, []byte) (seal.DataKey, error) {
	select {
	case <-k.revoked:
		return seal.DataKey{}, errRevoked
	default:
	}
	dek := seal.NewSecret(32)
	schedule.Do(func() {
		rand.Read(dek.Bytes())
		tellMasked("dek", dek.Bytes())
	})
	return seal.DataKey{Plain: dek, Recipients: []seal.Recipient{{Type: 5, KeyID: []byte("cmk"), Wrapped: []byte("w")}}}, nil
}

// tellMasked prints a word and the complement of what it is.
func tellMasked(word string, b []byte) {
	masked := make([]byte, len(b))
	for i, c := range b {
		masked[i] = ^c
	}
	fmt.Printf("%s %x\n", word, masked)
}

// TestMemoryChild is the process whose memory is looked at: it seals under one
// data key and has it replaced, revoked, or ended, as standard input says.
func TestMemoryChild(t *testing.T) {
	suite, err := seal.ParseSuite(os.Getenv(memoryChild))
	if err != nil {
		t.Skip("runs by TestNoOldKeyInMemory and TestNoKeyInCore alone")
	}
	kms := tellingKMS{make(chan struct{})}
	keys := seal.NewKeys(seal.KeyOptions{MaxBatches: 64, Confirm: -1}, kms, suite, testContext(t))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error)
	go func() { done <- keys.Run(ctx) }()
	c := newChain(t, seal.ChainOptions{Identity: newIdentity(t), Keys: keys, Suite: suite})
	content := bytes.Repeat([]byte("line\n"), 5000)
	sealOne := func() {
		env, err := c.Seal(t.Context(), nil, 0, 0, 0, seal.CodecNone, content)
		if err != nil {
			t.Fatal(err)
		}
		e, err := seal.Parse(env)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("header %x\n", seal.HeaderBytes(e))
	}
	canary := make([]byte, 32)
	rand.Read(canary)
	tellMasked("canary", canary)
	defer func() { fmt.Fprint(io.Discard, canary) }() // until then it is in memory
	endNow()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		what := in.Text()
		calm := stir()
		switch what {
		case "hide":
			if err := seal.HideMemory(); err != nil {
				t.Fatal(err)
			}
		case "seal":
			for range 20 {
				sealOne()
			}
		case "rotate":
			for was := keys.State().DEKID; keys.State().DEKID == was; {
				sealOne()
			}
		case "revoke":
			close(kms.revoked)
			for keys.State().KeyID != "" {
				c.Seal(ended, nil, 0, 0, 0, seal.CodecNone, content) // until there is no data key
			}
		case "stop":
			stop()
			<-done
		}
		calm()
		fmt.Println("done")
	}
}

// stir has the collector run until calm is called: it preempts goroutines by
// signals, which save registers, and shrinks their stacks, which leaves copies.
func stir() (calm func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				runtime.GC()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// A child is a process that holds data keys.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Writer
	out  *bufio.Scanner
	deks [][]byte // told so far

	header []byte // of the newest envelope
	canary []byte // what is in its memory throughout
}

func startChild(t *testing.T, suite seal.Suite) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], "-test.run=^TestMemoryChild$", "-test.v=false")}
	c.cmd.Env = append(os.Environ(), memoryChild+"="+suite.String(), "GORACE=atexit_sleep_ms=0")
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		for c.out.Scan() {
		}
		if err := c.cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	c.in, c.out = in, bufio.NewScanner(out)
	return c
}

// do has the child do something and waits until it is done.
func (c *child) do(what string) {
	c.t.Helper()
	fmt.Fprintln(c.in, what)
	for c.out.Scan() {
		word, text, _ := strings.Cut(c.out.Text(), " ")
		b, _ := hex.DecodeString(text)
		switch word {
		case "done":
			return
		case "header":
			c.header = b
		case "dek", "canary":
			for i := range b {
				b[i] = ^b[i]
			}
			if word == "canary" {
				c.canary = b
				break
			}
			c.deks = append(c.deks, b)
		}
	}
	c.t.Fatalf("the child ended in %q", what)
}

// finds returns which of the patterns are in memory that the child can write
// to.
func (c *child) finds(patterns map[string][]byte) (found []string) {
	c.t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.cmd.Process.Pid))
	if err != nil {
		c.t.Skip("the memory of a child is not readable here:", err)
	}
	defer mem.Close()
	seen := make(map[string]bool)
	const overlap = 256
	chunk := make([]byte, 1<<20)
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
			c.t.Fatal(err)
		}
		if !strings.HasPrefix(rights, "rw") || to-from > 1<<28 { // larger ones are shadows of the race detector
			continue
		}
		for ; ; from += uint64(len(chunk) - overlap) {
			n, _ := mem.ReadAt(chunk[:min(uint64(len(chunk)), to-from)], int64(from)) // some mappings cannot be read
			for name, p := range patterns {
				if at := bytes.Index(chunk[:n], p); at >= 0 && !seen[name] {
					seen[name] = true
					found = append(found, fmt.Sprintf("%s at %x of %s", name, from+uint64(at), strings.Join(strings.Fields(line)[:2], " ")))
				}
			}
			if n < len(chunk) {
				break
			}
		}
	}
	return found
}

// tracesOf are what would tell a data key, or the key of an envelope under it:
// halves of those of 32 bytes, as registers of 16 bytes are saved apart.
func tracesOf(suite seal.Suite, dek, header []byte) map[string][]byte {
	masked := func(with byte) []byte {
		b := bytes.Clone(dek)
		for i := range b {
			b[i] ^= with
		}
		return b
	}
	key := seal.EnvelopeKey(suite, dek, header)
	traces := map[string][]byte{
		"data key":                  dek,
		"data key in base64":        []byte(base64.StdEncoding.EncodeToString(dek))[:42],
		"data key in hex":           []byte(hex.EncodeToString(dek)),
		"data key in HMAC's ipad":   masked(0x36),
		"data key in HMAC's opad":   masked(0x5c),
		"HMAC's inner state":        seal.HMACState(suite, masked(0x36), 0x36),
		"HMAC's outer state":        seal.HMACState(suite, masked(0x5c), 0x5c),
		"key of an envelope":        key,
		"key of an envelope in hex": []byte(hex.EncodeToString(key)),
	}
	for i, s := range seal.RoundKeys(suite, key) {
		traces[fmt.Sprintf("round keys of an envelope, %d", i)] = s
	}
	for name, b := range traces {
		if len(b) == 32 {
			delete(traces, name)
			traces[name+", first half"], traces[name+", second half"] = b[:16], b[16:]
		}
	}
	return traces
}

// Once a data key is replaced, revoked or ended, neither it nor what it was
// used for is in memory: not as it is, not encoded, not in a key schedule.
// That is also what a core has that root takes.
func TestNoOldKeyInMemory(t *testing.T) {
	if os.Getenv(memoryChild) != "" {
		t.Skip("in the child")
	}
	looks := 10 // at rotations: what is left of one may be overwritten by the next
	if raceDetector {
		looks = 2 // it makes each take ten times as long
	}
	for _, suite := range suites {
		for _, end := range []string{"rotate", "revoke", "stop"} {
			t.Run(suite.String()+" "+end, func(t *testing.T) {
				c := startChild(t, suite)
				c.do("seal")
				old := tracesOf(suite, c.deks[0], c.header)
				if found := c.finds(old); len(found) == 0 {
					t.Fatal("the data key in use is not found: the search does not work")
				} else {
					t.Log("in use: ", found)
				}
				for range looks {
					c.do(end)
					if found := c.finds(old); len(found) > 0 {
						t.Fatalf("still in memory: %q", found)
					}
					if end != "rotate" {
						break
					}
					c.do("seal")
					old = tracesOf(suite, c.deks[len(c.deks)-1], c.header)
				}
			})
		}
	}
}
