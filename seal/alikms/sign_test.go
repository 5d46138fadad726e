package alikms_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealtail/seal/alikms"
)

// The vector that Alibaba Cloud publishes with the rules.
func TestSignPublishedVector(t *testing.T) {
	query := alikms.Canonical(map[string]string{
		"ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd", "RegionId": "cn-shanghai",
	})
	req, err := http.NewRequest("POST", "https://ecs.cn-shanghai.aliyuncs.com/?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-acs-action", "RunInstances")
	req.Header.Set("x-acs-version", "2014-05-26")
	date := time.Date(2023, 10, 26, 10, 22, 32, 0, time.UTC)
	alikms.Sign(req, nil, "YourAccessKeyId", "YourAccessKeySecret", "", date, "3156853299f313e23d1673dc12e1703d")
	const want = "ACS3-HMAC-SHA256 Credential=YourAccessKeyId," +
		"SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version," +
		"Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
	if got := req.Header.Get("Authorization"); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

// Requests as Alibaba Cloud's Go SDK for KMS, v3.4.0, signed them; recorded by
// test/alikmssdk.
func TestSignAsTheSDK(t *testing.T) {
	names, err := filepath.Glob("testdata/sdk/*.json")
	if err != nil || len(names) < 6 {
		t.Fatalf("got %d recordings, %v, want 6", len(names), err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var v struct {
				Host, Query, Body              string
				Parameters                     map[string]string
				Headers                        map[string]string
				AccessKey, Secret, Token, Auth string
			}
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			got := v.Query
			if v.Query != "" {
				got = alikms.Canonical(v.Parameters)
				if g, w := values(t, got), values(t, v.Query); g != w {
					t.Errorf("query: got %s, want %s", g, w)
				}
			} else {
				form := url.Values{}
				for k, p := range v.Parameters {
					form.Set(k, p)
				}
				if form.Encode() != v.Body {
					t.Errorf("body: got %s, want %s", form.Encode(), v.Body)
				}
			}
			req, err := http.NewRequest("POST", "https://"+v.Host+"/?"+got, strings.NewReader(v.Body))
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range []string{"content-type", "x-acs-action", "x-acs-version"} {
				if v.Headers[h] != "" {
					req.Header.Set(h, v.Headers[h])
				}
			}
			date, err := time.Parse("2006-01-02T15:04:05Z", v.Headers["x-acs-date"])
			if err != nil {
				t.Fatal(err)
			}
			alikms.Sign(req, []byte(v.Body), v.AccessKey, v.Secret, v.Token, date, v.Headers["x-acs-signature-nonce"])
			if got := req.Header.Get("Authorization"); got != v.Auth {
				t.Errorf("got\n%s, want\n%s", got, v.Auth)
			}
			for h, want := range v.Headers {
				if got := req.Header.Get(h); got != want {
					t.Errorf("%s: got %q, want %q", h, got, want)
				}
			}
		})
	}
}

// values returns a query in one canonical form.
func values(t *testing.T, query string) string {
	t.Helper()
	v, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return v.Encode()
}

func TestCanonical(t *testing.T) {
	got := alikms.Canonical(map[string]string{"b": "~-_.* +/=&", "a": "ü%", "": "", "B": "1"})
	if want := "=&B=1&a=%C3%BC%25&b=~-_.%2A%20%2B%2F%3D%26"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
