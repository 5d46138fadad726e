package emul

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Credential is an access key, or with a token one of STS.
type Credential struct {
	AccessKeyID     string    `json:"access_key_id"`
	AccessKeySecret string    `json:"access_key_secret,omitzero"`
	SecurityToken   string    `json:"security_token,omitzero"` // must come with each request
	Expires         time.Time `json:"expires,omitzero"`        // zero = never
	Disabled        bool      `json:"disabled,omitzero"`
	Policies        []Policy  `json:"policies"` // nil = may do everything; empty = nothing
}

// A Role is what SLS assumes to use a CMK.
type Role struct {
	Name     string   `json:"name"`
	Trust    Policy   `json:"trust"` // who may assume it
	Policies []Policy `json:"policies"`
}

// A Policy is a policy of RAM. In JSON it may also be the name of a managed
// one, as of [ManagedPolicy]. What the emulator does not evaluate, such as a
// Condition, is refused when read.
type Policy struct {
	Version   string
	Statement []Statement
}

// A Statement allows or denies actions on resources, or in a trust policy to
// services. "*" stands for any run of characters, "?" for one.
type Statement struct {
	Effect    string // Allow or Deny
	Action    Strings
	Resource  Strings    `json:",omitzero"`
	Principal *Principal `json:",omitzero"`
}

// A Principal is who may assume a role.
type Principal struct {
	Service Strings `json:",omitzero"`
	RAM     Strings `json:",omitzero"`
}

// Strings are one or several; JSON has one as a string, several as an array.
type Strings []string

// UnmarshalJSON reads a string or an array of strings.
func (s *Strings) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = Strings{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// UnmarshalJSON reads a policy or the name of a managed one.
func (p *Policy) UnmarshalJSON(b []byte) error {
	var name string
	if json.Unmarshal(b, &name) == nil {
		managed, ok := ManagedPolicy(name)
		if !ok {
			return fmt.Errorf("no managed policy is called %q", name)
		}
		*p = managed
		return nil
	}
	type plain Policy
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(p)); err != nil {
		return fmt.Errorf("read a policy: %w", err)
	}
	for _, s := range p.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" {
			return fmt.Errorf("the effect of a statement is %q", s.Effect)
		}
	}
	return nil
}

// Allow returns a policy that allows actions on every resource.
func Allow(actions ...string) Policy {
	return Policy{Version: "1", Statement: []Statement{{Effect: "Allow", Action: actions, Resource: Strings{"*"}}}}
}

// Trust returns a trust policy for a service, such as log.aliyuncs.com.
func Trust(service string) Policy {
	return Policy{Version: "1", Statement: []Statement{{
		Effect: "Allow", Action: Strings{"sts:AssumeRole"}, Principal: &Principal{Service: Strings{service}},
	}}}
}

// ManagedPolicy returns AliyunKMSReadOnlyAccess or AliyunKMSCryptoUserAccess.
func ManagedPolicy(name string) (p Policy, ok bool) {
	switch name {
	case "AliyunKMSReadOnlyAccess":
		return Allow("kms:List*", "kms:Describe*", "kms:Get*"), true
	case "AliyunKMSCryptoUserAccess":
		return Allow("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"), true
	}
	return Policy{}, false
}

// SetCredential adds a credential or replaces the one of this id.
func (s *Server) SetCredential(c Credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credentials[c.AccessKeyID] = c
}

// DeleteCredential removes a credential.
func (s *Server) DeleteCredential(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.credentials, id)
}

// SetRole adds a role or replaces the one of this name. Its ARN is
// acs:ram::ACCOUNT:role/NAME.
func (s *Server) SetRole(r Role) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[r.Name] = r
	return s.roleARN(r.Name)
}

// DeleteRole removes a role.
func (s *Server) DeleteRole(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.roles, name)
}

func (s *Server) roleARN(name string) string {
	return fmt.Sprintf("acs:ram::%s:role/%s", s.o.Account, name)
}

// may tells whether the credential's policies allow an action.
func (c Credential) may(action, resource string) bool {
	return c.Policies == nil || allows(c.Policies, action, resource)
}

// trusts tells whether a service may assume the role.
func (r Role) trusts(service string) bool {
	for _, s := range r.Trust.Statement {
		if s.Effect == "Allow" && matchAny(s.Action, "sts:AssumeRole") && s.Principal != nil && matchAny(s.Principal.Service, service) {
			return true
		}
	}
	return false
}

// allows tells whether a statement allows an action and none denies it.
func allows(policies []Policy, action, resource string) bool {
	allowed := false
	for _, p := range policies {
		for _, s := range p.Statement {
			if matchAny(s.Action, action) && matchAny(s.Resource, resource) {
				if s.Effect == "Deny" {
					return false
				}
				allowed = true
			}
		}
	}
	return allowed
}

func matchAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if match(p, s) {
			return true
		}
	}
	return false
}

// match tells whether s fits a pattern with * and ?. It goes back to the last
// star alone, which is enough.
func match(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// SLSRole returns a role as SLS's documents ask for: SLS may assume it, and it
// has both managed policies.
func SLSRole(name string) Role {
	r := Role{Name: name, Trust: Trust(slsPrincipal)}
	for _, managed := range []string{"AliyunKMSReadOnlyAccess", "AliyunKMSCryptoUserAccess"} {
		p, _ := ManagedPolicy(managed)
		r.Policies = append(r.Policies, p)
	}
	return r
}
