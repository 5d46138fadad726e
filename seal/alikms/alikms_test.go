package alikms_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sealtail/seal"
	"sealtail/seal/alikms"
)

func kmsError(t testing.TB, err error) *seal.KMSError {
	t.Helper()
	e, ok := errors.AsType[*seal.KMSError](err)
	if !ok {
		t.Fatalf("got %v, want a KMSError", err)
	}
	return e
}

// What is generated opens again, with any way of naming the CMK and of sending
// parameters.
func TestGenerateUnwrap(t *testing.T) {
	for _, tt := range []struct {
		name, keyID, allow, wire string
		inQuery                  bool
	}{
		{"ARN", testARN, testARN, testARN, false},
		{"ARN, in the URL", testARN, testARN, testARN, true},
		{"ARN, allowed by id", testARN, testID, testARN, false},
		{"id", testID, testID, testID, false},
		{"id, allowed by ARN", testID, testARN, testID, false},
		{"alias", testAlias, testARN, testID, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			c := start(t, f, func(o *alikms.Options) {
				o.KeyID, o.Allow, o.QueryParameters = tt.keyID, []string{otherARN, tt.allow}, tt.inQuery
			})
			context := testContext(t)
			d, err := c.Generate(t.Context(), context)
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Plain.Bytes()) != 32 || len(d.Recipients) != 1 {
				t.Fatalf("got %d bytes for %d, want 32 for 1", len(d.Plain.Bytes()), len(d.Recipients))
			}
			r := d.Recipients[0]
			if r.Type != seal.TypeAliKMS || string(r.KeyID) != tt.wire {
				t.Errorf("got type %d, key id %s, want 1, %s", r.Type, r.KeyID, tt.wire)
			}
			if text := f.last.Get("EncryptionContext"); !strings.Contains(text, "<&>") {
				t.Errorf("context: got %s, which takes more characters than it need", text)
			}
			var pairs map[string]string
			if err := json.Unmarshal([]byte(f.last.Get("EncryptionContext")), &pairs); err != nil {
				t.Fatal(err)
			}
			if want := `map[fmt:SE1 logstore:a "<&>" ü project:prod-logs]`; fmt.Sprint(pairs) != want {
				t.Errorf("context: got %v, want %s", pairs, want)
			}
			dek, err := c.Unwrap(t.Context(), r, context)
			if err != nil || !bytes.Equal(dek.Bytes(), d.Plain.Bytes()) {
				t.Errorf("unwrap: got %x, %v, want %x", dek.Bytes(), err, d.Plain.Bytes())
			}
			_, err = c.Unwrap(t.Context(), r, testContext(t, "logstore", "other"))
			if e := kmsError(t, err); e.Class != seal.Misfit || e.Code != "InvalidParameter" {
				t.Errorf("in another context: got %v", e)
			} else if blob := base64.StdEncoding.EncodeToString(r.Wrapped); strings.Contains(err.Error(), blob[:40]) {
				t.Errorf("the wrapped data key is in %v", err)
			}
			if got := strings.Contains(f.seen.String(), "CiphertextBlob"); got != tt.inQuery {
				t.Errorf("the wrapped data key in a URL: got %v, want %v", got, tt.inQuery)
			}
		})
	}
}

// A recipient is unsigned: what it says must not have the KMS asked for more
// than was allowed, nor another data key taken for its own.
func TestUnwrapAllowList(t *testing.T) {
	f := newFake(t)
	other := start(t, f, func(o *alikms.Options) { o.KeyID = otherARN })
	mine := start(t, f)
	context := testContext(t)
	d, err := other.Generate(t.Context(), context)
	if err != nil {
		t.Fatal(err)
	}
	r := d.Recipients[0]
	before := len(f.actions())
	for _, tt := range []struct {
		name  string
		typ   uint8
		keyID string
	}{
		{"another key", 1, otherARN},
		{"another key by id", 1, otherID},
		{"another region", 1, strings.Replace(testARN, "hangzhou", "beijing", 1)},
		{"another account", 1, strings.Replace(testARN, "1234567890123456", "6543210987654321", 1)},
		{"an alias", 1, testAlias},
		{"nothing", 1, ""},
		{"a part", 1, testID[:10]},
		{"an ARN without its id", 1, strings.TrimSuffix(testARN, testID)},
		{"another type", 5, testARN},
		{"the reserved type", 2, testARN},
	} {
		r.Type, r.KeyID = tt.typ, []byte(tt.keyID)
		if dek, err := mine.Unwrap(t.Context(), r, context); !errors.Is(err, seal.ErrNotMine) || dek.Bytes() != nil {
			t.Errorf("%s: got %x, %v, want ErrNotMine", tt.name, dek.Bytes(), err)
		}
	}
	if after := len(f.actions()); after != before {
		t.Errorf("the KMS was asked %d times", after-before)
	}

	// The recipient lies: it names a key on the list, the blob is another's.
	for _, id := range []string{testARN, testID} {
		r.Type, r.KeyID = 1, []byte(id)
		dek, err := mine.Unwrap(t.Context(), r, context)
		if e := kmsError(t, err); e.Class != seal.Misfit || e.Code != "Answer" || dek.Bytes() != nil {
			t.Errorf("a lie: got %x, %v", dek.Bytes(), err)
		}
	}
	nobody := start(t, f, func(o *alikms.Options) { o.Allow = nil })
	r.KeyID = []byte(testARN)
	if _, err := nobody.Unwrap(t.Context(), r, context); !errors.Is(err, seal.ErrNotMine) {
		t.Errorf("no list: got %v, want ErrNotMine", err)
	}
}

func TestUnwrapRefusesBeforeCalling(t *testing.T) {
	f := newFake(t)
	c := start(t, f)
	for _, tt := range []struct {
		name    string
		wrapped int
		context []byte
		code    string
	}{
		{"no blob", 0, testContext(t), "Recipient"},
		{"a long blob", 8<<10 + 1, testContext(t), "Recipient"},
		{"no context", 100, nil, "Context"},
		{"a torn context", 100, []byte{0, 9}, "Context"},
	} {
		r := seal.Recipient{Type: 1, KeyID: []byte(testARN), Wrapped: make([]byte, tt.wrapped)}
		_, err := c.Unwrap(t.Context(), r, tt.context)
		if e := kmsError(t, err); e.Class != seal.Misfit || e.Code != tt.code {
			t.Errorf("%s: got %v, want a misfit with %s", tt.name, e, tt.code)
		}
	}
	for _, tt := range []struct {
		name, keyID, code string
		context           []byte
	}{
		{"no key", "", "NoKey", testContext(t)},
		{"a torn context", testARN, "Context", []byte{0}},
	} {
		c := start(t, f, func(o *alikms.Options) { o.KeyID = tt.keyID })
		_, err := c.Generate(t.Context(), tt.context)
		if e := kmsError(t, err); e.Class != seal.Misfit || e.Code != tt.code {
			t.Errorf("generate with %s: got %v, want a misfit with %s", tt.name, e, tt.code)
		}
	}
	if got := f.actions(); len(got) != 0 {
		t.Errorf("the KMS was asked: %v", got)
	}
}

func TestDescribe(t *testing.T) {
	f := newFake(t)
	c := start(t, f)
	want := alikms.Key{ID: testID, ARN: testARN, State: "Enabled", Spec: "Aliyun_SM4", Usage: "ENCRYPT/DECRYPT", Origin: "Aliyun_KMS",
		ProtectionLevel: "HSM", DeletionProtection: "Enabled", Instance: "kst-1"}
	for _, id := range []string{testID, testARN, testAlias} {
		if got, err := c.Describe(t.Context(), id); err != nil || got != want || !got.SM4() {
			t.Errorf("%s: got %+v, %v, want %+v", id, got, err, want)
		}
	}
	if _, err := c.Describe(t.Context(), "nobody"); kmsError(t, err).Code != "Forbidden.KeyNotFound" {
		t.Errorf("unknown: got %v", err)
	}
	for body, class := range map[string]seal.Class{
		`{}`: seal.Outage, `null`: seal.Outage, `{"KeyMetadata":{"KeyId":"` + otherID + `"}}`: seal.Misfit,
	} {
		f.set(func(w http.ResponseWriter, _ *http.Request, _ string, _ url.Values) bool {
			_, _ = w.Write([]byte(body))
			return true
		})
		if _, err := c.Describe(t.Context(), testID); kmsError(t, err).Class != class {
			t.Errorf("%s: got %v, want %v", body, err, class)
		}
	}
	if (alikms.Key{Spec: "Aliyun_AES_256"}).SM4() {
		t.Error("AES is SM4")
	}
}

// One row per row of the service's error table, and per status that says
// enough without a code.
func TestRefusals(t *testing.T) {
	const html = "<html><body><h1>Bad Gateway</h1></body></html>"
	for _, tt := range []struct {
		status    int
		code      string // "" = body instead
		body      string
		class     seal.Class
		throttled bool
	}{
		{409, "Rejected.Disabled", "", seal.Revoked, false},
		{409, "Rejected.PendingDeletion", "", seal.Revoked, false},
		{409, "Rejected.PendingImport", "", seal.Revoked, false},
		{409, "Rejected.Unavailable", "", seal.Outage, false},
		{409, "Rejected.StateModifiedFailed", "", seal.Outage, false},
		{429, "Rejected.Throttling", "", seal.Outage, true},
		{429, "", "", seal.Outage, true},
		{429, "Rejected.Disabled", "", seal.Outage, true}, // the status first
		{400, "Rejected.Throttling", "", seal.Outage, true},
		{400, "Throttling", "", seal.Outage, true},
		{400, "Throttling.User", "", seal.Outage, true},
		{400, "Throttling.Api", "", seal.Outage, true},
		{503, "Throttling.User", "", seal.Outage, true},
		{500, "InternalFailure", "", seal.Outage, false},
		{503, "ServiceUnavailableTemporary", "", seal.Outage, false},
		{503, "SerivceUnavailableTemporary", "", seal.Outage, false},
		{500, "Rejected.Disabled", "", seal.Outage, false}, // the status first
		{502, "", html, seal.Outage, false},
		{504, "", "", seal.Outage, false},
		{408, "", "", seal.Outage, false},
		{407, "", html, seal.Outage, false},
		{404, "Forbidden.KeyNotFound", "", seal.Revoked, false},
		{404, "Forbidden.AliasNotFound", "", seal.Revoked, false},
		{403, "Forbidden.NoPermission", "", seal.Revoked, false},
		{403, "Forbidden.AccessKey", "", seal.Credentials, false},
		{403, "Forbidden.KmsServiceNotEnabled", "", seal.Outage, false},
		{403, "Forbidden.InDebt", "", seal.Outage, false},
		{403, "Forbidden.InDebtOverdue", "", seal.Outage, false},
		{403, "Forbidden.ProhibitedByRiskControl", "", seal.Outage, false},
		{403, "Forbidden.UbsmsInvalidStatus", "", seal.Outage, false},
		{404, "InvalidAccessKeyId.NotFound", "", seal.Credentials, false},
		{400, "InvalidAccessKeyId.Inactive", "", seal.Credentials, false},
		{400, "SignatureDoesNotMatch", "", seal.Credentials, false},
		{403, "SignatureDoesNotMatch", "", seal.Credentials, false},
		{400, "IncompleteSignature", "", seal.Credentials, false},
		{400, "InvalidSecurityToken.Expired", "", seal.Credentials, false},
		{403, "InvalidSecurityToken.Malformed", "", seal.Credentials, false},
		{401, "", html, seal.Credentials, false},
		{400, "InvalidTimeStamp.Expired", "", seal.Outage, false},
		{400, "IllegalTimestamp", "", seal.Outage, false},
		{400, "SignatureNonceUsed", "", seal.Outage, false},
		{400, "MissingParameter", "", seal.Misfit, false},
		{400, "InvalidParameter", "", seal.Misfit, false},
		{400, "InvalidParameter.KeyId", "", seal.Misfit, false},
		{400, "UnsupportedOperation", "", seal.Misfit, false},
		{400, "Unsupported.KeySpec", "", seal.Misfit, false},
		{400, "ParseRequestParameterException", "", seal.Misfit, false},
		{400, "Rejected.LimitExceeded", "", seal.Misfit, false},
		{400, "DryRunOperationError", "", seal.Unknown, false},
		{409, "Rejected.SomethingNew", "", seal.Unknown, false},
		{403, "Forbidden.SomethingNew", "", seal.Unknown, false},
		{403, "", html, seal.Unknown, false},
		{404, "", html, seal.Unknown, false},
		{418, "", "", seal.Unknown, false},
		{400, "", `{"Code":["Rejected.Disabled"]}`, seal.Unknown, false},
		{400, "", `{"Code":"Rejected.Disabled"`, seal.Unknown, false},
		{301, "", html, seal.Outage, false},
		{204, "", "", seal.Outage, false},
		{200, "", html, seal.Outage, false},
		{200, "", "", seal.Outage, false},
	} {
		t.Run(fmt.Sprintf("%d %s", tt.status, tt.code), func(t *testing.T) {
			f := newFake(t)
			k := goodKeys()
			c := start(t, f, func(o *alikms.Options) { o.Credentials = k })
			f.set(func(w http.ResponseWriter, _ *http.Request, _ string, _ url.Values) bool {
				if tt.code != "" {
					refuse(w, tt.status, tt.code, "The message.")
				} else {
					w.WriteHeader(tt.status)
					_, _ = w.Write([]byte(tt.body))
				}
				return true
			})
			d, err := c.Generate(t.Context(), testContext(t))
			e := kmsError(t, err)
			if e.Class != tt.class || e.Throttled != tt.throttled {
				t.Errorf("got %v, throttled %v, want %v, %v: %v", e.Class, e.Throttled, tt.class, tt.throttled, e)
			}
			code := tt.code
			switch {
			case code == "" && tt.status == 200:
				code = "Answer"
			case code == "":
				code = fmt.Sprintf("HTTP%d", tt.status)
			}
			if e.Code != code {
				t.Errorf("got code %q, want %q", e.Code, code)
			}
			if d.Plain.Bytes() != nil {
				t.Error("a data key came with an error")
			}
			refreshes := 0
			if tt.class == seal.Credentials {
				refreshes = 1
			}
			if k.refreshes != refreshes || len(f.actions()) != 1 {
				t.Errorf("got %d refreshes and %d calls, want %d and 1", k.refreshes, len(f.actions()), refreshes)
			}
			text := err.Error()
			if tt.code != "" && tt.class != seal.Credentials && !strings.Contains(text, "Timestamp") && !strings.Contains(text, "TimeStamp") &&
				!strings.Contains(text, "The message.") {
				t.Errorf("the message is not in %q", text)
			}
			if tt.code != "" && !strings.Contains(text, "475f1620-b9d3-4d35-b5c6-3fbdd941423d") {
				t.Errorf("the request id is not in %q", text)
			}
			if strings.Contains(text, "html") || strings.Contains(text, "http") || strings.Contains(text, testAK) {
				t.Errorf("too much is in %q", text)
			}
		})
	}
}

// A refused access key is looked up once; a changed one is tried once.
func TestRefreshOfCredentials(t *testing.T) {
	errSource := errors.New("source is down")
	for _, tt := range []struct {
		name      string
		keys      *keys
		class     seal.Class
		code      string
		calls     int // that the service took
		refreshes int
	}{
		{"good", goodKeys(), 0, "", 1, 0},
		{"temporary", &keys{id: "STS.1", secret: "s", token: "tok+/="}, 0, "", 1, 0},
		{"wrong secret, changed", &keys{id: testAK, secret: "old", next: goodKeys()}, 0, "", 1, 1},
		{"unknown id, changed", &keys{id: "LTAIold", secret: "old", next: goodKeys()}, 0, "", 1, 1},
		{"wrong token, changed", &keys{id: "STS.1", secret: "s", token: "old", next: &keys{id: "STS.1", secret: "s", token: "tok+/="}}, 0, "", 1, 1},
		{"wrong secret, unchanged", &keys{id: testAK, secret: "old"}, seal.Credentials, "SignatureDoesNotMatch", 0, 1},
		{"changed for another wrong one", &keys{id: testAK, secret: "old", next: &keys{id: testAK, secret: "older"}}, seal.Credentials, "SignatureDoesNotMatch", 0, 1},
		{"source down at the refresh", &keys{id: testAK, secret: "old", refreshErr: errSource}, seal.Outage, "NoCredentials", 0, 1},
		{"source down", &keys{err: errSource}, seal.Outage, "NoCredentials", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.secrets["STS.1"], f.tokens["STS.1"] = "s", "tok+/="
			c := start(t, f, func(o *alikms.Options) { o.Credentials = tt.keys })
			_, err := c.Generate(t.Context(), testContext(t))
			if tt.code == "" && err != nil {
				t.Fatal(err)
			}
			if tt.code != "" {
				e := kmsError(t, err)
				if e.Class != tt.class || e.Code != tt.code {
					t.Errorf("got %v, want %v (%s)", e, tt.class, tt.code)
				}
				if tt.class == seal.Outage && !errors.Is(err, errSource) {
					t.Errorf("the source's error is not in %v", err)
				}
				if strings.Contains(err.Error(), "StringToSign") {
					t.Errorf("what was signed is in %v", err)
				}
			}
			if tt.keys.refreshes != tt.refreshes || len(f.actions()) != tt.calls {
				t.Errorf("got %d refreshes, %d calls, want %d, %d", tt.keys.refreshes, len(f.actions()), tt.refreshes, tt.calls)
			}
		})
	}
}

func TestClockSkew(t *testing.T) {
	for _, tt := range []struct {
		skew time.Duration
		want string
	}{
		{20 * time.Minute, "this host's clock is 20m0s behind the service's; set it right"},
		{-48 * time.Hour, "this host's clock is 48h0m0s ahead of the service's; set it right"},
	} {
		f := newFake(t)
		f.skew = tt.skew
		c := start(t, f)
		_, err := c.Generate(t.Context(), testContext(t))
		e := kmsError(t, err)
		// A second may pass on the way.
		near := strings.NewReplacer("20m1s", "20m0s", "19m59s", "20m0s", "47h59m59s", "48h0m0s", "48h0m1s", "48h0m0s").Replace(err.Error())
		if e.Class != seal.Outage || e.Code != "InvalidTimeStamp.Expired" || !strings.Contains(near, tt.want) {
			t.Errorf("got %v, want an outage with %q", err, tt.want)
		}
	}
}

// Answers that are the service's, but wrong.
func TestWrongAnswers(t *testing.T) {
	dek := bytes.Repeat([]byte{7}, 32)
	blob := []byte("blob")
	for _, tt := range []struct {
		name  string
		body  any
		class seal.Class
		only  string // the action it is wrong for; "" = both
	}{
		{"another key", map[string]any{"KeyId": otherID, "Plaintext": dek, "CiphertextBlob": blob}, seal.Misfit, ""},
		{"another key's ARN", map[string]any{"KeyId": otherARN, "Plaintext": dek, "CiphertextBlob": blob}, seal.Misfit, ""},
		{"no key", map[string]any{"Plaintext": dek, "CiphertextBlob": blob}, seal.Outage, ""},
		{"31 bytes", map[string]any{"KeyId": testID, "Plaintext": dek[:31], "CiphertextBlob": blob}, seal.Misfit, ""},
		{"33 bytes", map[string]any{"KeyId": testID, "Plaintext": append(dek, 1), "CiphertextBlob": blob}, seal.Misfit, ""},
		{"no plaintext", map[string]any{"KeyId": testID, "CiphertextBlob": blob}, seal.Outage, ""},
		{"no blob", map[string]any{"KeyId": testID, "Plaintext": dek}, seal.Outage, "GenerateDataKey"},
		{"a long blob", map[string]any{"KeyId": testID, "Plaintext": dek, "CiphertextBlob": make([]byte, 8<<10+1)}, seal.Misfit, "GenerateDataKey"},
		{"no base64", map[string]any{"KeyId": testID, "Plaintext": "*", "CiphertextBlob": blob}, seal.Outage, ""},
		{"a number", map[string]any{"KeyId": testID, "Plaintext": 1, "CiphertextBlob": blob}, seal.Outage, ""},
		{"null", nil, seal.Outage, ""},
		{"nothing", struct{}{}, seal.Outage, ""},
		{"a list", []string{"a"}, seal.Outage, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			c := start(t, f)
			f.set(func(w http.ResponseWriter, _ *http.Request, _ string, _ url.Values) bool {
				_ = json.NewEncoder(w).Encode(tt.body)
				return true
			})
			if tt.only != "Decrypt" {
				d, err := c.Generate(t.Context(), testContext(t))
				if e := kmsError(t, err); e.Class != tt.class || e.Code != "Answer" || d.Plain.Bytes() != nil {
					t.Errorf("generate: got %v, want %v", err, tt.class)
				}
			}
			if tt.only != "GenerateDataKey" {
				r := seal.Recipient{Type: 1, KeyID: []byte(testARN), Wrapped: blob}
				dek, err := c.Unwrap(t.Context(), r, testContext(t))
				if e := kmsError(t, err); e.Class != tt.class || e.Code != "Answer" || dek.Bytes() != nil {
					t.Errorf("unwrap: got %v, want %v", err, tt.class)
				}
			}
		})
	}
}

func TestSameKey(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{testID, testID, true},
		{testARN, testARN, true},
		{testARN, testID, true},
		{testID, testARN, true},
		{testID, otherID, false},
		{testARN, otherARN, false},
		{testARN, otherID, false},
		{testARN, strings.Replace(testARN, "hangzhou", "beijing", 1), false},
		{"", "", false},
		{"", testARN, false},
		{"acs:kms:r:a:key/", "", false},
		{testARN, "key/" + testID, false},
	} {
		if got := alikms.SameKey(tt.a, tt.b); got != tt.want {
			t.Errorf("%q, %q: got %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// Either way of naming the CMK on the wire finds it.
func TestUnwrapNames(t *testing.T) {
	f := newFake(t)
	c := start(t, f)
	context := testContext(t)
	d, err := c.Generate(t.Context(), context)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{testARN, testID} {
		r := d.Recipients[0]
		r.KeyID = []byte(id)
		if dek, err := c.Unwrap(t.Context(), r, context); err != nil || !bytes.Equal(dek.Bytes(), d.Plain.Bytes()) {
			t.Errorf("%s: got %x, %v", id, dek.Bytes(), err)
		}
	}
	if got, want := f.actions(), []string{"GenerateDataKey", "Decrypt", "Decrypt"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDecodePlaintext(t *testing.T) {
	for _, tt := range []struct {
		json, want string
		ok         bool
	}{
		{`"aGVsbG8="`, "hello", true},
		{`"aGVsbG8\u003d"`, "hello", true},
		{`"\/\/\/\/"`, "\xff\xff\xff", true},
		{`"\u002b\u002B++"`, "\xfb\xef\xbe", true},
		{`""`, "", true},
		{`"aGVsbG8"`, "", false},
		{`"aGVsbG8\u00e9"`, "", false},
		{`"aGVs\n"`, "", false},
		{`"\u20"`, "", false},
		{`null`, "", false},
		{`12`, "", false},
		{`[]`, "", false},
	} {
		if got, ok := alikms.DecodePlaintext([]byte(tt.json)); string(got) != tt.want || ok != tt.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.json, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzDecodePlaintext(f *testing.F) {
	for _, s := range []string{`"aGVsbG8="`, `"\/\u002b=="`, `""`, `"`, `null`, `"\u12"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := alikms.DecodePlaintext(b)
		var want []byte
		err := json.Unmarshal(b, &want)
		if ok && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("%q: got %x, encoding/json %x, %v", b, got, want, err)
		}
		if !ok && err == nil && bytes.HasPrefix(bytes.TrimSpace(b), []byte(`"`)) && !bytes.Contains(b, []byte(`\`)) {
			t.Errorf("%q: refused, encoding/json got %x", b, want)
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("The specified Key is not found.", "secret", "token")
	f.Add("string to sign is: POST\n/\nxsecretx", "secret", "")
	f.Add(strings.Repeat("a", 300)+" "+strings.Repeat("b c ", 300), "s", "t")
	f.Fuzz(func(t *testing.T, message, secret, token string) {
		got := alikms.Clean(message, secret, token)
		if len(got) > 300 || strings.ContainsAny(got, "\n\r\x00\x1b") {
			t.Errorf("got %q", got)
		}
		for _, s := range []string{secret, token} {
			if printable(s) && strings.Contains(got, s) {
				t.Errorf("%q is in %q", s, got)
			}
		}
	})
}

// printable reports that s could be a secret of a service's.
func printable(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

func BenchmarkGenerate(b *testing.B) {
	c := start(b, newFake(b))
	context := testContext(b)
	for b.Loop() {
		if _, err := c.Generate(b.Context(), context); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnwrap(b *testing.B) {
	c := start(b, newFake(b))
	context := testContext(b)
	d, err := c.Generate(b.Context(), context)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Unwrap(b.Context(), d.Recipients[0], context); err != nil {
			b.Fatal(err)
		}
	}
}
