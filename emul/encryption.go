package emul

import (
	"crypto/cipher"
	"fmt"
	"slices"
	"strings"
)

// slsPrincipal is who assumes the role for a CMK.
const slsPrincipal = "log.aliyuncs.com"

// An EncryptConf is how a Logstore is encrypted. All but Enable never changes.
type EncryptConf struct {
	Enable      bool         `json:"enable"`
	EncryptType string       `json:"encrypt_type"`
	UserCMKInfo *UserCMKInfo `json:"user_cmk_info,omitzero"` // nil or empty = service key
}

// A UserCMKInfo names the user's own CMK, and the role by which SLS uses it.
type UserCMKInfo struct {
	CMKKeyID string `json:"cmk_key_id"`
	ARN      string `json:"arn"`
	RegionID string `json:"region_id"`
}

// encryptTypes are those of all pages of the documents.
func encryptTypes() []string {
	return []string{"default", "m4", "sm4", "sm4_ecb", "sm4_cbc", "sm4_gcm", "aes_ecb", "aes_cbc", "aes_cfb", "aes_ofb", "aes_gcm"}
}

func (e EncryptConf) cmk() UserCMKInfo {
	if e.UserCMKInfo == nil {
		return UserCMKInfo{}
	}
	return *e.UserCMKInfo
}

func (e EncryptConf) sm() bool {
	return strings.HasPrefix(strings.TrimPrefix(e.EncryptType, "s"), "m4")
}

// same tells whether two differ in Enable at most. m4 and sm4 are one.
func (e EncryptConf) same(o EncryptConf) bool {
	name := func(t string) string {
		if t == "m4" {
			return "sm4"
		}
		return t
	}
	return name(e.EncryptType) == name(o.EncryptType) && e.cmk() == o.cmk()
}

// setEncryption gives a Logstore its encryption, or toggles it.
func (s *Server) setEncryption(c *call, l *logstore, conf EncryptConf) error {
	if old := l.EncryptConf; old != nil {
		if !old.same(conf) {
			return slsError("ParameterInvalid", "the encryption of logstore %s cannot change but for enable", l.Name)
		}
		toggled := *old
		toggled.Enable = conf.Enable
		l.EncryptConf = &toggled
		return nil
	}
	info := conf.cmk()
	switch {
	case !slices.Contains(encryptTypes(), conf.EncryptType):
		return slsError("LogStoreInfoInvalid", "encrypt_type %q is invalid", conf.EncryptType)
	case info == UserCMKInfo{}:
		conf.UserCMKInfo = nil
	case info.CMKKeyID == "" || info.ARN == "" || info.RegionID == "":
		return slsError("LogStoreInfoInvalid", "user_cmk_info needs cmk_key_id, arn and region_id")
	case info.RegionID != s.o.Region:
		return slsError("LogStoreInfoInvalid", "region_id %q is not this region, %s", info.RegionID, s.o.Region)
	default:
		if err := s.may(c, "ram:PassRole", info.ARN); err != nil {
			return err
		}
	}
	wrapped, err := s.newDataKey(conf)
	if err != nil {
		return s.cmkInvalid(err)
	}
	l.EncryptConf, l.wrapped, l.by = &conf, wrapped, info
	return nil
}

// updateEncryption has names of its own for the same things.
func (s *Server) updateEncryption(c *call) (*answer, error) {
	body, err := c.json()
	if err != nil {
		return nil, err
	}
	var b struct {
		Enable      *bool   `json:"enable"`
		EncryptType *string `json:"encryptType"`
		UserCMKInfo *struct {
			KeyID    string `json:"keyId"`
			RoleARN  string `json:"roleArn"`
			RegionID string `json:"regionId"`
		} `json:"userCmkInfo"`
	}
	if err := strict(body, &b); err != nil || b.Enable == nil {
		return nil, slsError("ParameterInvalid", "The body is invalid: it needs enable and may have encryptType and userCmkInfo{keyId, roleArn, regionId}.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quirks.NoEncryptionCall {
		return nil, slsError("NotImplemented", "")
	}
	l, err := s.logstore(c)
	if err != nil {
		return nil, err
	}
	var conf EncryptConf
	if l.EncryptConf != nil { // what is left out stays
		conf = *l.EncryptConf
	}
	conf.Enable = *b.Enable
	if b.EncryptType != nil {
		conf.EncryptType = *b.EncryptType
	}
	if b.UserCMKInfo != nil {
		conf.UserCMKInfo = &UserCMKInfo{b.UserCMKInfo.KeyID, b.UserCMKInfo.RoleARN, b.UserCMKInfo.RegionID}
	}
	if err := s.setEncryption(c, l, conf); err != nil {
		return nil, err
	}
	return ok(), nil
}

// ForceEncryption changes what is told of a Logstore's encryption, which no
// call can: a test's way to make it differ from what was asked for. With nil
// there is none, and what is written from then on lies in clear.
func (s *Server) ForceEncryption(project, name string, conf *EncryptConf) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.projects[project]
	if p == nil || p.logstores[name] == nil {
		return fmt.Errorf("there is no Logstore %s/%s", project, name)
	}
	l := p.logstores[name]
	if conf != nil && l.wrapped == nil {
		wrapped, err := s.newDataKey(*conf)
		if err != nil {
			return err
		}
		l.wrapped, l.by = wrapped, conf.cmk()
	}
	l.EncryptConf = conf
	return nil
}

// cmkInvalid is the answer to what needs a CMK that cannot be used, whatever
// the reason.
func (s *Server) cmkInvalid(reason error) error {
	e := s.quirks.CMKInvalid
	if e.Status == 0 {
		e.Status = 403
	}
	e.Code = or(e.Code, "LogstoreEncryptionUnavailable")
	e.Message = or(e.Message, fmt.Sprintf("The CMK of the Logstore is invalid: %v", reason))
	return &e
}

// newDataKey returns a new data key for a Logstore, wrapped.
func (s *Server) newDataKey(conf EncryptConf) ([]byte, error) {
	k, err := s.assume(conf.cmk(), "kms:DescribeKey", "kms:GenerateDataKey", "kms:Decrypt")
	if err != nil {
		return nil, err
	}
	return k.wrap(random(keySize(conf.sm())), dataKeyContext(conf.sm())), nil
}

// dataKey returns what seals and opens a Logstore's data at rest. The data key
// is unwrapped each time: nobody keeps it.
func (s *Server) dataKey(l *logstore) (cipher.AEAD, error) {
	k, err := s.assume(l.by, "kms:DescribeKey", "kms:Decrypt")
	if err != nil {
		return nil, s.cmkInvalid(err)
	}
	for _, sm := range []bool{false, true} {
		if key, err := k.unwrap(l.wrapped, dataKeyContext(sm)); err == nil {
			return newAEAD(sm, key), nil
		}
	}
	return nil, s.cmkInvalid(errBlob)
}

func dataKeyContext(sm bool) string {
	if sm {
		return `{"acs:log:cipher":"sm4-gcm"}`
	}
	return `{"acs:log:cipher":"aes-256-gcm"}`
}

// assume returns the key that SLS uses: its own, or the CMK if the role lets
// SLS do all of this with it and it is Enabled.
func (s *Server) assume(info UserCMKInfo, actions ...string) (*cmk, error) {
	if info == (UserCMKInfo{}) {
		return s.own, nil
	}
	name, isOurs := strings.CutPrefix(info.ARN, s.roleARN(""))
	role, ok := s.roles[name]
	switch {
	case !isOurs || !ok:
		return nil, fmt.Errorf("role %s does not exist", info.ARN)
	case !role.trusts(slsPrincipal):
		return nil, fmt.Errorf("role %s does not trust %s", info.ARN, slsPrincipal)
	}
	k, err := s.key(info.CMKKeyID)
	if err != nil {
		return nil, err
	}
	for _, action := range actions {
		if !allows(role.Policies, action, k.ARN) {
			return nil, fmt.Errorf("role %s may not %s", info.ARN, action)
		}
	}
	return k, k.usable()
}
