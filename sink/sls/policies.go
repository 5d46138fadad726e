package sls

import (
	"encoding/json"
	"strings"
)

// PolicyOptions say for what [Policies] are. Region, Project and Logstore must
// be set.
type PolicyOptions struct {
	Region, Project, Logstore string

	// Account is the id of the Alibaba Cloud account; default: that of
	// RoleARN, else "*".
	Account string

	// CMK is the id or ARN of the Logstore's own CMK, RoleARN the role by which
	// the service uses it; both "" with the service's key.
	CMK, RoleARN string

	// DataKeyCMKs are ids or ARNs of the CMKs that wrap data keys; none where
	// the agent does not use Alibaba Cloud KMS. DataKeyRegion is theirs; default
	// Region.
	DataKeyCMKs   []string
	DataKeyRegion string

	// ReaderCMKs are those of them that a reader may open with; default all.
	ReaderCMKs []string
}

// A Policy is one of RAM's.
type Policy struct {
	Name string // as it may be called
	For  string // to whom it is attached
	Note string // what to know about it; may be empty
	// Managed says that the policy of this name is Alibaba Cloud's own and has
	// only to be attached.
	Managed bool
	Text    string // JSON, indented; "" where Managed
}

type document struct {
	Version   string      `json:"Version"`
	Statement []statement `json:"Statement"`
}

type statement struct {
	Effect    string     `json:"Effect"`
	Action    []string   `json:"Action"`
	Resource  []string   `json:"Resource,omitempty"`
	Principal *principal `json:"Principal,omitempty"`
}

type principal struct {
	Service []string `json:"Service"`
}

func allow(resource []string, actions ...string) statement {
	return statement{Effect: "Allow", Action: actions, Resource: resource}
}

func text(statements ...statement) string {
	b, err := json.MarshalIndent(document{"1", statements}, "", "  ")
	if err != nil {
		panic("sls: " + err.Error())
	}
	return string(b)
}

const serviceName = "log.aliyuncs.com"

// Policies returns the policies that the Logstore and its users need. Those of
// the role, and PassRole, are there only where the Logstore has a CMK of its
// own.
func Policies(o PolicyOptions) []Policy {
	if o.Account == "" {
		o.Account = "*"
		// acs:ram::ACCOUNT:role/NAME
		if part := strings.Split(o.RoleARN, ":"); len(part) == 5 && part[3] != "" {
			o.Account = part[3]
		}
	}
	if o.DataKeyRegion == "" {
		o.DataKeyRegion = o.Region
	}
	logstore := []string{"acs:log:" + o.Region + ":" + o.Account + ":project/" + o.Project + "/logstore/" + o.Logstore}
	arns := func(ids []string) (arns []string) {
		for _, id := range ids {
			arns = append(arns, keyARN(id, o.DataKeyRegion, o.Account))
		}
		return arns
	}
	dataKeys, readerKeys := arns(o.DataKeyCMKs), arns(o.ReaderCMKs)
	if len(readerKeys) == 0 {
		readerKeys = dataKeys
	}

	var ps []Policy
	provisioner := []statement{allow(logstore, "log:CreateLogStore", "log:GetLogStore")}
	if o.CMK != "" {
		ps = append(ps, rolePolicies(o)...)
		provisioner = append(provisioner, allow([]string{o.RoleARN}, "ram:PassRole"))
	}
	ps = append(ps, Policy{
		Name: "sealtail-provision", For: "who runs sealtail provision",
		Note: "needed once; ram:PassRole lets it hand the role to SLS", Text: text(provisioner...),
	})
	agent := []statement{allow(logstore, "log:PostLogStoreLogs", "log:GetLogStore")}
	reader := []statement{allow(logstore, "log:ListShards", "log:GetCursorOrData")}
	note := "log:GetLogStore is for comparing the encryption; kms:Decrypt is left out so that the agent cannot open what it sealed"
	if len(dataKeys) > 0 {
		agent = append(agent, allow(dataKeys, "kms:GenerateDataKey", "kms:DescribeKey"))
		if o.CMK != "" {
			agent = append(agent, allow([]string{keyARN(o.CMK, o.Region, o.Account)}, "kms:DescribeKey"))
			note += "; the last statement is optional: by it the agent knows when the Logstore's CMK is disabled, and parks what the Logstore refuses only while it is not"
		}
	}
	if len(readerKeys) > 0 {
		reader = append(reader, allow(readerKeys, "kms:Decrypt"))
	}
	return append(ps,
		Policy{Name: "sealtail-agent", For: "the agent", Note: note, Text: text(agent...)},
		Policy{Name: "sealtail-reader", For: "who opens what was shipped", Text: text(reader...)},
	)
}

// rolePolicies returns what the role needs by which the service uses the
// Logstore's CMK.
func rolePolicies(o PolicyOptions) []Policy {
	cmk := []string{keyARN(o.CMK, o.Region, o.Account)}
	role := "the role " + o.RoleARN
	return []Policy{
		{
			Name: "trust", For: role,
			Note: "the role's trust policy: SLS may assume it",
			Text: text(statement{
				Effect: "Allow", Action: []string{"sts:AssumeRole"},
				Principal: &principal{[]string{serviceName}},
			}),
		},
		{
			Name: "sealtail-logstore-cmk", For: role,
			Note: "recommended in the place of the two managed policies: their actions, on the Logstore's CMK alone; not tried against the live service",
			Text: text(
				allow(cmk, "kms:List*", "kms:Describe*", "kms:Get*"),
				allow(cmk, "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"),
			),
		},
		{
			Name: "AliyunKMSReadOnlyAccess", For: role, Managed: true,
			Note: "named by the documentation of SLS; not needed with sealtail-logstore-cmk",
		},
		{
			Name: "AliyunKMSCryptoUserAccess", For: role, Managed: true,
			Note: "named by the documentation of SLS; it allows Decrypt with every key of the account, so SLS's role could unwrap data keys",
		},
	}
}

// keyARN returns the ARN of a key; an alias and an ARN stay what they are.
func keyARN(id, region, account string) string {
	switch {
	case strings.HasPrefix(id, "acs:"):
		return id
	case strings.HasPrefix(id, "alias/"):
		return "acs:kms:" + region + ":" + account + ":" + id
	}
	return "acs:kms:" + region + ":" + account + ":key/" + id
}
