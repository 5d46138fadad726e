package alikms_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sealtail/emul"
	"sealtail/seal"
	"sealtail/seal/alikms"
)

// emulator serves a KMS with two CMKs.
func emulator(t testing.TB) (s *emul.Server, endpoint string, cmk, other emul.Key) {
	t.Helper()
	s = emul.New(emul.Options{AccessKeyID: testAK, AccessKeySecret: testSecret})
	h := httptest.NewServer(s.KMS())
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var err error
	if cmk, err = s.SetKey(emul.Key{Spec: emul.SM4, Aliases: []string{testAlias}, DeletionProtection: true}); err != nil {
		t.Fatal(err)
	}
	if other, err = s.SetKey(emul.Key{}); err != nil {
		t.Fatal(err)
	}
	return s, h.URL, cmk, other
}

func TestEmulator(t *testing.T) {
	s, endpoint, cmk, other := emulator(t)
	context := testContext(t)
	for _, keyID := range []string{cmk.ARN, cmk.ID, testAlias} {
		for _, inQuery := range []bool{false, true} {
			c := client(t, endpoint, func(o *alikms.Options) {
				o.KeyID, o.Allow, o.QueryParameters = keyID, []string{cmk.ARN}, inQuery
			})
			d, err := c.Generate(t.Context(), context)
			if err != nil {
				t.Fatalf("%s: %v", keyID, err)
			}
			dek, err := c.Unwrap(t.Context(), d.Recipients[0], context)
			if err != nil || !bytes.Equal(dek.Bytes(), d.Plain.Bytes()) {
				t.Errorf("%s: got %x, %v, want %x", keyID, dek.Bytes(), err, d.Plain.Bytes())
			}
		}
	}

	c := client(t, endpoint, func(o *alikms.Options) { o.KeyID, o.Allow = cmk.ARN, []string{cmk.ARN} })
	d, err := c.Generate(t.Context(), context)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Unwrap(t.Context(), d.Recipients[0], testContext(t, "logstore", "other"))
	if e := kmsError(t, err); e.Class != seal.Misfit {
		t.Errorf("in another context: got %v, want a misfit", e)
	}

	for _, state := range []string{emul.Disabled, emul.PendingDeletion, emul.PendingImport, emul.Unavailable, emul.Enabled} {
		if err := s.SetKeyState(cmk.ID, state); err != nil {
			t.Fatal(err)
		}
		k, err := c.Describe(t.Context(), cmk.ARN)
		if err != nil || k.State != state || !k.SM4() || k.DeletionProtection != "Enabled" || k.ARN != cmk.ARN || (k.DeleteDate != "") != (state == emul.PendingDeletion) {
			t.Errorf("%s: described as %+v, %v", state, k, err)
		}
		_, err = c.Generate(t.Context(), context)
		_, err2 := c.Unwrap(t.Context(), d.Recipients[0], context)
		if state == emul.Enabled {
			if err != nil || err2 != nil {
				t.Errorf("enabled again: got %v, %v", err, err2)
			}
			continue
		}
		want := seal.Revoked
		if state == emul.Unavailable {
			want = seal.Outage
		}
		for _, err := range []error{err, err2} {
			if e := kmsError(t, err); e.Class != want || e.Code != "Rejected."+state {
				t.Errorf("%s: got %v, want %v", state, e, want)
			}
		}
	}

	// A data key wrapped again, under another CMK and in the same context, is
	// opened by who may use that one.
	again := reEncrypt(t, endpoint, d.Recipients[0], other, context)
	if _, err := c.Unwrap(t.Context(), again, context); err != seal.ErrNotMine {
		t.Errorf("wrapped again, not allowed: got %v, want ErrNotMine", err)
	}
	reader := client(t, endpoint, func(o *alikms.Options) { o.KeyID, o.Allow = "", []string{other.ARN} })
	if dek, err := reader.Unwrap(t.Context(), again, context); err != nil || !bytes.Equal(dek.Bytes(), d.Plain.Bytes()) {
		t.Errorf("wrapped again: got %x, %v, want %x", dek.Bytes(), err, d.Plain.Bytes())
	}
	lie := again
	lie.KeyID = []byte(cmk.ARN)
	if _, err := c.Unwrap(t.Context(), lie, context); kmsError(t, err).Code != "Answer" {
		t.Errorf("wrapped again under a false name: got %v", err)
	}

	s.DeleteKey(cmk.ID)
	if _, err := c.Generate(t.Context(), context); kmsError(t, err).Class != seal.Revoked {
		t.Errorf("deleted: got %v, want revoked", err)
	}
}

// An agent may make data keys and cannot open them.
func TestEmulatorRights(t *testing.T) {
	s, endpoint, cmk, _ := emulator(t)
	agent := emul.Credential{AccessKeyID: "LTAIagent", AccessKeySecret: "agent", Policies: []emul.Policy{{Version: "1",
		Statement: []emul.Statement{{Effect: "Allow", Action: emul.Strings{"kms:GenerateDataKey"}, Resource: emul.Strings{cmk.ARN}}}}}}
	s.SetCredential(agent)
	k := &keys{id: agent.AccessKeyID, secret: agent.AccessKeySecret}
	c := client(t, endpoint, func(o *alikms.Options) { o.KeyID, o.Allow, o.Credentials = cmk.ARN, []string{cmk.ARN}, k })
	context := testContext(t)
	d, err := c.Generate(t.Context(), context)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Unwrap(t.Context(), d.Recipients[0], context)
	if e := kmsError(t, err); e.Class != seal.Revoked || e.Code != "Forbidden.NoPermission" {
		t.Errorf("unwrap: got %v, want no permission", e)
	}
	agent.Policies = []emul.Policy{}
	s.SetCredential(agent)
	if _, err := c.Generate(t.Context(), context); kmsError(t, err).Class != seal.Revoked {
		t.Errorf("without rights: got %v, want revoked", err)
	}
	if k.refreshes != 0 {
		t.Errorf("no permission had credentials refreshed %d times", k.refreshes)
	}

	// The access key is disabled, and a new one is there.
	agent.Policies, agent.Disabled = nil, true
	s.SetCredential(agent)
	k.next = goodKeys()
	if _, err := c.Generate(t.Context(), context); err != nil || k.refreshes != 1 {
		t.Errorf("a new access key: got %v after %d refreshes, want 1", err, k.refreshes)
	}

	s.SetClock(-time.Hour)
	if _, err := c.Generate(t.Context(), context); kmsError(t, err).Class != seal.Outage {
		t.Errorf("an hour ahead: got %v, want an outage", err)
	} else if !strings.Contains(err.Error(), "clock") {
		t.Errorf("the clock is not named in %v", err)
	}
}

// reEncrypt has the KMS wrap a data key again.
func reEncrypt(t *testing.T, endpoint string, r seal.Recipient, to emul.Key, context []byte) seal.Recipient {
	t.Helper()
	pairs, err := seal.ParseContext(context)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := json.Marshal(pairs)
	if err != nil {
		t.Fatal(err)
	}
	body := url.Values{"CiphertextBlob": {base64.StdEncoding.EncodeToString(r.Wrapped)}, "DestinationKeyId": {to.ARN},
		"SourceEncryptionContext": {string(ec)}, "DestinationEncryptionContext": {string(ec)}}.Encode()
	req, err := http.NewRequest("POST", endpoint+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("x-acs-action", "ReEncrypt")
	req.Header.Set("x-acs-version", "2016-01-20")
	alikms.Sign(req, []byte(body), testAK, testSecret, "", time.Now(), "re-encrypt-1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct{ CiphertextBlob []byte }
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || len(a.CiphertextBlob) == 0 {
		t.Fatalf("re-encrypt: HTTP %d, %v", resp.StatusCode, err)
	}
	return seal.Recipient{Type: seal.TypeAliKMS, KeyID: []byte(to.ARN), Wrapped: a.CiphertextBlob}
}
