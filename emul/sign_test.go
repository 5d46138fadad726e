package emul_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sealtail/emul"
)

func TestSignaturesSLS(t *testing.T) {
	long := `/logstores/a%20b?type=log&from=1&to=2&query=a%20%26b%2Bc%2F~*&empty=`
	for _, version := range []string{"v1", "v1-sha256", "v4"} {
		for _, tt := range []struct {
			name   string
			change func(c *client)
			want   string
		}{
			{"right", func(*client) {}, ""},
			{"wrong secret", func(c *client) { c.secret += "x" }, "SignatureNotMatch"},
			{"unknown key", func(c *client) { c.id = "nobody" }, "Unauthorized"},
			{"no authorization", func(c *client) { c.mangle = func(r *http.Request) { r.Header.Del("Authorization") } }, "Unauthorized"},
			{"garbage", func(c *client) { c.mangle = func(r *http.Request) { r.Header.Set("Authorization", "LOG") } }, "Unauthorized"},
			{"no version", func(c *client) { c.mangle = func(r *http.Request) { r.Header.Del("x-log-apiversion") } }, "MissingParameter"},
			{"other body", func(c *client) { c.mangle = func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{ }")) } }, "SignatureNotMatch"},
			{"other query", func(c *client) { c.mangle = func(r *http.Request) { r.URL.RawQuery = "x=1" } }, "SignatureNotMatch"},
			{"other method", func(c *client) { c.mangle = func(r *http.Request) { r.Method = "DELETE" } }, "SignatureNotMatch"},
			{"other type", func(c *client) { c.mangle = func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") } }, "SignatureNotMatch"},
			{"added header", func(c *client) { c.mangle = func(r *http.Request) { r.Header.Set("x-log-more", "1") } }, "SignatureNotMatch"},
			{"stray token", func(c *client) { c.token = "t" }, "Unauthorized"},
			{"15 min behind", func(c *client) { c.late(15 * time.Minute) }, ""},
			{"15 min ahead", func(c *client) { c.late(-15 * time.Minute) }, ""},
			{"behind", func(c *client) { c.late(15*time.Minute + time.Second) }, "RequestTimeExpired"},
			{"ahead", func(c *client) { c.late(-15*time.Minute - time.Second) }, "RequestTimeExpired"},
			{"disabled", func(c *client) {
				c.s.SetCredential(emul.Credential{AccessKeyID: c.id, AccessKeySecret: c.secret, Disabled: true})
			}, "Unauthorized"},
			{"token", func(c *client) {
				c.s.SetCredential(emul.Credential{AccessKeyID: c.id, AccessKeySecret: c.secret, SecurityToken: "t", Expires: c.s.Now().Add(time.Minute)})
				c.token = "t"
			}, ""},
			{"no token", func(c *client) {
				c.s.SetCredential(emul.Credential{AccessKeyID: c.id, AccessKeySecret: c.secret, SecurityToken: "t"})
			}, "Unauthorized"},
			{"expired token", func(c *client) {
				c.s.SetCredential(emul.Credential{AccessKeyID: c.id, AccessKeySecret: c.secret, SecurityToken: "t", Expires: c.s.Now().Add(-time.Second)})
				c.token = "t"
			}, "Unauthorized"},
		} {
			t.Run(version+"/"+tt.name, func(t *testing.T) {
				c := newClient(t, fixed())
				c.version = version
				tt.change(c)
				if got := c.sls("PUT", "/", nil, []byte("{}")).code(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
		t.Run(version+"/escapes", func(t *testing.T) {
			c := newClient(t, emul.Options{})
			c.version = version
			if got := c.sls("GET", long, nil, nil).code(); got != "LogStoreNotExist" {
				t.Errorf("got %q, want LogStoreNotExist", got)
			}
		})
	}
	t.Run("v4/other host", func(t *testing.T) {
		c := newClient(t, emul.Options{})
		c.mangle = func(r *http.Request) { r.Host = "p.elsewhere" }
		if got := c.sls("GET", "/", nil, nil).code(); got != "SignatureNotMatch" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("v4/other region", func(t *testing.T) {
		c := newClient(t, emul.Options{})
		c.region = "cn-beijing"
		if got := c.sls("GET", "/", nil, nil).code(); got != "SignatureNotMatch" {
			t.Errorf("got %q", got)
		}
	})
}

// fixed is an emulator whose clock stands.
func fixed() emul.Options {
	now := time.Date(2026, 11, 23, 14, 46, 33, 0, time.UTC)
	return emul.Options{Now: func() time.Time { return now }}
}

// late puts the client's clock behind the emulator's.
func (c *client) late(d time.Duration) { c.now = func() time.Time { return c.s.Now().Add(-d) } }

func TestSignaturesKMS(t *testing.T) {
	header := func(name, value string) func(*client) {
		return func(c *client) {
			c.mangle = func(r *http.Request) {
				if r.Header.Set(name, value); value == "" {
					r.Header.Del(name)
				}
			}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(c *client)
		want   string
	}{
		{"right", func(*client) {}, ""},
		{"wrong secret", func(c *client) { c.secret += "x" }, "SignatureDoesNotMatch"},
		{"unknown key", func(c *client) { c.id = "nobody" }, "InvalidAccessKeyId.NotFound"},
		{"no authorization", header("Authorization", ""), "IncompleteSignature"},
		{"garbage", header("Authorization", "ACS3-HMAC-SHA256 a,b"), "IncompleteSignature"},
		{"other query", func(c *client) { c.mangle = func(r *http.Request) { r.URL.RawQuery = "KeyId=other" } }, "SignatureDoesNotMatch"},
		{"body", func(c *client) {
			c.mangle = func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("KeyId=k")) }
		}, "ParseRequestParameterException"},
		{"no nonce", header("x-acs-signature-nonce", ""), "IncompleteSignature"},
		{"other nonce", header("x-acs-signature-nonce", "x"), "SignatureDoesNotMatch"},
		{"unsigned header", header("x-acs-more", "x"), "IncompleteSignature"},
		{"free header", header("x-more", "x"), ""},
		{"illegal date", header("x-acs-date", "yesterday"), "IllegalTimestamp"},
		{"other hash", header("x-acs-content-sha256", hexSum([]byte("x"))), "SignatureDoesNotMatch"},
		{"behind", func(c *client) { c.late(15*time.Minute + time.Second) }, "InvalidTimeStamp.Expired"},
		{"ahead", func(c *client) { c.late(-15*time.Minute - time.Second) }, "InvalidTimeStamp.Expired"},
		{"15 min", func(c *client) { c.late(15 * time.Minute) }, ""},
		{"stray token", func(c *client) { c.token = "t" }, "InvalidSecurityToken.MismatchWithAccessKey"},
		{"disabled", func(c *client) {
			c.s.SetCredential(emul.Credential{AccessKeyID: c.id, AccessKeySecret: c.secret, Disabled: true})
		}, "Forbidden.AccessKey"},
		{"token", func(c *client) {
			c.s.SetCredential(emul.Credential{AccessKeyID: c.id, AccessKeySecret: c.secret, SecurityToken: "t"})
			c.token = "t"
		}, ""},
		{"expired token", func(c *client) {
			c.s.SetCredential(emul.Credential{AccessKeyID: c.id, AccessKeySecret: c.secret, SecurityToken: "t", Expires: c.s.Now()})
			c.token = "t"
		}, "InvalidSecurityToken.Expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, fixed())
			if _, err := c.s.SetKey(emul.Key{ID: "k"}); err != nil {
				t.Fatal(err)
			}
			tt.change(c)
			if got := c.kms("DescribeKey", map[string]string{"KeyId": "k"}).code(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("nonce used", func(t *testing.T) {
		c := newClient(t, emul.Options{})
		var first *http.Request
		c.mangle = func(r *http.Request) { first = r.Clone(t.Context()) }
		c.kms("CreateKey", nil)
		c.mangle = nil
		again, err := c.send(first)
		if err != nil || again.code() != "SignatureNonceUsed" {
			t.Errorf("got %q, %v", again.code(), err)
		}
	})
}

// TestPublishedVector sends the request of Alibaba Cloud's page on the V3
// signature. Its operation is of another service: that it gets so far shows
// that the signature was found right.
func TestPublishedVector(t *testing.T) {
	s := emul.New(emul.Options{
		AccessKeyID: "YourAccessKeyId", AccessKeySecret: "YourAccessKeySecret",
		Now: func() time.Time { return time.Date(2023, 10, 26, 10, 22, 32, 0, time.UTC) },
	})
	for _, tt := range []struct{ signature, want string }{
		{"06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0", "UnsupportedOperation"},
		{"16563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0", "SignatureDoesNotMatch"},
	} {
		r, err := http.NewRequest("POST", "https://ecs.cn-shanghai.aliyuncs.com/?ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai", bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{
			"x-acs-action": "RunInstances", "x-acs-content-sha256": hexSum(nil), "x-acs-date": "2023-10-26T10:22:32Z",
			"x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d", "x-acs-version": "2014-05-26",
			"Authorization": "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature=" + tt.signature,
		} {
			r.Header.Set(k, v)
		}
		c := &client{t: t, http: s.Transport()}
		got, err := c.send(r)
		if err != nil || got.code() != tt.want {
			t.Errorf("got %q, %v, want %q", got.code(), err, tt.want)
		}
		if want := `"HostId":"ecs.cn-shanghai.aliyuncs.com"`; !bytes.Contains(got.body, []byte(want)) {
			t.Errorf("%s has no %s", got.body, want)
		}
	}
}

func TestProjectOfRequest(t *testing.T) {
	for _, tt := range []struct{ base, header, want string }{
		{"http://p.sls.test", "", ""},
		{"http://p.sls.test:8080", "", ""},
		{"http://P.cn-hangzhou.log.aliyuncs.com", "", ""},
		{"http://p.127.0.0.1:99", "", ""},
		{"http://q.127.0.0.1:99", "", "ProjectNotExist"},
		{"http://127.0.0.1:99", "p", ""},
		{"http://[::1]:99", "p", ""},
		{"http://custom.example", "p", ""},
		{"http://127.0.0.1:99", "", "MissingParameter"},
		{"http://sls.test", "", "MissingParameter"},
		{"http://cn-hangzhou.log.aliyuncs.com", "", "MissingParameter"},
	} {
		t.Run(tt.base+" "+tt.header, func(t *testing.T) {
			c := newClient(t, emul.Options{})
			c.base = tt.base
			headers := map[string]string{}
			if tt.header != "" {
				headers["x-log-project"] = tt.header
			}
			if got := c.sls("GET", "/logstores", headers, nil).code(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
