package main

import (
	"errors"
	"net"
	"strings"

	"sealtail/conf"
	"sealtail/cred"
	"sealtail/internal/command"
	"sealtail/internal/trust"
	"sealtail/seal"
	"sealtail/sink/sls"
)

// kmsFault says which key of [key.NAME] an error of its KMS is about, and what
// mends it.
func kmsFault(cfg *conf.Config, name string, err error) conf.Fault {
	at, k := "key."+name, cfg.Keys[name]
	fault := func(key, fix string) conf.Fault { return cfg.Fault(at+key, err.Error(), fix) }
	if key, problem, fix := localMend(k.Credentials, err); key != "" {
		return cfg.Fault(at+key, problem, fix)
	}
	if refused, ok := errors.AsType[*trust.Error](err); ok {
		return fault(dotted(refused.Key), refused.Fix)
	}
	e, ok := errors.AsType[*seal.KMSError](err)
	switch {
	case !ok:
		return fault("", "")
	case strings.HasPrefix(e.Code, "InvalidTimeStamp") || e.Code == "IllegalTimestamp":
		return fault("", "set this host's clock")
	case e.Code == "Forbidden.NoPermission":
		return fault(".key_id", "allow kms:GenerateDataKey on this CMK to the access key "+keyPlace(k.Credentials)+": sealtail provision --print-policies prints the policy")
	case e.Code == "Rejected.Disabled":
		return fault(".key_id", "enable the CMK")
	case e.Code == "Rejected.PendingDeletion":
		return fault(".key_id", "cancel the deletion of the CMK")
	case e.Code == "Forbidden.KeyNotFound" || e.Code == "Forbidden.AliasNotFound":
		return fault(".key_id", "mend key_id: a CMK is known in its own region only")
	case e.Class == seal.Credentials:
		return fault(".credentials", "replace the access key "+keyPlace(k.Credentials))
	case e.Class == seal.Outage && (e.Code == "Network" || e.Code == "Timeout"):
		return fault(routeMend(k.Route, err))
	case e.Class == seal.Outage:
		return fault("", "the service is in trouble, or it is not open or paid for: what the error names says which")
	}
	return fault("", "mend key_id and endpoint")
}

// logstoreFault says which key of [sink.NAME], which is s, an error of its
// Logstore is about, and what mends it.
func logstoreFault(cfg *conf.Config, name string, s conf.Sink, err error) conf.Fault {
	at := "sink." + name
	if mismatch, ok := errors.AsType[*sls.MismatchError](err); ok {
		return cfg.Fault(at+".encryption", mismatch.Error(), hintMismatch)
	}
	if key, problem, fix := localMend(s.Credentials, err); key != "" {
		return cfg.Fault(at+key, problem, fix)
	}
	if refused, ok := errors.AsType[*trust.Error](err); ok {
		return cfg.Fault(at+dotted(refused.Key), refused.Error(), refused.Fix)
	}
	e, ok := errors.AsType[*sls.Error](err)
	if !ok {
		return cfg.Fault(at, err.Error(), "")
	}
	said := *e
	said.Hint = ""
	fault := func(key, fix string) conf.Fault { return cfg.Fault(at+key, said.Error(), fix) }
	switch {
	case e.Class == sls.Denied && strings.Contains(e.Message, "denied by"):
		return fault(".credentials", "allow it to the access key "+keyPlace(s.Credentials)+": sealtail provision --print-policies prints the policies")
	case e.Class == sls.Refused && strings.EqualFold(e.Code, "SignatureNotMatch"):
		return fault(".credentials", "replace the access key "+keyPlace(s.Credentials)+": its secret is not that of its id; or mend region, for which requests are signed")
	case e.Class == sls.Refused:
		return fault(".credentials", "replace the access key "+keyPlace(s.Credentials))
	case e.Class == sls.Absent && strings.EqualFold(e.Code, "ProjectNotExist"):
		return fault(".project", e.Hint)
	case e.Class == sls.Absent:
		return fault(".logstore", e.Hint)
	case e.Class == sls.CMK && s.Encryption.CMKKeyID != "":
		return fault(".encryption", e.Hint+": CMK "+s.Encryption.CMKKeyID+", role "+s.Encryption.ARN)
	case e.Class == sls.Network && e.Status == 0:
		key, fix := routeMend(s.Route, err)
		if e.Hint != "" {
			fix = e.Hint
		}
		return fault(key, fix)
	case e.Class == sls.Transient && e.Hint == "":
		return fault("", "the service, or a proxy before it, is in trouble: try again")
	}
	return fault("", e.Hint)
}

// dotted is a key below a section; "" is the section's own.
func dotted(key string) string {
	if key == "" {
		return ""
	}
	return "." + key
}

// localMend is for what is wrong on this host: its key is "" where nothing is.
func localMend(c conf.Credentials, err error) (key, problem, fix string) {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		fix = "put an access key " + keyPlace(c)
		if c.Type == "file" {
			fix += ", for the agent's user and nobody else to read"
		}
		return ".credentials", e.Error(), fix
	}
	return "", "", ""
}

// keyPlace says in words where an access key is found.
func keyPlace(c conf.Credentials) string {
	switch c.Type {
	case "file":
		return "in " + c.AccessKeyIDFile + " and " + c.AccessKeySecretFile
	case "systemd":
		return "in the service's credentials " + c.AccessKeyIDName + " and " + c.AccessKeySecretName
	}
	return "in the environment, ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET"
}

// routeMend says which key leads astray where there is no answer.
func routeMend(r conf.Route, err error) (key, fix string) {
	op, _ := errors.AsType[*net.OpError](err)
	host, _ := errors.AsType[*net.DNSError](err)
	switch {
	case op != nil && op.Op == "proxyconnect", !r.Proxy.Empty():
		return ".route.proxy", "see whether the proxy runs, and lets this host through to the endpoint"
	case r.DialAddress != "":
		return ".route.dial_address", "see whether the service is reached at that address"
	case host != nil:
		return ".endpoint", "mend the host's name, or this host's DNS"
	}
	return ".endpoint", "see whether the endpoint is right, and this host may connect to it"
}

// startFault is an error of what a section of the configuration names, found
// before anybody is asked.
func startFault(cfg *conf.Config, at string, c conf.Credentials, err error) error {
	key, problem, fix := localMend(c, err)
	if key == "" {
		problem, fix = err.Error(), "mend ["+at+"] and try it with sealtail check --online"
	}
	f := cfg.Fault(at+key, problem, fix)
	return command.Fail(command.ExitConfig, f, f.Fix)
}
