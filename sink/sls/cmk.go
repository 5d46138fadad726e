package sls

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	hintCMK      = "the Logstore's own CMK is not usable: enable it, or give SLS's role its rights back"
	hintMaybeCMK = "nothing is dropped; see whether the Logstore's own CMK is enabled and SLS's role has its rights"
)

// No document says how the service answers while the Logstore's CMK cannot be
// used, only that all reads and writes fail. So it is known by what the
// message speaks of, where the code leaves that open, or by the KMS itself.
var (
	cmkMessage = regexp.MustCompile(`(?i)\bkms\b|\bkms:|\bcmk\b|encrypt|\bkey (is |was )?(disabled|not ?exist|does not exist|pending)`)
	kmsAction  = regexp.MustCompile(`(?i)action: *kms:`)
	accessKey  = regexp.MustCompile(`(?i)access ?key`)
)

// speaksOfKMS reports whether what the service said is about the CMK. Names
// that the user chose say nothing.
func (c *Client) speaksOfKMS(e *Error) bool {
	text := e.Message
	if strings.Contains(strings.ToLower(text), "denied by") {
		return kmsAction.MatchString(text)
	}
	for _, name := range []string{c.o.Logstore, c.o.Project} {
		text = strings.ReplaceAll(text, name, "_")
	}
	text = accessKey.ReplaceAllString(text, "_")
	return cmkMessage.MatchString(text) || cmkMessage.MatchString(spaced(e.Code))
}

var wordEnd = regexp.MustCompile(`([a-z])([A-Z])|([A-Z])([A-Z][a-z])|\.`)

// spaced divides a code into its words.
func spaced(code string) string { return wordEnd.ReplaceAllString(code, "$1$3 $2$4") }

const (
	keyStateEvery   = time.Minute
	keyStateTimeout = 5 * time.Second
	keyStateAfresh  = 10 * time.Second
	keyEnabled      = "Enabled"
)

// keyState is what the KMS said of the Logstore's CMK last.
type keyState struct {
	ask func(context.Context) (string, error)

	mu    sync.Mutex // guards what follows; held while the KMS is asked
	asked time.Time
	state string // "" = not known
}

// bad returns the CMK's state if the KMS says that it cannot be used, else "".
// What it said less than every ago counts.
func (k *keyState) bad(ctx context.Context, every time.Duration) string {
	if k.ask == nil {
		return ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); k.asked.IsZero() || now.Sub(k.asked) >= every {
		ctx, cancel := context.WithTimeout(ctx, keyStateTimeout)
		defer cancel()
		state, err := k.ask(ctx)
		if err != nil {
			state = ""
		}
		k.asked, k.state = now, state
	}
	if k.state == keyEnabled {
		return ""
	}
	return k.state
}

// settle asks the KMS about an error that says nothing of its reason.
func (k *keyState) settle(ctx context.Context, e *Error) {
	if !e.cmk || e.Class == CMK {
		return
	}
	if state := k.bad(ctx, keyStateEvery); state != "" {
		e.unusable(state)
	}
}

// unusable makes e an error of the CMK, of which the KMS says state.
func (e *Error) unusable(state string) {
	e.Class, e.do = CMK, wait
	e.Hint = fmt.Sprintf("%s (the KMS says %s)", hintCMK, clean(state, 64))
}
