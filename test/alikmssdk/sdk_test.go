// Package alikmssdk_test holds seal/alikms against Alibaba Cloud's own SDK for
// KMS: for one call both must make the same request. It is a module of its own,
// so that the SDK and what that needs stay out of the product's.
//
// With -update it records the SDK's requests anew, for seal/alikms to be tested
// by where the SDK is not.
package alikmssdk_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/aliyun/credentials-go/credentials"

	"sealtail/emul"
	"sealtail/internal/hidden"
	"sealtail/seal"
	"sealtail/seal/alikms"
)

var update = flag.Bool("update", false, "record the SDK's requests anew")

const recordings = "../../seal/alikms/testdata/sdk"

// An accessKey is credentials for both.
type accessKey struct{ id, secret, token string }

var lasting, temporary = accessKey{"LTAI5tExample", "ExampleSecret", ""}, accessKey{"STS.NTExample", "ExampleSecret2", "CAIS+Example/Token=="}

func (k accessKey) Get(context.Context) (id string, secret, token hidden.Text, err error) {
	return k.id, hidden.New(k.secret), hidden.New(k.token), nil
}

func (k accessKey) Refresh(ctx context.Context) (id string, secret, token hidden.Text, err error) {
	return k.Get(ctx)
}

func (k accessKey) GetCredential() (*credentials.CredentialModel, error) {
	kind := "access_key"
	if k.token != "" {
		kind = "sts"
	}
	return &credentials.CredentialModel{AccessKeyId: &k.id, AccessKeySecret: &k.secret, SecurityToken: &k.token, Type: &kind}, nil
}

func (k accessKey) GetAccessKeyId() (*string, error)     { return &k.id, nil }
func (k accessKey) GetAccessKeySecret() (*string, error) { return &k.secret, nil }
func (k accessKey) GetSecurityToken() (*string, error)   { return &k.token, nil }
func (k accessKey) GetBearerToken() *string              { return new(string) }
func (k accessKey) GetType() *string                     { return new(string) }

// A request is what matters of one.
type request struct {
	Host, Query, Body string
	Headers           map[string]string // that are signed, but for host
	Auth              string
}

func record(r *http.Request) (request, error) {
	body, err := io.ReadAll(r.Body)
	rec := request{Host: r.Host, Query: r.URL.RawQuery, Body: string(body), Headers: map[string]string{}, Auth: r.Header.Get("Authorization")}
	for name, values := range r.Header { // the SDK does not write names as net/http does
		if name = strings.ToLower(name); name == "content-type" || strings.HasPrefix(name, "x-acs-") {
			rec.Headers[name] = strings.Join(values, ",")
		}
	}
	return rec, err
}

// capture is an HTTP client for the SDK that records and sends nothing.
type capture struct{ got request }

var errCaptured = errors.New("captured")

func (c *capture) Call(r *http.Request, _ *http.Transport) (*http.Response, error) {
	var err error
	if r.Body == nil {
		r.Body = http.NoBody
	}
	if c.got, err = record(r); err != nil {
		return nil, err
	}
	return nil, errCaptured
}

// sdkRequest returns the request that the SDK makes for a call: by its own
// method, or with the parameters in the body.
func sdkRequest(t *testing.T, k accessKey, host, date, nonce, action string, parameters map[string]string, inQuery bool) request {
	t.Helper()
	c := &capture{}
	client, err := kms.NewClient(&openapiutil.Config{Credential: k, Endpoint: &host, HttpClient: c})
	if err != nil {
		t.Fatal(err)
	}
	runtime := &dara.RuntimeOptions{ExtendsParameters: &dara.ExtendsParameters{Headers: map[string]*string{
		"x-acs-date": &date, "x-acs-signature-nonce": &nonce,
	}}}
	var pairs map[string]any
	if p := parameters["EncryptionContext"]; p != "" {
		if err := json.Unmarshal([]byte(p), &pairs); err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case !inQuery:
		version, protocol, pathname, method, auth, style, form, kind := "2016-01-20", "HTTPS", "/", "POST", "AK", "RPC", "formData", "json"
		body := map[string]any{}
		for name, v := range parameters {
			body[name] = v
		}
		_, err = client.CallApi(&openapiutil.Params{Action: &action, Version: &version, Protocol: &protocol, Pathname: &pathname,
			Method: &method, AuthType: &auth, Style: &style, ReqBodyType: &form, BodyType: &kind},
			&openapiutil.OpenApiRequest{Body: body}, runtime)
	case action == "GenerateDataKey":
		var n int32 = 32
		_, err = client.GenerateDataKeyWithOptions(&kms.GenerateDataKeyRequest{
			KeyId: dara.String(parameters["KeyId"]), NumberOfBytes: &n, EncryptionContext: pairs}, runtime)
	case action == "Decrypt":
		_, err = client.DecryptWithOptions(&kms.DecryptRequest{
			CiphertextBlob: dara.String(parameters["CiphertextBlob"]), EncryptionContext: pairs}, runtime)
	case action == "DescribeKey":
		_, err = client.DescribeKeyWithOptions(&kms.DescribeKeyRequest{KeyId: dara.String(parameters["KeyId"])}, runtime)
	}
	if c.got.Auth == "" {
		t.Fatalf("the SDK made no request: %v", err)
	}
	return c.got
}

// calls are one of each kind that alikms makes.
var calls = []struct {
	action string
	make   func(context.Context, *alikms.Client) error
}{
	{"GenerateDataKey", func(ctx context.Context, c *alikms.Client) error {
		_, err := c.Generate(ctx, pairs)
		return err
	}},
	{"Decrypt", func(ctx context.Context, c *alikms.Client) error {
		_, err := c.Unwrap(ctx, seal.Recipient{Type: seal.TypeAliKMS, KeyID: []byte(keyID), Wrapped: []byte("\xfb\xef\xbe some blob ~*")}, pairs)
		return err
	}},
	{"DescribeKey", func(ctx context.Context, c *alikms.Client) error {
		_, err := c.Describe(ctx, keyID)
		return err
	}},
}

const keyID = "acs:kms:cn-hangzhou:1234567890123456:key/key-hzz62f1cb66fa42qo1234"

var pairs = must(seal.EncodeContext(seal.Context{"project": "prod-logs", "logstore": "a b*c~d+é/=&"}))

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// For the same call, key, nonce and second, both make the same request.
func TestSameRequest(t *testing.T) {
	for _, k := range []accessKey{lasting, temporary} {
		for _, inQuery := range []bool{false, true} {
			for _, call := range calls {
				name := call.action + map[bool]string{true: "-query", false: "-form"}[inQuery] + map[bool]string{true: "-sts", false: ""}[k.token != ""]
				t.Run(name, func(t *testing.T) {
					var ours request
					s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						var err error
						if ours, err = record(r); err != nil {
							t.Error(err)
						}
					}))
					defer s.Close()
					const host = "kms.cn-hangzhou.aliyuncs.com"
					c, err := alikms.New(alikms.Options{Endpoint: "http://" + host, DialAddress: s.Listener.Addr().String(),
						KeyID: keyID, Allow: []string{keyID}, Credentials: k, QueryParameters: inQuery})
					if err != nil {
						t.Fatal(err)
					}
					_ = call.make(t.Context(), c) // there is no answer
					parameters := map[string]string{}
					values, err := url.ParseQuery(ours.Query + "&" + ours.Body)
					if err != nil {
						t.Fatal(err)
					}
					for name := range values {
						parameters[name] = values.Get(name)
					}
					theirs := sdkRequest(t, k, host, ours.Headers["x-acs-date"], ours.Headers["x-acs-signature-nonce"], call.action, parameters, inQuery)
					if ours.Auth != theirs.Auth || ours.Host != theirs.Host || ours.Body != theirs.Body || !maps.Equal(ours.Headers, theirs.Headers) {
						t.Errorf("alikms:\n%+v\nSDK:\n%+v", ours, theirs)
					}
				})
			}
		}
	}
}

// What either has made, the other opens.
func TestBothAccepted(t *testing.T) {
	const id, secret = "LTAI5tExample", "ExampleSecret"
	e := emul.New(emul.Options{AccessKeyID: id, AccessKeySecret: secret})
	defer e.Close()
	s := httptest.NewServer(e.KMS())
	defer s.Close()
	cmk, err := e.SetKey(emul.Key{Spec: emul.SM4})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := alikms.New(alikms.Options{Endpoint: s.URL, KeyID: cmk.ARN, Allow: []string{cmk.ARN}, Credentials: accessKey{id, secret, ""}})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := kms.NewClient(&openapiutil.Config{AccessKeyId: dara.String(id), AccessKeySecret: dara.String(secret),
		Endpoint: dara.String(strings.TrimPrefix(s.URL, "http://")), Protocol: dara.String("http")})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := seal.ParseContext(pairs)
	if err != nil {
		t.Fatal(err)
	}
	encryptionContext := map[string]any{}
	for k, v := range parsed {
		encryptionContext[k] = v
	}

	d, err := ours.Generate(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := theirs.Decrypt(&kms.DecryptRequest{
		CiphertextBlob: dara.String(base64.StdEncoding.EncodeToString(d.Recipients[0].Wrapped)), EncryptionContext: encryptionContext})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *opened.Body.Plaintext, base64.StdEncoding.EncodeToString(d.Plain.Bytes()); got != want {
		t.Errorf("the SDK opened %s, want %s", got, want)
	}

	var n int32 = 32
	made, err := theirs.GenerateDataKey(&kms.GenerateDataKeyRequest{KeyId: &cmk.ARN, NumberOfBytes: &n, EncryptionContext: encryptionContext})
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := base64.StdEncoding.DecodeString(*made.Body.CiphertextBlob)
	if err != nil {
		t.Fatal(err)
	}
	dek, err := ours.Unwrap(t.Context(), seal.Recipient{Type: seal.TypeAliKMS, KeyID: []byte(*made.Body.KeyId), Wrapped: wrapped}, pairs)
	if got, want := base64.StdEncoding.EncodeToString(dek.Bytes()), *made.Body.Plaintext; err != nil || got != want {
		t.Errorf("alikms opened %s, %v, want %s", got, err, want)
	}

	described, err := theirs.DescribeKey(&kms.DescribeKeyRequest{KeyId: &cmk.ID})
	if err != nil {
		t.Fatal(err)
	}
	k, err := ours.Describe(t.Context(), cmk.ID)
	if m := described.Body.KeyMetadata; err != nil || k.ARN != *m.Arn || k.State != *m.KeyState || k.Spec != *m.KeySpec ||
		k.ProtectionLevel != *m.ProtectionLevel || k.DeletionProtection != *m.DeletionProtection {
		t.Errorf("alikms got %+v, %v, the SDK %v", k, err, m)
	}
}

// A recording is a request of the SDK's with what it was made from.
type recording struct {
	request
	Parameters               map[string]string
	AccessKey, Secret, Token string
}

func TestRecordings(t *testing.T) {
	const context = `{"fmt":"SE1","logstore":"a b*c~d+é/=&","project":"prod-logs"}`
	parameters := map[string]map[string]string{
		"GenerateDataKey": {"KeyId": keyID, "NumberOfBytes": "32", "EncryptionContext": context},
		"Decrypt":         {"CiphertextBlob": "++++/3NvbWUgYmxvYg==", "EncryptionContext": context},
		"DescribeKey":     {"KeyId": "alias/seal"},
	}
	var names []string
	for action, p := range parameters {
		for _, k := range []accessKey{lasting, temporary} {
			for _, inQuery := range []bool{false, true} {
				got := recording{Parameters: p, AccessKey: k.id, Secret: k.secret, Token: k.token}
				got.request = sdkRequest(t, k, "kms.cn-hangzhou.aliyuncs.com", "2026-11-25T20:00:00Z", "3156853299f313e23d1673dc12e1703d", action, p, inQuery)
				name := action + map[bool]string{true: "-query", false: "-form"}[inQuery] + map[bool]string{true: "-sts", false: ""}[k.token != ""] + ".json"
				names = append(names, name)
				b, err := json.MarshalIndent(got, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				b = append(b, '\n')
				file := filepath.Join(recordings, name)
				if *update {
					if err := os.WriteFile(file, b, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(file); err != nil || string(b) != string(want) {
					t.Errorf("%s: got %s, want %s, %v", name, b, want, err)
				}
			}
		}
	}
	there, err := filepath.Glob(recordings + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range there {
		if !slices.Contains(names, filepath.Base(file)) {
			t.Errorf("%s is recorded by nobody", file)
		}
	}
}
