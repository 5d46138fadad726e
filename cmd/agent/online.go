package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sealtail/conf"
	"sealtail/internal/cloud"
	"sealtail/seal"
	"sealtail/seal/alikms"
	"sealtail/sink/sls"
)

// online asks the services about every CMK and Logstore, with the agent's own
// access keys, and says in a few lines what they answer. It changes nothing: a
// data key that is made is wiped.
func (c *checking) online(ctx context.Context) (text string) {
	for _, name := range slices.Sorted(maps.Keys(c.cfg.Keys)) {
		if c.cfg.Keys[name].Provider == "alikms" {
			text += c.cmk(ctx, name)
		}
	}
	for _, name := range logstoresOf(c.cfg) {
		text += c.logstore(ctx, name)
	}
	return text
}

// cmk wants a CMK that makes data keys, and does not open them.
func (c *checking) cmk(ctx context.Context, name string) string {
	at, k := "key."+name, c.cfg.Keys[name]
	client, err := cloud.KMS(k)
	if err != nil {
		c.fault(at, err.Error(), "")
		return ""
	}
	header, err := c.headerOf(name)
	if err != nil {
		c.fault(at, err.Error(), "")
		return ""
	}
	dek, err := client.Generate(ctx, header)
	if err != nil {
		c.faults = append(c.faults, kmsFault(c.cfg, name, err))
		return ""
	}
	dek.Plain.Wipe()
	clock := c.clock(at, client.Skew())
	opens := c.opens(ctx, name, dek.Recipients[0], header)

	text := fmt.Sprintf("key %s\n  access  accepted, data keys are made\n  clock   %s\n  opens   %s\n", name, clock, opens)
	key, err := client.Describe(ctx, k.KeyID)
	if err != nil {
		c.cannotLook(name, err)
		return text
	}
	c.spec(name, key)
	c.protected(at+".key_id", key)
	if conf.IsAlias(k.KeyID) {
		for _, sink := range logstoresOf(c.cfg) {
			if c.uses(sink, name) {
				c.apart(sink, name, key.ID)
			}
		}
	}
	return text + fmt.Sprintf("  CMK     %s: %s, %s, %s\n", key.ARN, key.Spec, key.ProtectionLevel, key.State)
}

// clock says how this host's clock stands to a service's, by its answer.
func (c *checking) clock(at string, skew time.Duration) string {
	if skew.Abs() <= clockTolerance {
		return "right"
	}
	way := "behind"
	if skew < 0 {
		way = "ahead of"
	}
	text := fmt.Sprintf("%v %s the service's", skew.Abs(), way)
	c.warn(at, "this host's clock is "+text+": from 15m on all requests are refused", "set this host's clock")
	return text
}

// clockTolerance is what a clock that somebody keeps stays below.
const clockTolerance = time.Minute

// headerOf returns what data keys of a key are bound to, as for its first
// stream.
func (c *checking) headerOf(key string) ([]byte, error) {
	for _, st := range c.cfg.Streams {
		if st.Key == key {
			return envelopeContext(c.cfg.Sinks[st.Sink])
		}
	}
	return checkContext, nil
}

// opens tries to have a data key opened, which has to be denied.
func (c *checking) opens(ctx context.Context, name string, r seal.Recipient, header []byte) string {
	at := "key." + name + ".credentials"
	client, err := cloud.KMS(c.cfg.Keys[name], string(r.KeyID))
	if err == nil {
		var plain seal.Secret
		plain, err = client.Unwrap(ctx, r, header)
		plain.Wipe()
	}
	if err == nil {
		c.warn(at, "the access key may do Decrypt with the CMK: whoever takes over this host can read what it shipped",
			"take kms:Decrypt from it: sealtail provision --print-policies prints what the agent needs")
		return "the access key may do Decrypt"
	}
	if e, ok := errors.AsType[*seal.KMSError](err); ok && e.Code == "Forbidden.NoPermission" {
		return "denied, as it should be"
	}
	c.warn(at, "whether Decrypt is denied is not known: "+err.Error(), "")
	return "not known"
}

// suites returns those that a key's data keys are used with.
func (c *checking) suites(key string) (suites []string) {
	for _, st := range c.cfg.Streams {
		if st.Key == key {
			suites = append(suites, st.Suite)
		}
	}
	return suites
}

// cannotLook is for a CMK that makes data keys but cannot be described.
func (c *checking) cannotLook(name string, err error) {
	at, fix := "key."+name+".key_id", "allow kms:DescribeKey to the access key"
	problem := "the CMK cannot be looked at: " + err.Error()
	if c.cfg.Keys[name].RequireSM4CMK && slices.Contains(c.suites(name), seal.SM4GCM.String()) {
		c.fault(at, problem, fix+", or remove require_sm4_cmk")
		return
	}
	c.warn(at, problem, fix)
}

// spec wants an SM4 CMK under suite sm4-gcm.
func (c *checking) spec(name string, key alikms.Key) {
	if key.SM4() || !slices.Contains(c.suites(name), seal.SM4GCM.String()) {
		return
	}
	at, problem := "key."+name+".key_id", fmt.Sprintf("the CMK is of spec %s: data keys of suite sm4-gcm are wrapped by another cipher than SM4", key.Spec)
	const fix = "use a CMK of spec Aliyun_SM4"
	if c.cfg.Keys[name].RequireSM4CMK {
		c.fault(at, problem, fix+", or remove require_sm4_cmk")
		return
	}
	c.warn(at, problem, fix)
}

// protected wants a CMK that cannot be deleted by a mistake: what it wrapped
// would be lost with it.
func (c *checking) protected(at string, key alikms.Key) {
	if key.DeletionProtection != "Enabled" {
		c.warn(at, "deletion protection of the CMK is off: with the CMK all that it wrapped is lost", "enable deletion protection in the KMS")
	}
}

// logstore wants one that is there and encrypted as configured.
func (c *checking) logstore(ctx context.Context, name string) string {
	at, s := "sink."+name, c.cfg.Sinks[name]
	client, err := openSLS(s)
	if err != nil {
		c.fault(at, err.Error(), "")
		return ""
	}
	defer client.Close()
	l, err := client.Logstore(ctx)
	if err != nil {
		c.faults = append(c.faults, logstoreFault(c.cfg, name, c.cfg.Sinks[name], err))
		return ""
	}
	v := encryptionOf(s).Compare(l)
	for _, n := range v.Notes {
		c.warn(at+".encryption", n, "")
	}
	if len(v.Differs) > 0 {
		c.fault(at+".encryption", strings.Join(v.Differs, ", "), hintMismatch)
		return ""
	}
	writes := c.writes(ctx, name, client)
	return fmt.Sprintf("sink %s\n  access    accepted; %s\n  clock     %s\n  Logstore  there, %d shards, kept %d days\n  encrypted as configured: %s\n",
		name, writes, c.clock(at, client.Skew()), l.Shards, l.TTL, encryptionText(s.Encryption)) + c.logstoreCMK(ctx, name)
}

// writes tries whether the access key may write, by a put that leaves nothing
// in the Logstore.
func (c *checking) writes(ctx context.Context, name string, client *sls.Client) string {
	const unknown = "whether it may write is not known"
	err := client.TryPut(ctx)
	if err == nil {
		return "may write: a put of no logs was taken"
	}
	e, ok := errors.AsType[*sls.Error](err)
	switch {
	case ok && e.Class == sls.Content:
		return "a put of no logs was refused for holding none (" + e.Code + "), not for want of a right"
	case ok && slices.Contains([]sls.Class{sls.Denied, sls.Refused, sls.Absent, sls.Clock, sls.CMK}, e.Class):
		c.faults = append(c.faults, logstoreFault(c.cfg, name, c.cfg.Sinks[name], err))
	default:
		f := logstoreFault(c.cfg, name, c.cfg.Sinks[name], err)
		c.warn(f.Key, unknown+": "+f.Problem, f.Fix)
	}
	return unknown
}

// logstoreCMK looks at the Logstore's own CMK, where the agent's access key for
// the data keys may do that. It need not.
func (c *checking) logstoreCMK(ctx context.Context, name string) string {
	cmk := c.cfg.Sinks[name].Encryption.CMKKeyID
	if cmk == "" {
		return ""
	}
	const unknown = "  CMK       not looked at: "
	i := slices.IndexFunc(c.cfg.Streams, func(st conf.Stream) bool {
		return st.Sink == name && c.cfg.Keys[st.Key].Provider == "alikms"
	})
	if i < 0 {
		return unknown + "no KMS wraps the data keys of what goes there\n"
	}
	client, err := cloud.KMS(c.cfg.Keys[c.cfg.Streams[i].Key])
	var key alikms.Key
	if err == nil {
		key, err = client.Describe(ctx, cmk)
	}
	at := "sink." + name + ".encryption.cmk_key_id"
	if e, ok := errors.AsType[*seal.KMSError](err); ok {
		switch e.Code {
		case "Forbidden.NoPermission":
			return unknown + "the access key may not do kms:DescribeKey with it, which is optional\n"
		case "Forbidden.KeyNotFound":
			c.warn(at, "the KMS that wraps the data keys does not know the Logstore's CMK: it is deleted, or in another region", "see whether it is there")
		}
	}
	if err != nil {
		return unknown + err.Error() + "\n"
	}
	if key.State != "Enabled" {
		c.fault(at, "the Logstore's CMK is "+key.State+": all reads and writes fail", "enable it")
	}
	c.protected(at, key)
	return fmt.Sprintf("  CMK       %s: %s, %s, %s\n", key.ARN, key.Spec, key.ProtectionLevel, key.State)
}
