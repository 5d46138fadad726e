package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"sealtail/seal"
	"sealtail/seal/alikms"
)

// A cmk makes data keys and is looked at.
type cmk struct {
	key alikms.Key
	err error
}

func (c *cmk) Generate(context.Context, []byte) (seal.DataKey, error) {
	return seal.DataKey{Plain: seal.NewSecret(32), Recipients: []seal.Recipient{{Type: seal.TypeAliKMS, KeyID: []byte("k"), Wrapped: []byte("w")}}}, nil
}

func (c *cmk) Describe(context.Context, string) (alikms.Key, error) { return c.key, c.err }

// With require_sm4_cmk no data key is taken from a CMK that is no SM4 key or
// cannot be looked at, and what is said is which of the two; no answer to a
// look is a revocation of the CMK, which has just made a data key.
func TestRequireSM4CMK(t *testing.T) {
	for _, tt := range []struct {
		name     string
		cmk      cmk
		required bool
		class    seal.Class
		code     string // "" = it is taken
		text     string
	}{
		{"SM4", cmk{key: alikms.Key{Spec: "Aliyun_SM4"}}, true, 0, "", ""},
		{"AES", cmk{key: alikms.Key{Spec: "Aliyun_AES_256"}}, true, seal.Misfit, "CMKSpec", "Aliyun_AES_256"},
		{"AES, not required", cmk{key: alikms.Key{Spec: "Aliyun_AES_256"}}, false, 0, "", ""},
		{"no right to look", cmk{err: &seal.KMSError{Class: seal.Revoked, Code: "Forbidden.NoPermission", Err: errors.New("HTTP 403")}}, true,
			seal.Misfit, "DescribeKey", "may not do kms:DescribeKey with CMK k: HTTP 403"},
		{"no right to look, not required", cmk{err: &seal.KMSError{Class: seal.Revoked, Code: "Forbidden.NoPermission"}}, false, 0, "", ""},
		{"an outage", cmk{err: &seal.KMSError{Class: seal.Outage, Code: "Timeout"}}, true, seal.Outage, "Timeout", ""},
		{"an outage, not required", cmk{err: &seal.KMSError{Class: seal.Outage, Code: "Timeout"}}, false, 0, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := (&sm4CMK{KMS: &tt.cmk, describe: &tt.cmk, required: tt.required, log: zap.NewNop()}).Generate(t.Context(), nil)
			defer d.Plain.Wipe()
			if tt.code == "" {
				if err != nil || len(d.Plain.Bytes()) != 32 {
					t.Errorf("got %v", err)
				}
				return
			}
			e, ok := errors.AsType[*seal.KMSError](err)
			if !ok || e.Class != tt.class || e.Code != tt.code || !strings.Contains(e.Error(), tt.text) || d.Plain.Bytes() != nil {
				t.Errorf("got %v, want %v (%s) with %q and no data key", err, tt.class, tt.code, tt.text)
			}
		})
	}
}
