package emul_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sealtail/emul"
)

// A client signs requests on its own, by the documents, and sends them to an
// emulator without sockets.
type client struct {
	t                 testing.TB
	s                 *emul.Server
	http              http.RoundTripper
	base              string // of SLS, with {project} for its name
	id, secret, token string
	version           string // v1, v1-sha256, v4
	region            string
	now               func() time.Time
	headers           map[string]string   // of every request to SLS
	mangle            func(*http.Request) // after signing
}

// newClient returns a client that may do everything, and its emulator with
// project "p".
func newClient(t testing.TB, o emul.Options) *client {
	t.Helper()
	s := emul.New(o)
	t.Cleanup(func() { s.Close() })
	s.AddProject("p")
	c := &client{t: t, s: s, http: s.Transport(), base: "http://{project}.sls.test", version: "v4", region: s.Region(), now: s.Now}
	c.id, c.secret = s.Root()
	return c
}

// as returns the client with other credentials, which may do what the policies
// allow.
func (c *client) as(id string, policies ...emul.Policy) *client {
	cred := emul.Credential{AccessKeyID: id, AccessKeySecret: "secret of " + id, Policies: append([]emul.Policy{}, policies...)}
	c.s.SetCredential(cred)
	other := *c
	other.id, other.secret, other.token = cred.AccessKeyID, cred.AccessKeySecret, ""
	return &other
}

// A reply is an answer, its body read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// code returns "" for 200, else the code of an error of SLS or KMS.
func (r reply) code() string {
	if r.status == http.StatusOK {
		return ""
	}
	var e struct{ ErrorCode, Code string }
	if json.Unmarshal(r.body, &e) != nil {
		return fmt.Sprintf("%d without a code", r.status)
	}
	return e.ErrorCode + e.Code
}

func (r reply) decode(t testing.TB, v any) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("got %d %s, want 200", r.status, r.body)
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("got %q: %v", r.body, err)
	}
}

func (c *client) send(r *http.Request) (reply, error) {
	if c.mangle != nil {
		c.mangle(r)
	}
	resp, err := c.http.RoundTrip(r)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, b}, err
}

func (c *client) sls(method, uri string, headers map[string]string, body []byte) reply {
	c.t.Helper()
	r, err := c.trySLS(method, "p", uri, headers, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, uri, err)
	}
	return r
}

func (c *client) trySLS(method, project, uri string, headers map[string]string, body []byte) (reply, error) {
	r, err := http.NewRequest(method, strings.Replace(c.base, "{project}", project, 1)+uri, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("x-log-apiversion", "0.6.0")
	r.Header.Set("x-log-bodyrawsize", strconv.Itoa(len(body)))
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range c.headers {
		r.Header.Set(k, v)
	}
	for k, v := range headers {
		if r.Header.Set(k, v); v == "" {
			r.Header.Del(k)
		}
	}
	if c.token != "" {
		r.Header.Set("x-acs-security-token", c.token)
	}
	c.signSLS(r, body)
	return c.send(r)
}

// json sends a value as a JSON body.
func (c *client) json(method, uri string, v any) reply {
	c.t.Helper()
	return c.sls(method, uri, nil, mustJSON(c.t, v))
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hmacSum(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (c *client) signSLS(r *http.Request, body []byte) {
	var names []string
	value := map[string]string{}
	signed := func(prefixes ...string) {
		for k := range r.Header {
			k = strings.ToLower(k)
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(k, p) }) {
				value[k] = r.Header.Get(k)
			}
		}
		for k := range value {
			names = append(names, k)
		}
		slices.Sort(names)
	}
	query := r.URL.Query()
	var keys []string
	for k := range query {
		keys = append(keys, k)
	}
	slices.Sort(keys)

	if c.version != "v4" {
		h, method := sha1.New, "hmac-sha1"
		if c.version == "v1-sha256" {
			h, method = sha256.New, "hmac-sha256"
		}
		r.Header.Set("x-log-signaturemethod", method)
		r.Header.Set("Date", c.now().UTC().Format(http.TimeFormat))
		if len(body) > 0 {
			r.Header.Set("Content-MD5", fmt.Sprintf("%X", md5.Sum(body)))
		}
		signed("x-log-", "x-acs-")
		text := r.Method + "\n" + r.Header.Get("Content-MD5") + "\n" + r.Header.Get("Content-Type") + "\n" + r.Header.Get("Date") + "\n"
		for _, k := range names {
			text += k + ":" + value[k] + "\n"
		}
		text += r.URL.EscapedPath()
		sep := "?"
		for _, k := range keys {
			text += sep + k + "=" + query.Get(k)
			sep = "&"
		}
		r.Header.Set("Authorization", "LOG "+c.id+":"+base64.StdEncoding.EncodeToString(hmacSum(h, []byte(c.secret), text)))
		return
	}
	date := c.now().UTC().Format("20060102T150405Z")
	r.Header.Set("x-log-date", date)
	r.Header.Set("x-log-content-sha256", hexSum(body))
	value["host"] = r.URL.Host
	signed("x-log-", "x-acs-", "content-type")
	text := r.Method + "\n" + r.URL.EscapedPath() + "\n"
	for i, k := range keys {
		if i > 0 {
			text += "&"
		}
		text += k
		if v := query.Get(k); v != "" {
			text += "=" + rfc3986(v)
		}
	}
	text += "\n"
	for _, k := range names {
		text += k + ":" + value[k] + "\n"
	}
	text += "\n" + strings.Join(names, ";") + "\n" + hexSum(body)
	scope := date[:8] + "/" + c.region + "/sls/aliyun_v4_request"
	key := []byte("aliyun_v4" + c.secret)
	for _, part := range strings.Split(scope, "/") {
		key = hmacSum(sha256.New, key, part)
	}
	signature := hmacSum(sha256.New, key, "SLS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hexSum([]byte(text)))
	r.Header.Set("Authorization", fmt.Sprintf("SLS4-HMAC-SHA256 Credential=%s/%s,Signature=%x", c.id, scope, signature))
}

func rfc3986(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// kms sends an operation with its parameters in the query.
func (c *client) kms(action string, params map[string]string) reply {
	c.t.Helper()
	r, err := c.tryKMS(action, params, false)
	if err != nil {
		c.t.Fatalf("%s: %v", action, err)
	}
	return r
}

func (c *client) tryKMS(action string, params map[string]string, form bool) (reply, error) {
	v := url.Values{}
	for k, x := range params {
		v.Set(k, x)
	}
	target, body := "http://kms.test/?"+v.Encode(), []byte(nil)
	if form {
		target, body = "http://kms.test/", []byte(v.Encode())
	}
	r, err := http.NewRequest("POST", target, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	for k, x := range map[string]string{
		"x-acs-action": action, "x-acs-version": "2016-01-20", "x-acs-date": c.now().UTC().Format("2006-01-02T15:04:05Z"),
		"x-acs-signature-nonce": hex.EncodeToString(nonce), "x-acs-content-sha256": hexSum(body),
	} {
		r.Header.Set(k, x)
	}
	if form {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.token != "" {
		r.Header.Set("x-acs-security-token", c.token)
	}
	signACS3(r, c.id, c.secret, hexSum(body))
	return c.send(r)
}

func signACS3(r *http.Request, id, secret, bodySum string) {
	value := map[string]string{"host": r.URL.Host}
	for k := range r.Header {
		if l := strings.ToLower(k); strings.HasPrefix(l, "x-acs-") || l == "content-type" {
			value[l] = r.Header.Get(k)
		}
	}
	var names []string
	for k := range value {
		names = append(names, k)
	}
	slices.Sort(names)
	query := r.URL.Query()
	var keys, pairs []string
	for k := range query {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		pairs = append(pairs, rfc3986(k)+"="+rfc3986(query.Get(k)))
	}
	text := r.Method + "\n/\n" + strings.Join(pairs, "&") + "\n"
	for _, k := range names {
		text += k + ":" + value[k] + "\n"
	}
	text += "\n" + strings.Join(names, ";") + "\n" + bodySum
	signature := hmacSum(sha256.New, []byte(secret), "ACS3-HMAC-SHA256\n"+hexSum([]byte(text)))
	r.Header.Set("Authorization", fmt.Sprintf("ACS3-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%x", id, strings.Join(names, ";"), signature))
}

// A conf is an encrypt_conf.
type conf = emul.EncryptConf

// byok is an encrypt_conf with a CMK.
func (c *client) byok(kind, key, role string) *conf {
	return &conf{Enable: true, EncryptType: kind, UserCMKInfo: &emul.UserCMKInfo{
		CMKKeyID: key, ARN: "acs:ram::" + c.s.Account() + ":role/" + role, RegionID: c.region,
	}}
}

// create makes Logstore "ls" in project "p".
func (c *client) create(e *conf, shards int) {
	c.t.Helper()
	if r := c.json("POST", "/logstores", emul.Logstore{Name: "ls", TTL: 30, ShardCount: shards, EncryptConf: e}); r.status != 200 {
		c.t.Fatalf("create: %d %s", r.status, r.body)
	}
}
