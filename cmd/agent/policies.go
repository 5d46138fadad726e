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
			CMK: s.Encryption.CMKKeyID, RoleARN: s.Encryption.ARN, DataKeyCMKs: cmks,
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
		id := k.KeyID
		if isAlias(id) {
			aliases = append(aliases, id)
		}
		if region := kmsRegion(k.Endpoint); !strings.HasPrefix(id, "acs:") && region != "" && region != cfg.Sinks[sink].Region {
			// Else it would be taken for one of the sink's region.
			kind := "key/"
			if isAlias(id) {
				kind = ""
			}
			id = "acs:kms:" + region + ":*:" + kind + id
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	slices.Sort(aliases)
	return slices.Compact(ids), slices.Compact(aliases)
}

// isAlias reports whether a CMK is named by an alias.
func isAlias(id string) bool {
	return strings.HasPrefix(id, "alias/") || strings.Contains(id, ":alias/")
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
