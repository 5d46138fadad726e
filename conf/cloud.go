package conf

import (
	"net/url"
	"slices"
)

// checkURL holds that s is the URL of an endpoint. Whether http:// ends on a
// loopback address is for those who connect.
func (d *decoder) checkURL(at, s string) {
	if s == "" {
		return
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		d.fault(at, "write https://HOST or https://HOST:PORT", "is no endpoint")
	}
}

func (d *decoder) checkCredentials(at string, c *Credentials) {
	d.checkPath(join(at, "access_key_id_file"), &c.AccessKeyIDFile)
	d.checkPath(join(at, "access_key_secret_file"), &c.AccessKeySecretFile)
	d.checkPath(join(at, "security_token_file"), &c.SecurityTokenFile)
}

func (d *decoder) checkRoute(at string, r *Route) {
	d.checkPath(join(at, "ca_file"), &r.CAFile)
	if u, err := url.Parse(r.Proxy); r.Proxy != "" && (err != nil || u.Host == "") {
		d.fault(join(at, "proxy"), "write http://HOST:PORT", "is no URL of a proxy")
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
	case e.CMKKeyID != "" && e.ARN == "":
		d.fault(join(at, "arn"), "add the ARN of the role that SLS assumes", "missing beside cmk_key_id")
	case e.CMKKeyID != "" && e.RegionID == "":
		d.fault(join(at, "region_id"), "add the CMK's region", "missing beside cmk_key_id")
	case e.CMKKeyID != "" && region != "" && e.RegionID != region:
		d.fault(join(at, "region_id"), "use a CMK in the Logstore's region", "%q is not the sink's region, %q", e.RegionID, region)
	}
}
