package conf

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// checkEndpoint holds that s is the URL of an endpoint, and that http:// ends
// on a loopback address as far as names tell: the rest is for those who
// connect.
func (d *decoder) checkEndpoint(at, s string, r Route) {
	if s == "" {
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		d.fault(at, "write https://HOST or https://HOST:PORT", "is no endpoint")
		return
	}
	host := u.Hostname()
	if to, _, err := net.SplitHostPort(r.DialAddress); err == nil {
		host = to
	}
	if u.Scheme == "http" && (host != "localhost" && !net.ParseIP(host).IsLoopback() || !r.Proxy.Empty()) {
		d.fault(at, "write https://", "http:// is for loopback addresses only")
	}
}

// checkCloudNames holds that names of SLS are: they become parts of host names
// and paths.
func (d *decoder) checkCloudNames(at string, s Sink) {
	for _, n := range []struct{ key, name, marks string }{{"project", s.Project, "-"}, {"logstore", s.Logstore, "-_"}, {"region", s.Region, "-"}} {
		if n.name != "" && !cloudName(n.name, n.marks) {
			d.fault(join(at, n.key), "use 2 to 63 lower-case letters, digits and, inside, "+strings.Join(strings.Split(n.marks, ""), " or "), "%q is no name of a %s", n.name, n.key)
		}
	}
	u, err := url.Parse(s.Endpoint)
	if err != nil || s.Region == "" {
		return
	}
	// The service's own are REGION.log.aliyuncs.com, REGION-intranet.log.…
	if label, own := strings.CutSuffix(u.Hostname(), ".log.aliyuncs.com"); own && label != s.Region && !strings.HasPrefix(label, s.Region+"-") {
		d.warn(join(at, "region"), "write the endpoint's region: requests are signed for it", "%q is not that of the endpoint, %s", s.Region, u.Hostname())
	}
}

func cloudName(s, marks string) bool {
	if len(s) < 2 || len(s) > 63 || strings.ContainsAny(s[:1]+s[len(s)-1:], marks) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(marks, r))
	})
}

func (d *decoder) checkCredentials(at string, c *Credentials) {
	d.checkPath(join(at, "access_key_id_file"), &c.AccessKeyIDFile)
	d.checkPath(join(at, "access_key_secret_file"), &c.AccessKeySecretFile)
	d.checkPath(join(at, "security_token_file"), &c.SecurityTokenFile)
}

func (d *decoder) checkRoute(at string, r *Route) {
	d.checkPath(join(at, "ca_file"), &r.CAFile)
	u, err := url.Parse(r.Proxy.Reveal())
	if !r.Proxy.Empty() && (err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme)) {
		d.fault(join(at, "proxy"), "write http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT", "is no URL of a proxy")
	}
	if r.DialAddress == "" {
		return
	}
	host, port, err := net.SplitHostPort(r.DialAddress)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
		d.fault(join(at, "dial_address"), "write HOST:PORT", "is no address")
	}
	if !r.Proxy.Empty() {
		d.fault(join(at, "dial_address"), "remove it, or proxy", "goes without proxy only")
	}
}

// encryptTypes are the words that the service is known to take.
var encryptTypes = []string{"default", "m4", "sm4", "sm4_ecb", "sm4_cbc", "sm4_gcm", "aes_ecb", "aes_cbc", "aes_cfb", "aes_ofb", "aes_gcm"}

func (d *decoder) checkEncryption(at string, e Encryption, region string) {
	if e.Type == "" {
		return // said already
	}
	if !e.Enable {
		d.fault(join(at, "enable"), "remove it", "false: sealtail ships to encrypted Logstores only")
	}
	if !slices.Contains(encryptTypes, e.Type) {
		d.warn(join(at, "type"), "", "%q is not a type that is known here", e.Type)
	}
	switch {
	case e.CMKKeyID == "" && (e.ARN != "" || e.RegionID != ""):
		d.fault(join(at, "cmk_key_id"), "add it, or remove arn and region_id", "missing beside arn or region_id")
	case IsAlias(e.CMKKeyID):
		d.fault(join(at, "cmk_key_id"), "write the CMK's id", "%q is an alias, which may come to mean another CMK", e.CMKKeyID)
	case e.CMKKeyID != "" && e.ARN == "":
		d.fault(join(at, "arn"), "add the ARN of the role that SLS assumes", "missing beside cmk_key_id")
	case e.CMKKeyID != "" && e.RegionID == "":
		d.fault(join(at, "region_id"), "add the CMK's region", "missing beside cmk_key_id")
	case e.CMKKeyID != "" && region != "" && e.RegionID != region:
		d.fault(join(at, "region_id"), "use a CMK in the Logstore's region", "%q is not the sink's region, %q", e.RegionID, region)
	}
}
