package alikms_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sealtail/emul"
	"sealtail/seal"
	"sealtail/seal/alikms"
)

// What follows from an answer to GenerateDataKey.
const (
	waits     = "waits"     // the data key seals on, and the KMS is asked again
	slows     = "slows"     // likewise, and it is asked more slowly
	refreshes = "refreshes" // likewise, after a second call with a fresh access key
	wipes     = "wipes"     // the data key is wiped and sealing pauses
	misfits   = "misfits"   // the data key seals on to its end; somebody must mend the config
)

// rowsDo says so of each code. A code without a line here is of no class, and
// waits.
var rowsDo = []struct {
	codes string
	class seal.Class
	does  string
}{
	{"Rejected.Disabled Rejected.PendingDeletion Rejected.PendingImport", seal.Revoked, wipes},
	{"Forbidden.KeyNotFound Forbidden.AliasNotFound Forbidden.NoPermission", seal.Revoked, wipes},
	{"Rejected.Throttling Throttling Throttling.User Throttling.Api 429", seal.Outage, slows},
	{"Rejected.Unavailable Rejected.StateModifiedFailed InternalFailure ServiceUnavailableTemporary SerivceUnavailableTemporary", seal.Outage, waits},
	{"Forbidden.KmsServiceNotEnabled Forbidden.InDebt Forbidden.InDebtOverdue Forbidden.ProhibitedByRiskControl Forbidden.UbsmsInvalidStatus", seal.Outage, waits},
	{"InvalidTimeStamp.Expired IllegalTimestamp SignatureNonceUsed", seal.Outage, waits},
	{"500 502 503 504 408 407 Network", seal.Outage, waits},
	{"Forbidden.AccessKey InvalidAccessKeyId.NotFound SignatureDoesNotMatch IncompleteSignature", seal.Credentials, refreshes},
	{"InvalidSecurityToken.Expired InvalidSecurityToken.Malformed InvalidSecurityToken.MismatchWithAccessKey", seal.Credentials, refreshes},
	{"MissingParameter InvalidParameter UnsupportedOperation ParseRequestParameterException Unsupported.KeySpec Rejected.LimitExceeded", seal.Misfit, misfits},
}

// TestRows has the emulator answer with each row of its table, over TLS, and
// with what is no row, while a data key is in use.
func TestRows(t *testing.T) {
	s := emul.New(emul.Options{AccessKeyID: testAK, AccessKeySecret: testSecret})
	h, ca := serveTLS(t, s.KMS(), nil)
	defer s.Close()
	cmk, err := s.SetKey(emul.Key{})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		name, code string
		fault      emul.Fault
	}
	var answers []answer
	for _, row := range emul.KMSErrors() {
		answers = append(answers, answer{fmt.Sprintf("%d %s", row.Status, row.Code), row.Code, emul.Fault{Status: row.Status, Code: row.Code}})
	}
	for _, status := range []int{500, 502, 503, 504, 429, 408, 407} {
		answers = append(answers, answer{fmt.Sprintf("%d page", status), fmt.Sprint(status), emul.Fault{Status: status, HTML: true}})
	}
	answers = append(answers,
		answer{"cut", "Network", emul.Fault{Cut: true}},
		answer{"answer lost", "Network", emul.Fault{Cut: true, After: true}},
		answer{"400 SomethingNew", "SomethingNew", emul.Fault{Status: 400, Code: "SomethingNew"}},
	)
	if len(answers) < 50 {
		t.Fatalf("got %d answers", len(answers))
	}
	for _, a := range answers {
		t.Run(a.name, func(t *testing.T) {
			class, does := seal.Unknown, waits
			for _, r := range rowsDo {
				if strings.Contains(" "+r.codes+" ", " "+a.code+" ") {
					class, does = r.class, r.does
				}
			}
			a.fault.Operation = "GenerateDataKey"
			k := goodKeys()
			k.next = goodKeys()
			c := client(t, h.URL, func(o *alikms.Options) { o.KeyID, o.CAFile, o.Credentials = cmk.ARN, ca, k })

			// One call.
			id := s.Inject(a.fault)
			_, err := c.Generate(t.Context(), testContext(t))
			if e := kmsError(t, err); e.Class != class || e.Throttled != (does == slows) {
				t.Errorf("got %v, throttled %v; want %s", e, e.Throttled, class)
			}
			if want := does == refreshes; (k.refreshes > 0) != want {
				t.Errorf("got %d look-ups of the access key", k.refreshes)
			}
			s.Clear(id)
			if does == refreshes {
				k := &keys{id: "old", secret: "old", next: goodKeys()}
				c := client(t, h.URL, func(o *alikms.Options) { o.KeyID, o.CAFile, o.Credentials = cmk.ARN, ca, k })
				once := a.fault
				once.Count = 1
				s.Inject(once)
				if _, err := c.Generate(t.Context(), testContext(t)); err != nil {
					t.Errorf("with a fresh access key: got %v", err)
				}
			}

			// A data key in use.
			ks := seal.NewKeys(seal.KeyOptions{
				Refresh: time.Millisecond, Confirm: time.Millisecond, RetryMax: time.Millisecond, RetryRevoked: time.Millisecond,
			}, c, seal.AES256GCM, testContext(t))
			ctx, cancel := context.WithCancel(t.Context())
			var run sync.WaitGroup
			run.Go(func() { ks.Run(ctx) })
			defer run.Wait()
			defer cancel()
			until(t, ks, "a data key", func(st seal.KeyState) bool { return st.KeyID != "" })
			id = s.Inject(a.fault)
			defer s.Clear(id)
			phase := seal.Degraded
			if does == wipes {
				phase = seal.Paused
			}
			until(t, ks, phase.String(), func(st seal.KeyState) bool { return st.Phase == phase && st.Failed[class] > 2 })
			if st := ks.State(); (st.KeyID == "") != (does == wipes) {
				t.Errorf("got data key of %q", st.KeyID)
			}
			s.Clear(id)
			until(t, ks, "the data key to be proven", func(st seal.KeyState) bool { return st.Phase == seal.Ready || st.Phase == seal.Refreshing })
		})
	}
}

// until waits for a state.
func until(t *testing.T, ks *seal.Keys, what string, is func(seal.KeyState) bool) {
	t.Helper()
	deadline := time.After(5 * time.Minute)
	for tick := time.Tick(time.Millisecond); ; {
		if is(ks.State()) {
			return
		}
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("waited in vain for %s: %+v", what, ks.State())
		}
	}
}
