package alikms

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sealtail/internal/hidden"
	"sealtail/seal"
)

// A rule gives the class of a code, or of all codes that begin with it where it
// ends in a star.
type rule struct {
	code      string
	class     seal.Class
	throttled bool
}

// rules is the table of codes, for statuses that do not say enough. The first
// line that fits holds.
var rules = []rule{
	{"Rejected.Throttling", seal.Outage, true},
	{"Throttling*", seal.Outage, true},
	{"InternalFailure", seal.Outage, false},
	{"ServiceUnavailable*", seal.Outage, false},
	{"SerivceUnavailable*", seal.Outage, false}, // so spelt by an older service

	{"Rejected.Disabled", seal.Revoked, false},
	{"Rejected.PendingDeletion", seal.Revoked, false},
	{"Rejected.PendingImport", seal.Revoked, false},
	{"Forbidden.KeyNotFound", seal.Revoked, false},
	{"Forbidden.AliasNotFound", seal.Revoked, false},
	{"Forbidden.NoPermission", seal.Revoked, false},

	{"Rejected.Unavailable", seal.Outage, false},
	{"Rejected.StateModifiedFailed", seal.Outage, false},
	{"Forbidden.KmsServiceNotEnabled", seal.Outage, false},
	{"Forbidden.InDebt*", seal.Outage, false},
	{"Forbidden.ProhibitedByRiskControl", seal.Outage, false},
	{"Forbidden.UbsmsInvalid*", seal.Outage, false},

	{"Forbidden.AccessKey", seal.Credentials, false},
	{"InvalidAccessKeyId*", seal.Credentials, false},
	{"SignatureDoesNotMatch", seal.Credentials, false},
	{"IncompleteSignature", seal.Credentials, false},
	{"InvalidSecurityToken*", seal.Credentials, false},

	{"InvalidTimeStamp*", seal.Outage, false},
	{"IllegalTimestamp", seal.Outage, false},
	{"SignatureNonceUsed", seal.Outage, false},

	{"MissingParameter*", seal.Misfit, false},
	{"InvalidParameter*", seal.Misfit, false},
	{"Unsupported*", seal.Misfit, false},
	{"ParseRequestParameterException", seal.Misfit, false},
	{"Rejected.LimitExceeded", seal.Misfit, false},
}

// classify says what a refusal means: by its status if that says enough, else
// by its code.
func classify(status int, code string) (class seal.Class, throttled bool) {
	var by rule
	for _, r := range rules {
		prefix, open := strings.CutSuffix(r.code, "*")
		if code == prefix || open && strings.HasPrefix(code, prefix) {
			by = r
			break
		}
	}
	switch {
	case status == http.StatusTooManyRequests:
		return seal.Outage, true
	case status >= 500, status < 400, status == http.StatusRequestTimeout, status == http.StatusProxyAuthRequired:
		return seal.Outage, by.throttled
	case by.class == seal.Unknown && status == http.StatusUnauthorized:
		return seal.Credentials, false
	}
	return by.class, by.throttled
}

// refusal is an answer that is no success.
func refusal(action string, resp *http.Response, body []byte, k accessKey) *seal.KMSError {
	var a struct{ Code, Message, RequestID string }
	if !decode(body, &a) { // a proxy's page, perhaps
		a.Code, a.Message, a.RequestID = "", "", ""
	}
	code := short(a.Code)
	e := &seal.KMSError{Code: code}
	e.Class, e.Throttled = classify(resp.StatusCode, code)

	text := fmt.Sprintf("%s: HTTP %d", action, resp.StatusCode)
	if resp.StatusCode/100 == 3 {
		text += ", a redirect, which is not followed"
	}
	if id := short(a.RequestID); id != "" {
		text += ", request " + id
	}
	switch {
	case strings.HasPrefix(code, "InvalidTimeStamp") || code == "IllegalTimestamp":
		text += ": " + skew(resp.Header.Get("Date"), time.Now())
	case e.Class != seal.Credentials: // those repeat what was signed
		if m := clean(a.Message, k); m != "" {
			text += ": " + m
		}
	}
	e.Err = errors.New(text)
	if e.Code == "" {
		e.Code = fmt.Sprintf("HTTP%d", resp.StatusCode)
	}
	return e
}

// skew says how the clocks differ, by the service's Date.
func skew(date string, now time.Time) string {
	t, err := http.ParseTime(date)
	if err != nil {
		return "the clocks differ; set this host's right"
	}
	d, way := now.Sub(t).Round(time.Second), "ahead of"
	if d < 0 {
		d, way = -d, "behind"
	}
	return fmt.Sprintf("this host's clock is %v %s the service's; set it right", d, way)
}

// clean returns a message of the service for people: on one line, not long, and
// without what might be a credential or a wrapped key.
func clean(message string, k accessKey) string {
	for _, secret := range []hidden.Text{k.secret, k.token} {
		if !secret.Empty() && strings.Contains(message, secret.Reveal()) {
			return ""
		}
	}
	words := strings.FieldsFunc(message, func(r rune) bool { return r <= ' ' || r > '~' })
	n := 0
	for i, w := range words {
		if len(w) > 96 {
			words[i] = "…"
		}
		if n += 1 + len(words[i]); n > 240 {
			words = append(words[:i], "…")
			break
		}
	}
	return strings.Join(words, " ")
}
