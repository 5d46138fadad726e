package emul

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxSkew is how far the time of a request may be from the server's.
const maxSkew = 15 * time.Minute

const (
	schemeV1 = "LOG "
	schemeV4 = "SLS4-HMAC-SHA256 "
)

// A signedV4 is what stands behind the scheme of a v4 Authorization:
// Credential=AK/20261123/REGION/sls/aliyun_v4_request,Signature=hex
type signedV4 struct{ key, date, region, signature string }

// claimedSLS returns the access key that a request says it is signed with.
func claimedSLS(authorization string) string {
	if rest, ok := strings.CutPrefix(authorization, schemeV1); ok {
		key, _, _ := strings.Cut(rest, ":")
		return key
	}
	v4, _ := parseV4(authorization)
	return v4.key
}

func parseV4(authorization string) (v signedV4, ok bool) {
	rest, isV4 := strings.CutPrefix(authorization, schemeV4)
	credential, signature, both := strings.Cut(rest, ",")
	credential, named := strings.CutPrefix(strings.TrimSpace(credential), "Credential=")
	signature, signed := strings.CutPrefix(strings.TrimSpace(signature), "Signature=")
	scope := strings.Split(credential, "/")
	if !isV4 || !both || !named || !signed || len(scope) != 5 || scope[3] != "sls" || scope[4] != "aliyun_v4_request" {
		return signedV4{}, false
	}
	return signedV4{key: scope[0], date: scope[1], region: scope[2], signature: signature}, true
}

// signerSLS returns the credential that signed a request to SLS.
func (s *Server) signerSLS(c *call) (Credential, error) {
	if c.header("x-log-apiversion") == "" {
		return Credential{}, slsError("MissingParameter", "x-log-apiversion does not exist in the header.")
	}
	authorization := c.header("Authorization")
	if authorization == "" {
		return Credential{}, slsError("Unauthorized", "The Authorization header is missing.")
	}
	s.mu.Lock()
	cred, known := s.credentials[c.log.AccessKeyID]
	s.mu.Unlock()
	switch token := c.header("x-acs-security-token"); {
	case !known:
		return Credential{}, slsError("Unauthorized", "AccessKeyId not found: %s", c.log.AccessKeyID)
	case cred.Disabled:
		return Credential{}, slsError("Unauthorized", "AccessKeyId is disabled: %s", c.log.AccessKeyID)
	case token != cred.SecurityToken:
		return Credential{}, slsError("Unauthorized", "The security token you provided is invalid.")
	case !cred.Expires.IsZero() && !c.now.Before(cred.Expires):
		return Credential{}, slsError("Unauthorized", "The security token you provided has expired.")
	}
	if strings.HasPrefix(authorization, schemeV1) {
		return cred, s.checkV1(c, cred, authorization)
	}
	return cred, s.checkV4(c, cred, authorization)
}

// checkV1 verifies HMAC-SHA1 or HMAC-SHA256 over method, MD5, type, date, the
// x-log- and x-acs- headers and the resource.
func (s *Server) checkV1(c *call, cred Credential, authorization string) error {
	date := c.header("Date")
	at, err := http.ParseTime(date)
	if err != nil {
		return slsError("InvalidDateFormat", "Date %q must follow RFC 822.", date)
	}
	if c.now.Sub(at).Abs() > maxSkew {
		return slsError("RequestTimeExpired", "")
	}
	sum := c.header("Content-MD5")
	if md := md5.Sum(c.body); (len(c.body) > 0 || sum != "") && !strings.EqualFold(sum, hex.EncodeToString(md[:])) {
		return slsError("SignatureNotMatch", "Content-MD5 %q is not that of the body", sum)
	}
	var h func() hash.Hash
	switch method := c.header("x-log-signaturemethod"); method {
	case "hmac-sha1":
		h = sha1.New
	case "hmac-sha256":
		h = sha256.New
	default:
		return slsError("ParameterInvalid", "x-log-signaturemethod %q is not offered", method)
	}
	var text strings.Builder
	for _, line := range []string{c.Method, sum, c.header("Content-Type"), date} {
		text.WriteString(line + "\n")
	}
	text.WriteString(canonicalHeaders(c, func(name string) bool {
		return strings.HasPrefix(name, "x-log-") || strings.HasPrefix(name, "x-acs-")
	}))
	text.WriteString(c.URL.EscapedPath())
	query := c.URL.Query()
	for i, name := range sorted(query) {
		text.WriteString(string("?&"[min(i, 1)]) + name + "=" + strings.Join(query[name], ""))
	}
	mac := hmac.New(h, []byte(cred.AccessKeySecret))
	mac.Write([]byte(text.String()))
	_, signature, _ := strings.Cut(authorization, ":")
	if got, err := base64.StdEncoding.DecodeString(signature); err != nil || !hmac.Equal(got, mac.Sum(nil)) {
		return slsError("SignatureNotMatch", "signature %s does not match", signature)
	}
	return nil
}

// checkV4 verifies SLS4-HMAC-SHA256. Which headers are signed is a rule, not
// told by the request.
func (s *Server) checkV4(c *call, cred Credential, authorization string) error {
	v4, ok := parseV4(authorization)
	if !ok {
		return slsError("Unauthorized", "The Authorization header is invalid.")
	}
	date := c.header("x-log-date")
	at, err := time.Parse("20060102T150405Z", date)
	if err != nil {
		return slsError("InvalidDateFormat", "x-log-date %q must be ISO 8601 without separators.", date)
	}
	if c.now.Sub(at).Abs() > maxSkew {
		return slsError("RequestTimeExpired", "")
	}
	if v4.date != date[:8] || v4.region != s.o.Region {
		return slsError("SignatureNotMatch", "the scope is not %s/%s", date[:8], s.o.Region)
	}
	body := sha256.Sum256(c.body)
	sum := hex.EncodeToString(body[:])
	if c.header("x-log-content-sha256") != sum {
		return slsError("SignatureNotMatch", "x-log-content-sha256 is not that of the body")
	}
	var names []string
	headers := canonicalHeaders(c, func(name string) bool {
		signed := strings.HasPrefix(name, "x-log-") && !strings.HasPrefix(name, "x-log-meta-") ||
			strings.HasPrefix(name, "x-acs-") || name == "host" || name == "content-type"
		if signed {
			names = append(names, name)
		}
		return signed
	})
	query := c.URL.Query()
	var params []string
	for _, name := range sorted(query) {
		if v := query.Get(name); v != "" {
			name += "=" + strings.ReplaceAll(url.QueryEscape(v), "+", "%20")
		}
		params = append(params, name)
	}
	request := sha256.Sum256([]byte(strings.Join([]string{
		c.Method, c.URL.EscapedPath(), strings.Join(params, "&"), headers, strings.Join(names, ";"), sum,
	}, "\n")))
	text := strings.Join([]string{
		strings.TrimSpace(schemeV4), date, v4.date + "/" + v4.region + "/sls/aliyun_v4_request", hex.EncodeToString(request[:]),
	}, "\n")
	key := []byte("aliyun_v4" + cred.AccessKeySecret)
	for _, part := range []string{v4.date, v4.region, "sls", "aliyun_v4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(v4.signature)) {
		return slsError("SignatureNotMatch", "signature %s does not match", v4.signature)
	}
	return nil
}

// canonicalHeaders returns "name:value\n" of those headers, host among them,
// that keep chooses, sorted by their lower-case names, in which order keep is
// asked.
func canonicalHeaders(c *call, keep func(name string) bool) string {
	headers := map[string]string{"host": c.Host}
	for name := range c.Header {
		headers[strings.ToLower(name)] = strings.TrimSpace(c.header(name))
	}
	var b strings.Builder
	for _, name := range sorted(headers) {
		if keep(name) {
			b.WriteString(name + ":" + headers[name] + "\n")
		}
	}
	return b.String()
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
