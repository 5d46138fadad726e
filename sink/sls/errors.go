package sls

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	api "github.com/aliyun/aliyun-log-go-sdk"

	"sealtail/internal/hidden"
	"sealtail/internal/trust"
)

// A Class says what kind of trouble an [*Error] is, and so who mends it.
type Class string

const (
	Network   Class = "network"     // no answer: it is not known whether the request was carried out
	Untrusted Class = "certificate" // the server's certificate is refused: nothing was sent
	Transient Class = "unavailable" // the service is in trouble and will mend itself
	Throttled Class = "throttled"   // a quota is used up
	Clock     Class = "clock"       // this host's clock is wrong
	Refused   Class = "credentials" // the access key is refused, or cannot be had
	Denied    Class = "denied"      // no permission, no service, debts
	Absent    Class = "absent"      // the project or the Logstore is not there
	Config    Class = "config"      // endpoint, region, proxy, server version
	Content   Class = "content"     // what was sent is refused for what it holds
	TooLarge  Class = "too_large"   // or for its size
	CMK       Class = "cmk"         // the Logstore's own CMK cannot be used
	Drift     Class = "drift"       // the Logstore's encryption is not the configured one
	Unknown   Class = "unknown"     // a code that no document names
)

// An Error is why a request did not succeed. No Error holds a secret.
type Error struct {
	Class     Class
	Op        string // what was tried
	Status    int    // of HTTP; 0 = no answer
	Code      string // of the service; "" = the answer was not the service's
	Message   string // what it said, one line; with Denied it names action and resource
	RequestID string
	Hint      string        // what a person can do
	Skew      time.Duration // the service's clock less this host's, by whole seconds; 0 also if not known

	alone int // refusals of a single envelope, as refused.rounds has them
	do    remedy
	cmk   bool // it may have the Logstore's CMK for a reason
	again time.Time
	err   error
}

// Error returns the error as one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %d", e.Status)
		if e.Code != "" {
			b.WriteString(" " + e.Code)
		}
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.err != nil {
		b.WriteString(": " + e.err.Error())
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// Unwrap returns what went wrong before there was an answer; nil if there was
// one.
func (e *Error) Unwrap() error { return e.err }

// Alone says that an envelope is refused for what it holds: as often as n, and
// after most it is rejected. n is 0 of all other errors.
func (e *Error) Alone() (n, most int) { return e.alone, rejectAfter }

// Kind is the same for errors that differ in no more than request, port or time.
func (e *Error) Kind() string {
	kind := fmt.Sprint(e.Class, " ", e.Op, " ", e.Status, " ", e.Code)
	if e.Code == "" {
		kind += " " + e.Message
	}
	err := e.err
	for next := err; next != nil && e.Class == Network; next = errors.Unwrap(err) {
		err = next
	}
	if err != nil {
		kind += " " + err.Error()
	}
	return kind
}

// NextTry returns the time before which the answer will be the same; zero: it
// may be another at once.
func (e *Error) NextTry() time.Time { return e.again }

// A remedy is what is done about a refusal before it is returned.
type remedy uint8

const (
	wait    remedy = 0 // nothing: try again later
	refresh remedy = 1 // once more with fresh credentials
	restamp remedy = 2 // once more with times by the service's clock
	split   remedy = 3 // in halves, and smaller from then on
	isolate remedy = 4 // uncompressed, then in halves; for what is refused alone see alone
)

// A row says what an answer means. The first row that matches counts.
type row struct {
	status int    // 0 = any
	code   string // in lower case; "" = the answer was not the service's
	text   string // part of the message in lower case; "" = any
	class  Class
	do     remedy
	cmk    bool // unless the message speaks of a KMS; see cmkMessage
	hint   string
}

const (
	hintProvision = "create it with sealtail provision, or mend project, logstore and region"
	hintClock     = "set this host's clock"
	hintConfig    = "mend the endpoint, or a proxy that changes requests"
	hintAllow     = "allow the action on the resource to the RAM identity of the access key"
	hintKey       = "replace the access key"
	hintSignature = "replace the access key, or mend the region: requests are signed for it"
	hintQuota     = "ask for a greater quota, or ship less"
	hintShards    = "split the Logstore's shards"
	hintUnknown   = "the service's support knows this code"
	hintOther     = "see what answers in the place of the service: a proxy, a portal, another server"
	hintBill      = "open the service, or pay its bill"
)

// table is every answer that https://help.aliyun.com/zh/sls/developer-reference/error-codes
// and the older page of each operation name, as far as a request of this
// package can meet it. What is not in it is Unknown: wait, ship nothing else,
// drop nothing.
var table = []row{
	{0, "requesttimeexpired", "", Clock, wait, false, hintClock},
	{0, "requesttimetooskewed", "", Clock, wait, false, hintClock},
	{0, "invalidrequesttime", "", Clock, wait, false, hintClock},

	{0, "invalidhost", "", Config, wait, false, hintConfig},
	{0, "missinghost", "", Config, wait, false, hintConfig},
	{0, "missingparameter", "", Config, wait, false, hintConfig},
	{0, "missingcontenttype", "", Config, wait, false, hintConfig},
	{0, "invalidcontenttype", "", Config, wait, false, hintConfig},
	{0, "missingbodyrawsize", "", Config, wait, false, hintConfig},
	{0, "invalidbodyrawsize", "", Config, wait, false, hintConfig},
	{0, "missingapiversion", "", Config, wait, false, hintConfig},
	{0, "invalidapiversion", "", Config, wait, false, hintConfig},
	{0, "missingdate", "", Config, wait, false, hintConfig},
	{0, "invaliddateformat", "", Config, wait, false, hintConfig},
	{0, "missingcontentlength", "", Config, wait, false, hintConfig},
	{0, "missingsignaturemethod", "", Config, wait, false, hintConfig},
	{0, "invalidsignaturemethod", "", Config, wait, false, hintConfig},
	{0, "invalidmethod", "", Config, wait, false, hintConfig},
	{0, "notimplemented", "", Config, wait, false, "this server does not know the request"},
	{0, "notsupported", "", Config, wait, false, "this server does not know the request"},
	{0, "invalidsequenceid", "", Config, wait, false, hintConfig},
	{0, "invalidcursor", "", Config, wait, false, "begin the reading again"},

	{0, "postbodyinvalid", "time is out of range", Clock, restamp, false, hintClock},
	{0, "postbodyinvalid", "", Content, isolate, true, ""},
	{0, "invalidkey", "", Content, isolate, true, ""},
	{0, "invalidtimestamp", "", Content, isolate, true, ""},
	{0, "invalidencoding", "", Content, isolate, true, ""},
	{0, "postbodyuncompresserror", "", Content, isolate, true, ""},
	{0, "invalidcompresstype", "", Content, isolate, true, ""},
	{0, "parameterinvalid", "", Content, isolate, true, hintConfig},
	{0, "invalidparameter", "", Content, isolate, true, hintConfig},
	{0, "postbodytoolarge", "", TooLarge, split, false, ""},
	{413, "", "", TooLarge, split, false, "let the proxy pass bodies of 4 MiB"},

	{0, "logstorewithoutshard", "", Transient, wait, false, hintShards},
	{0, "logstorealreadyexist", "", Config, wait, false, ""},
	{0, "logstoreinfoinvalid", "", Config, wait, true, "this server does not take these settings: nothing was created"},
	{0, "projectquotaexceed", "", Throttled, wait, false, hintQuota},

	{0, "signaturenotmatch", "", Refused, refresh, false, hintSignature},
	{0, "unauthorized", "security token", Refused, refresh, false, hintKey},
	{0, "unauthorized", "accesskeyid not found", Refused, refresh, false, hintKey},
	{0, "unauthorized", "accesskeyid is disabled", Refused, refresh, false, hintKey},
	{0, "unauthorized", "accesskeyid is unauthorized", Refused, refresh, false, hintKey},
	{0, "unauthorized", "denied by", Denied, refresh, true, hintAllow},
	{0, "unauthorized", "does not belong to you", Denied, refresh, false, "mend the project's name, or use an access key of its account"},
	{0, "unauthorized", "has been forbidden", Denied, wait, false, hintBill},
	{0, "unauthorized", "", Refused, refresh, true, hintAllow},
	{0, "invalidaccesskeyid", "not opened", Denied, wait, false, hintBill},
	{0, "invalidaccesskeyid", "", Refused, refresh, false, hintKey},
	{0, "missaccesskeyid", "", Refused, refresh, false, hintKey},

	{0, "writequotaexceed", "", Throttled, wait, false, hintQuota},
	{0, "exceedquota", "", Throttled, wait, false, hintQuota},
	{0, "shardwritequotaexceed", "", Throttled, wait, false, hintShards},
	{0, "readquotaexceed", "", Throttled, wait, false, hintQuota},
	{0, "shardreadquotaexceed", "", Throttled, wait, false, hintShards},
	{0, "metaoperationqpslimitexceeded", "", Throttled, wait, false, ""},
	{0, "projectforbidden", "", Denied, wait, true, hintBill},

	{0, "projectnotexist", "", Absent, wait, false, "create the project, or mend project and region"},
	{0, "logstorenotexist", "", Absent, wait, false, hintProvision},
	{0, "shardnotexist", "", Absent, wait, false, "begin the reading again"},

	{0, "internalservererror", "", Transient, wait, true, ""},
	{0, "requesttimeout", "", Transient, wait, true, ""},
	{0, "unknownerror", "", Transient, wait, true, ""},
	{0, "serverbusy", "", Transient, wait, true, ""},
	{502, "", "", Transient, wait, false, ""},
	{503, "", "", Transient, wait, false, ""},
	{504, "", "", Transient, wait, false, ""},
	{500, "", "", Transient, wait, false, ""},
	{504, "gatewaytimeout", "", Transient, wait, false, ""},
	{429, "", "", Throttled, wait, false, ""},
	{429, "toomanyrequests", "", Throttled, wait, false, ""},
	{407, "", "", Config, wait, false, "mend the proxy's name and password"},
}

// find returns the row for an answer.
func find(status int, code, message string) row {
	code, message = strings.ToLower(code), strings.ToLower(message)
	for _, r := range table {
		if r.code == code && (r.status == 0 || r.status == status) && strings.Contains(message, r.text) {
			return r
		}
	}
	if code == "" {
		return row{class: Unknown, cmk: true, hint: hintOther}
	}
	return row{class: Unknown, cmk: true, hint: hintUnknown}
}

// echo is of a message that repeats the request's signature.
var echo = regexp.MustCompile(`(?i)authorization|signature *[=:]|HMAC-SHA`)

// explain makes an Error of what the SDK returned for a request.
func (c *Client) explain(sent request, t *trip, err error, secrets ...hidden.Text) *Error {
	e := &Error{Op: sent.op, Status: t.status}
	if t.status == 0 || t.status == http.StatusOK {
		e.Class, e.err = Network, plain(err)
		if refused := trust.Explain(err, c.o.CAFile); refused != nil {
			e.Class, e.err, e.Hint = Untrusted, refused, refused.Fix
		}
		if errors.Is(err, errNotLoopback) || errors.Is(err, errAnswerTooLong) {
			e.Class = Config
		}
		return e
	}
	var said *api.Error
	if errors.As(err, &said) {
		e.Code, e.Message = said.Code, said.Message
	}
	r := find(e.Status, e.Code, e.Message)
	e.Class, e.do, e.Hint, e.cmk = r.class, r.do, r.hint, r.cmk && !sent.noCMK
	e.RequestID = clean(t.header.Get(api.RequestIDHeader), 64)
	e.Skew = skewOf(t.header)
	if e.Class == Clock && e.Skew != 0 {
		e.Hint = fmt.Sprintf("%s: it differs from the service's by %v", hintClock, e.Skew.Abs())
	}
	if e.cmk && c.speaksOfKMS(e) {
		e.Class, e.do, e.Hint = CMK, wait, hintCMK
	}
	for _, s := range secrets {
		if !s.Empty() {
			e.Message = strings.ReplaceAll(e.Message, s.Reveal(), "…")
		}
	}
	if strings.EqualFold(e.Code, "SignatureNotMatch") || echo.MatchString(e.Message) {
		e.Message = "" // it repeats what was signed
	}
	e.Code, e.Message = clean(e.Code, 64), strings.TrimRight(clean(e.Message, 512), ". ")
	if e.Code == "" {
		e.Message = http.StatusText(e.Status)
	}
	return e
}

// skewOf returns the service's clock less this host's, in whole seconds, by an
// answer's Date; 0 without one.
func skewOf(h http.Header) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	d := time.Until(date).Round(time.Second)
	if d.Abs() < 2*time.Second { // Date is cut to seconds, and was under way
		return 0
	}
	return d
}

// plain strips what the HTTP client wraps around an error.
func plain(err error) error {
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			return err
		}
		err = u.Err
	}
}

// clean makes one printable line of s, at most most bytes long.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
