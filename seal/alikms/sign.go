package alikms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sealtail/internal/hidden"
)

const algorithm = "ACS3-HMAC-SHA256"

// An accessKey signs.
type accessKey struct {
	id            string
	secret, token hidden.Text
}

func (k accessKey) equal(l accessKey) bool {
	return k.id == l.id && k.secret.Equal(l.secret) && k.token.Equal(l.token)
}

// sign adds to req, which sends body, the headers that authenticate it:
//
//	request = METHOD \n PATH \n QUERY \n { name:value\n } \n names \n hex(SHA-256(body))
//	Signature = hex(HMAC-SHA-256(secret, "ACS3-HMAC-SHA256" \n hex(SHA-256(request))))
//
// over the headers host, content-type and all x-acs-*, in lower case and
// sorted.
func (k accessKey) sign(req *http.Request, body []byte, now time.Time, nonce string) {
	hash := sha256.Sum256(body)
	req.Header.Set("x-acs-content-sha256", hex.EncodeToString(hash[:]))
	req.Header.Set("x-acs-date", now.UTC().Format("2006-01-02T15:04:05Z"))
	req.Header.Set("x-acs-signature-nonce", nonce)
	if !k.token.Empty() {
		req.Header.Set("x-acs-accesskey-id", k.id)
		req.Header.Set("x-acs-security-token", k.token.Reveal())
	}

	signed := map[string]string{"host": req.Host}
	for name, values := range req.Header {
		if name = strings.ToLower(name); name == "content-type" || strings.HasPrefix(name, "x-acs-") {
			signed[name] = strings.TrimSpace(strings.Join(values, ","))
		}
	}
	names := slices.Sorted(maps.Keys(signed))
	var b strings.Builder
	b.WriteString(req.Method + "\n/\n" + req.URL.RawQuery + "\n")
	for _, name := range names {
		b.WriteString(name + ":" + signed[name] + "\n")
	}
	b.WriteString("\n" + strings.Join(names, ";") + "\n" + hex.EncodeToString(hash[:]))

	request := sha256.Sum256([]byte(b.String()))
	mac := hmac.New(sha256.New, []byte(k.secret.Reveal()))
	mac.Write([]byte(algorithm + "\n" + hex.EncodeToString(request[:])))
	req.Header.Set("Authorization", algorithm+" Credential="+k.id+
		",SignedHeaders="+strings.Join(names, ";")+",Signature="+hex.EncodeToString(mac.Sum(nil)))
}

// canonical returns parameters as a query: sorted, with all escaped but the
// unreserved characters of RFC 3986.
func canonical(parameters map[string]string) string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(parameters)) {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(escape(name) + "=" + escape(parameters[name]))
	}
	return b.String()
}

func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") // QueryEscape writes + for a space alone
}
