package emul

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

const schemeACS3 = "ACS3-HMAC-SHA256 "

// A signedACS3 is what stands behind the scheme of an ACS3 Authorization:
// Credential=AK,SignedHeaders=host;x-acs-action,Signature=hex
type signedACS3 struct {
	key       string
	headers   []string
	signature string
}

func parseACS3(authorization string) (a signedACS3, ok bool) {
	rest, ok := strings.CutPrefix(authorization, schemeACS3)
	if !ok {
		return a, false
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			a.key = value
		case "SignedHeaders":
			a.headers = strings.Split(value, ";")
		case "Signature":
			a.signature = value
		default:
			return signedACS3{}, false
		}
	}
	return a, a.key != "" && a.signature != "" && slices.IsSorted(a.headers)
}

// signerKMS returns the credential that signed a request to KMS.
func (s *Server) signerKMS(c *call) (Credential, error) {
	a, ok := parseACS3(c.header("Authorization"))
	if !ok {
		return Credential{}, kmsError("IncompleteSignature", "")
	}
	at, err := time.Parse("2006-01-02T15:04:05Z", c.header("x-acs-date"))
	if err != nil {
		return Credential{}, kmsError("IllegalTimestamp", "")
	}
	if c.now.Sub(at).Abs() > maxSkew {
		return Credential{}, kmsError("InvalidTimeStamp.Expired", "")
	}
	s.mu.Lock()
	cred, known := s.credentials[a.key]
	s.mu.Unlock()
	token := c.header("x-acs-security-token")
	switch {
	case !known:
		return Credential{}, kmsError("InvalidAccessKeyId.NotFound", "")
	case cred.Disabled:
		return Credential{}, kmsError("Forbidden.AccessKey", "")
	case token != cred.SecurityToken:
		return Credential{}, kmsError("InvalidSecurityToken.MismatchWithAccessKey", "")
	case !cred.Expires.IsZero() && !c.now.Before(cred.Expires):
		return Credential{}, kmsError("InvalidSecurityToken.Expired", "")
	}
	if err := checkACS3(c, a, cred.AccessKeySecret); err != nil {
		return Credential{}, err
	}
	if !s.fresh(a.key+" "+c.header("x-acs-signature-nonce"), at) {
		return Credential{}, kmsError("SignatureNonceUsed", "")
	}
	return cred, nil
}

// checkACS3 verifies a signature. Host, content-type and every x-acs- header
// that is there must be signed, and those that every request needs be there.
func checkACS3(c *call, a signedACS3, secret string) error {
	for _, name := range []string{"x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"} {
		if c.header(name) == "" {
			return kmsError("IncompleteSignature", "%s is missing", name)
		}
	}
	var unsigned string
	headers := canonicalHeaders(c, func(name string) bool {
		signed := slices.Contains(a.headers, name)
		if must := name == "host" || name == "content-type" || strings.HasPrefix(name, "x-acs-"); must && !signed {
			unsigned = name
		}
		return signed
	})
	if unsigned != "" {
		return kmsError("IncompleteSignature", "%s is not signed", unsigned)
	}
	body := sha256.Sum256(c.body)
	sum := hex.EncodeToString(body[:])
	if c.header("x-acs-content-sha256") != sum {
		return kmsError("SignatureDoesNotMatch", "x-acs-content-sha256 is not that of the body")
	}
	path := c.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	request := sha256.Sum256([]byte(strings.Join([]string{
		c.Method, path, canonicalQuery(c.URL.Query()), headers, strings.Join(a.headers, ";"), sum,
	}, "\n")))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(strings.TrimSpace(schemeACS3) + "\n" + hex.EncodeToString(request[:])))
	if !hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(a.signature)) {
		return kmsError("SignatureDoesNotMatch", "")
	}
	return nil
}

// canonicalQuery returns the query sorted, escaped as RFC 3986 has it.
func canonicalQuery(query url.Values) string {
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	var pairs []string
	for _, name := range sorted(query) {
		for _, v := range query[name] {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	return strings.Join(pairs, "&")
}

// fresh tells whether a nonce was not used before, and uses it. Nonces of
// requests that are too old by now are forgotten.
func (s *Server) fresh(nonce string, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.nonces[nonce]; used {
		return false
	}
	if len(s.nonces) >= s.nonceLimit {
		now := s.now()
		maps.DeleteFunc(s.nonces, func(_ string, at time.Time) bool { return now.Sub(at) > maxSkew })
		s.nonceLimit = max(4096, 2*len(s.nonces))
	}
	s.nonces[nonce] = at
	return true
}
