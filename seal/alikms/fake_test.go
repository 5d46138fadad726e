package alikms_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sealtail/internal/hidden"
	"sealtail/seal"
	"sealtail/seal/alikms"
)

func TestMain(m *testing.M) {
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // which nobody may heed
	goleak.VerifyTestMain(m)
}

const (
	testID    = "key-hzz62f1cb66fa42qo1234"
	testARN   = "acs:kms:cn-hangzhou:1234567890123456:key/" + testID
	testAlias = "alias/seal"
	otherID   = "0d8c0b7a-8c2f-4d6e-9b5f-1e2d3c4b5a69"
	otherARN  = "acs:kms:cn-hangzhou:1234567890123456:key/" + otherID

	testAK     = "LTAI5tTestTestTestTest01"
	testSecret = "canary-secret-Zm9vYmFyYmF6"
)

// fake is a KMS that checks its caller.
type fake struct {
	t       testing.TB
	secrets map[string]string // by access key
	tokens  map[string]string
	block   cipher.AEAD

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, action string, p url.Values) bool // true = answered
	nonces map[string]bool
	calls  []string      // actions, in order
	seen   bytes.Buffer  // all URLs
	last   url.Values    // parameters
	skew   time.Duration // of its clock
}

func newFake(t testing.TB) *fake {
	key := make([]byte, 32)
	rand.Read(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		t.Fatal(err)
	}
	return &fake{t: t, block: aead, nonces: map[string]bool{},
		secrets: map[string]string{testAK: testSecret}, tokens: map[string]string{}}
}

func (f *fake) set(answer func(w http.ResponseWriter, r *http.Request, action string, p url.Values) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fake) actions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// refuse writes an error as the service does.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"HttpStatus":%d,"Code":%q,"Message":%q,"RequestId":"475f1620-b9d3-4d35-b5c6-3fbdd941423d","HostId":"kms"}`, status, code, message)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintln(&f.seen, r.URL, r.Header)
	w.Header().Set("Date", time.Now().Add(f.skew).UTC().Format(http.TimeFormat))
	if code := f.verify(r, body); code != "" {
		refuse(w, 400, code, "StringToSign: "+r.URL.String()+string(body))
		return
	}
	p, err := url.ParseQuery(r.URL.RawQuery + "&" + string(body))
	if err != nil {
		refuse(w, 400, "InvalidParameter", "no form")
		return
	}
	action := r.Header.Get("x-acs-action")
	f.calls, f.last = append(f.calls, action), p
	if f.answer != nil && f.answer(w, r, action, p) {
		return
	}
	f.serve(w, action, p)
}

// verify checks a request as the published rules say, without the client's
// code. It returns the error code, or "".
func (f *fake) verify(r *http.Request, body []byte) string {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "ACS3-HMAC-SHA256 Credential=")
	id, rest, ok1 := strings.Cut(rest, ",SignedHeaders=")
	names, signature, ok2 := strings.Cut(rest, ",Signature=")
	if !ok || !ok1 || !ok2 {
		return "IncompleteSignature"
	}
	secret, ok := f.secrets[id]
	if !ok {
		return "InvalidAccessKeyId.NotFound"
	}
	if r.Header.Get("x-acs-security-token") != f.tokens[id] {
		return "InvalidSecurityToken.Mismatch"
	}
	signed := strings.Split(names, ";")
	if !slices.IsSorted(signed) {
		return "IncompleteSignature"
	}
	must := []string{"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-acs-") || name == "content-type" {
			must = append(must, name)
		}
	}
	for _, name := range must {
		if !slices.Contains(signed, name) {
			return "IncompleteSignature"
		}
	}
	if r.Header.Get("x-acs-content-sha256") != fmt.Sprintf("%x", sha256.Sum256(body)) {
		return "SignatureDoesNotMatch"
	}
	var query []string
	for _, pair := range strings.Split(r.URL.RawQuery, "&") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			k, _ = url.QueryUnescape(k)
			v, _ = url.QueryUnescape(v)
			query = append(query, rfc3986(k)+"="+rfc3986(v))
		}
	}
	slices.Sort(query)
	canonical := r.Method + "\n/\n" + strings.Join(query, "&") + "\n"
	for _, name := range signed {
		v := r.Header.Get(name)
		if name == "host" {
			v = r.Host
		}
		canonical += name + ":" + strings.TrimSpace(v) + "\n"
	}
	canonical += "\n" + names + "\n" + r.Header.Get("x-acs-content-sha256")
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "ACS3-HMAC-SHA256\n%x", sha256.Sum256([]byte(canonical)))
	if fmt.Sprintf("%x", mac.Sum(nil)) != signature {
		return "SignatureDoesNotMatch"
	}
	date, err := time.Parse("2006-01-02T15:04:05Z", r.Header.Get("x-acs-date"))
	if err != nil {
		return "IllegalTimestamp"
	}
	if d := time.Since(date) + f.skew; d > 15*time.Minute || d < -15*time.Minute {
		return "InvalidTimeStamp.Expired"
	}
	if nonce := r.Header.Get("x-acs-signature-nonce"); len(nonce) < 16 || f.nonces[nonce] {
		return "SignatureNonceUsed"
	} else {
		f.nonces[nonce] = true
	}
	return ""
}

// rfc3986 escapes all but unreserved characters.
func rfc3986(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// serve does the work: a wrapped data key is ID ‖ 00 ‖ what AES-GCM makes of
// it, with the context as additional data.
func (f *fake) serve(w http.ResponseWriter, action string, p url.Values) {
	var pairs map[string]string
	if err := json.Unmarshal([]byte(p.Get("EncryptionContext")), &pairs); err != nil && action != "DescribeKey" {
		refuse(w, 400, "InvalidParameter", "EncryptionContext")
		return
	}
	var aad []byte
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		aad = fmt.Appendf(aad, "%q%q", k, pairs[k])
	}
	id := p.Get("KeyId")
	switch id {
	case testARN, testAlias:
		id = testID
	case otherARN:
		id = otherID
	case testID, otherID:
	case "":
		if action == "Decrypt" {
			break
		}
		fallthrough
	default:
		refuse(w, 404, "Forbidden.KeyNotFound", "The specified Key is not found.")
		return
	}
	switch action {
	case "GenerateDataKey":
		if p.Get("NumberOfBytes") != "32" {
			refuse(w, 400, "InvalidParameter", "NumberOfBytes")
			return
		}
		dek := make([]byte, 32)
		rand.Read(dek)
		reply(w, map[string]any{"KeyId": id, "KeyVersionId": "v1", "Plaintext": dek,
			"CiphertextBlob": f.block.Seal([]byte(id+"\x00"), nil, dek, aad)})
	case "Decrypt":
		var blob []byte
		if err := json.Unmarshal(fmt.Appendf(nil, "%q", p.Get("CiphertextBlob")), &blob); err != nil {
			refuse(w, 400, "InvalidParameter", "CiphertextBlob")
			return
		}
		by, ct, _ := bytes.Cut(blob, []byte{0})
		dek, err := f.block.Open(nil, nil, ct, aad)
		if err != nil {
			refuse(w, 400, "InvalidParameter", "The specified parameter CiphertextBlob "+p.Get("CiphertextBlob")+" is not valid.")
			return
		}
		reply(w, map[string]any{"KeyId": string(by), "KeyVersionId": "v1", "Plaintext": dek})
	case "DescribeKey":
		reply(w, map[string]any{"KeyMetadata": map[string]any{"KeyId": id, "Arn": strings.TrimSuffix(testARN, testID) + id,
			"KeyState": "Enabled", "KeySpec": "Aliyun_SM4", "KeyUsage": "ENCRYPT/DECRYPT", "Origin": "Aliyun_KMS",
			"ProtectionLevel": "HSM", "DeletionProtection": "Enabled", "DKMSInstanceId": "kst-1"}})
	default:
		refuse(w, 400, "UnsupportedOperation", "The specified action is not supported.")
	}
}

func reply(w http.ResponseWriter, v map[string]any) {
	v["RequestId"] = "475f1620-b9d3-4d35-b5c6-3fbdd941423d"
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// keys are credentials by script.
type keys struct {
	mu                sync.Mutex
	id, secret, token string
	next              *keys // what Refresh finds; nil = the same
	err, refreshErr   error
	refreshes         int
}

func (k *keys) Get(context.Context) (id string, secret, token hidden.Text, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.id, hidden.New(k.secret), hidden.New(k.token), k.err
}

func (k *keys) Refresh(context.Context) (id string, secret, token hidden.Text, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refreshes++
	if k.next != nil {
		k.id, k.secret, k.token = k.next.id, k.next.secret, k.next.token
	}
	return k.id, hidden.New(k.secret), hidden.New(k.token), k.refreshErr
}

func goodKeys() *keys { return &keys{id: testAK, secret: testSecret} }

// start serves f over plain HTTP and returns a client of it.
func start(t testing.TB, f *fake, change ...func(*alikms.Options)) *alikms.Client {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return client(t, s.URL, change...)
}

func client(t testing.TB, endpoint string, change ...func(*alikms.Options)) *alikms.Client {
	t.Helper()
	o := alikms.Options{Endpoint: endpoint, KeyID: testARN, Allow: []string{testARN}, Credentials: goodKeys(), Timeout: time.Minute}
	for _, c := range change {
		c(&o)
	}
	c, err := alikms.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testContext(t testing.TB, pairs ...string) []byte {
	t.Helper()
	c := seal.Context{"project": "prod-logs", "logstore": `a "<&>" ü`}
	for i := 0; i < len(pairs); i += 2 {
		c[pairs[i]] = pairs[i+1]
	}
	b, err := seal.EncodeContext(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
