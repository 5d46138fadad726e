package main

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"sealtail/conf"
	"sealtail/sink/sls"
)

// printPolicies prints what rights the Logstores and their users need.
func printPolicies(w io.Writer, cfg *conf.Config, logstores []string) error {
	var b strings.Builder
	for _, name := range logstores {
		s := cfg.Sinks[name]
		cmks, aliases := dataKeyCMKs(cfg, name)
		fmt.Fprintf(&b, "# sink %s: Logstore %s of project %s\n", name, s.Logstore, s.Project)
		for _, a := range aliases {
			fmt.Fprintf(&b, "# %s: a right is on a CMK, not on its alias: write the CMK's ARN in the place of it\n", a)
		}
		for _, p := range sls.Policies(sls.PolicyOptions{
			Region: s.Region, Project: s.Project, Logstore: s.Logstore,
			CMK: s.Encryption.CMKKeyID, RoleARN: s.Encryption.ARN, DataKeyCMKs: cmks, ReaderCMKs: readerCMKs(cfg, name),
		}) {
			fmt.Fprintf(&b, "\n# %s: for %s\n", p.Name, p.For)
			if p.Note != "" {
				fmt.Fprintf(&b, "# %s\n", p.Note)
			}
			if p.Managed {
				b.WriteString("# Alibaba Cloud's own: attach it by its name\n")
				continue
			}
			b.WriteString(p.Text + "\n")
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// dataKeyCMKs returns the CMKs that wrap the data keys of what is shipped to a
// sink, and which of them are aliases.
func dataKeyCMKs(cfg *conf.Config, sink string) (ids, aliases []string) {
	for _, st := range cfg.Streams {
		k := cfg.Keys[st.Key]
		if st.Sink != sink || k.Provider != "alikms" {
			continue
		}
		if conf.IsAlias(k.KeyID) {
			aliases = append(aliases, k.KeyID)
		}
		ids = append(ids, inRegion(k.KeyID, k.Endpoint, cfg.Sinks[sink].Region))
	}
	slices.Sort(ids)
	slices.Sort(aliases)
	return slices.Compact(ids), slices.Compact(aliases)
}

// readerCMKs returns the CMKs of reader.allow, if it names any.
func readerCMKs(cfg *conf.Config, sink string) (ids []string) {
	for _, id := range cfg.Reader.Allow {
		if strings.HasPrefix(id, "acs:") {
			ids = append(ids, id)
			continue
		}
		// Any KMS of the config may have it.
		for _, k := range cfg.Keys {
			if k.Provider == "alikms" {
				ids = append(ids, inRegion(id, k.Endpoint, cfg.Sinks[sink].Region))
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// inRegion returns the ARN of a CMK of another region than a sink's: without
// it it would be taken for one of that.
func inRegion(id, endpoint, sinks string) string {
	region := kmsRegion(endpoint)
	if strings.HasPrefix(id, "acs:") || region == "" || region == sinks {
		return id
	}
	kind := "key/"
	if conf.IsAlias(id) {
		kind = ""
	}
	return "acs:kms:" + region + ":*:" + kind + id
}

// kmsRegion returns the region of a shared gateway, kms.REGION.aliyuncs.com or
// kms-vpc.REGION.aliyuncs.com; "" of any other.
func kmsRegion(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	part := strings.Split(u.Hostname(), ".")
	if len(part) == 4 && (part[0] == "kms" || part[0] == "kms-vpc") && part[2] == "aliyuncs" {
		return part[1]
	}
	return ""
}
