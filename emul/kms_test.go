package emul_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sealtail/emul"
)

// A dataKey is an answer of KMS, as far as it has bytes.
type dataKey struct {
	KeyId, KeyVersionId, RequestId string
	CiphertextBlob                 string
	Plaintext                      []byte
}

func withKeys(t testing.TB) *client {
	t.Helper()
	c := newClient(t, emul.Options{})
	for _, k := range []emul.Key{{ID: "k", Aliases: []string{"alias/mine"}}, {ID: "sm", Spec: emul.SM4}} {
		if _, err := c.s.SetKey(k); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestDataKeys(t *testing.T) {
	c := withKeys(t)
	arn := "acs:kms:cn-hangzhou:" + c.s.Account() + ":"
	for _, tt := range []struct {
		name   string
		params map[string]string
		bytes  int
		want   string
	}{
		{"id", map[string]string{"KeyId": "k"}, 32, ""},
		{"alias", map[string]string{"KeyId": "alias/mine"}, 32, ""},
		{"ARN", map[string]string{"KeyId": arn + "key/k"}, 32, ""},
		{"ARN of an alias", map[string]string{"KeyId": arn + "alias/mine"}, 32, ""},
		{"SM4", map[string]string{"KeyId": "sm"}, 32, ""},
		{"AES_128", map[string]string{"KeyId": "k", "KeySpec": "AES_128"}, 16, ""},
		{"bytes win", map[string]string{"KeyId": "k", "KeySpec": "AES_128", "NumberOfBytes": "1024"}, 1024, ""},
		{"1 byte", map[string]string{"KeyId": "k", "NumberOfBytes": "1"}, 1, ""},
		{"0 bytes", map[string]string{"KeyId": "k", "NumberOfBytes": "0"}, 0, "InvalidParameter"},
		{"1025 bytes", map[string]string{"KeyId": "k", "NumberOfBytes": "1025"}, 0, "InvalidParameter"},
		{"SM4 as data key", map[string]string{"KeyId": "k", "KeySpec": "SM4"}, 0, "InvalidParameter"},
		{"no key", nil, 0, "MissingParameter"},
		{"unknown", map[string]string{"KeyId": "x"}, 0, "Forbidden.KeyNotFound"},
		{"unknown alias", map[string]string{"KeyId": "alias/x"}, 0, "Forbidden.AliasNotFound"},
		{"other region", map[string]string{"KeyId": strings.Replace(arn, "hangzhou", "beijing", 1) + "key/k"}, 0, "Forbidden.KeyNotFound"},
		{"dry run", map[string]string{"KeyId": "k", "DryRun": "true"}, 0, "DryRunOperationError"},
		{"dry run, unknown", map[string]string{"KeyId": "x", "DryRun": "true"}, 0, "ValidationError"},
		{"no dry run", map[string]string{"KeyId": "k", "DryRun": "false"}, 32, ""},
		{"strange dry run", map[string]string{"KeyId": "k", "DryRun": "1"}, 0, "InvalidParameter"},
	} {
		for _, form := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/form=%t", tt.name, form), func(t *testing.T) {
				r, err := c.tryKMS("GenerateDataKey", tt.params, form)
				if err != nil || r.code() != tt.want {
					t.Fatalf("got %q, %v, want %q", r.code(), err, tt.want)
				}
				if tt.want != "" {
					var e struct {
						HttpStatus                       int
						Code, Message, RequestId, HostId string
					}
					if json.Unmarshal(r.body, &e); e.HttpStatus != r.status || e.Message == "" || e.RequestId == "" || e.HostId != "kms.test" {
						t.Errorf("got %s", r.body)
					}
					return
				}
				var made, opened dataKey
				r.decode(t, &made)
				if len(made.Plaintext) != tt.bytes || made.KeyId == "" || made.KeyVersionId == "" || made.RequestId == "" {
					t.Errorf("got %+v", made)
				}
				c.kms("Decrypt", map[string]string{"CiphertextBlob": made.CiphertextBlob}).decode(t, &opened)
				if !bytes.Equal(opened.Plaintext, made.Plaintext) || opened.KeyId != made.KeyId {
					t.Errorf("opened %+v, want %+v", opened, made)
				}
			})
		}
	}
}

func TestEncryptionContext(t *testing.T) {
	c := withKeys(t)
	context := `{"a":"1","b":"<&>"}`
	var made dataKey
	c.kms("GenerateDataKeyWithoutPlaintext", map[string]string{"KeyId": "k", "EncryptionContext": context}).decode(t, &made)
	if made.Plaintext != nil {
		t.Error("a plaintext came without being asked for")
	}
	blob, err := base64.StdEncoding.DecodeString(made.CiphertextBlob)
	if err != nil {
		t.Fatal(err)
	}
	blob[len(blob)-1] ^= 1
	for _, tt := range []struct{ name, blob, context, want string }{
		{"same", made.CiphertextBlob, context, ""},
		{"other order and escapes", made.CiphertextBlob, ` { "b" : "\u003c&>", "a" : "1" } `, ""},
		{"none", made.CiphertextBlob, "", "InvalidParameter"},
		{"empty", made.CiphertextBlob, "{}", "InvalidParameter"},
		{"other value", made.CiphertextBlob, `{"a":"2","b":"<&>"}`, "InvalidParameter"},
		{"more", made.CiphertextBlob, `{"a":"1","b":"<&>","c":""}`, "InvalidParameter"},
		{"a number", made.CiphertextBlob, `{"a":1}`, "InvalidParameter"},
		{"nested", made.CiphertextBlob, `{"a":{"b":"1"}}`, "InvalidParameter"},
		{"an array", made.CiphertextBlob, `["a"]`, "InvalidParameter"},
		{"twice", made.CiphertextBlob, `{"a":"1","a":"1","b":"<&>"}`, "InvalidParameter"},
		{"two values", made.CiphertextBlob, context + context, "InvalidParameter"},
		{"cut", made.CiphertextBlob, `{"a":"1"`, "InvalidParameter"},
		{"too long", made.CiphertextBlob, `{"a":"` + strings.Repeat("x", 8192-7) + `"}`, "InvalidParameter"},
		{"corrupt", base64.StdEncoding.EncodeToString(blob), context, "InvalidParameter"},
		{"short", base64.StdEncoding.EncodeToString(blob[:4]), context, "InvalidParameter"},
		{"no base64", "?", context, "InvalidParameter"},
		{"missing", "", context, "MissingParameter"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.kms("Decrypt", map[string]string{"CiphertextBlob": tt.blob, "EncryptionContext": tt.context}).code(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := c.kms("GenerateDataKey", map[string]string{"KeyId": "k", "EncryptionContext": `{"a":"` + strings.Repeat("x", 8192-8) + `"}`}).code(); got != "" {
		t.Errorf("8192 characters: got %q", got)
	}
}

func TestReEncrypt(t *testing.T) {
	c := withKeys(t)
	plain := base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of a data key.."))
	var first, second, opened dataKey
	c.kms("Encrypt", map[string]string{"KeyId": "k", "Plaintext": plain, "EncryptionContext": `{"a":"1"}`}).decode(t, &first)
	move := map[string]string{
		"CiphertextBlob": first.CiphertextBlob, "SourceEncryptionContext": `{"a":"1"}`,
		"DestinationKeyId": "sm", "DestinationEncryptionContext": `{"b":"2"}`,
	}
	c.kms("ReEncrypt", move).decode(t, &second)
	if second.KeyId != "sm" || second.CiphertextBlob == first.CiphertextBlob || second.Plaintext != nil {
		t.Errorf("got %+v", second)
	}
	c.kms("Decrypt", map[string]string{"CiphertextBlob": second.CiphertextBlob, "EncryptionContext": `{"b":"2"}`}).decode(t, &opened)
	if got := base64.StdEncoding.EncodeToString(opened.Plaintext); got != plain || opened.KeyId != "sm" {
		t.Errorf("opened %q under %s", got, opened.KeyId)
	}
	move["SourceEncryptionContext"] = `{"a":"2"}`
	if got := c.kms("ReEncrypt", move).code(); got != "InvalidParameter" {
		t.Errorf("with a wrong context: got %q", got)
	}
	if got := c.kms("Encrypt", map[string]string{"KeyId": "k", "Plaintext": base64.StdEncoding.EncodeToString(make([]byte, 6145))}).code(); got != "InvalidParameter" {
		t.Errorf("6145 bytes: got %q", got)
	}
}

func TestKeyStates(t *testing.T) {
	c := withKeys(t)
	var made dataKey
	c.kms("GenerateDataKey", map[string]string{"KeyId": "k"}).decode(t, &made)
	for _, state := range []string{emul.Disabled, emul.PendingDeletion, emul.PendingImport, emul.Unavailable, emul.Enabled} {
		if err := c.s.SetKeyState("k", state); err != nil {
			t.Fatal(err)
		}
		want := "Rejected." + state
		if state == emul.Enabled {
			want = ""
		}
		for action, params := range map[string]map[string]string{
			"GenerateDataKey":                 {"KeyId": "k"},
			"GenerateDataKeyWithoutPlaintext": {"KeyId": "alias/mine"},
			"Encrypt":                         {"KeyId": "k", "Plaintext": "AAAA"},
			"Decrypt":                         {"CiphertextBlob": made.CiphertextBlob},
			"ReEncrypt":                       {"CiphertextBlob": made.CiphertextBlob, "DestinationKeyId": "sm"},
		} {
			if got := c.kms(action, params).code(); got != want {
				t.Errorf("%s, %s: got %q, want %q", state, action, got, want)
			}
		}
		var d struct {
			KeyMetadata struct{ KeyState, DeleteDate, Arn, KeySpec string }
		}
		c.kms("DescribeKey", map[string]string{"KeyId": "k"}).decode(t, &d)
		if d.KeyMetadata.KeyState != state || (d.KeyMetadata.DeleteDate != "") != (state == emul.PendingDeletion) || d.KeyMetadata.KeySpec != emul.AES256 {
			t.Errorf("described as %+v", d)
		}
	}
	c.s.DeleteKey("k")
	if got := c.kms("Decrypt", map[string]string{"CiphertextBlob": made.CiphertextBlob}).code(); got != "Forbidden.KeyNotFound" {
		t.Errorf("deleted: got %q", got)
	}
	for _, k := range []emul.Key{{ID: "x", Spec: "RSA_2048"}, {ID: "x", State: "Broken"}, {ID: "sm", Spec: emul.AES256}, {ID: strings.Repeat("x", 129)}} {
		if _, err := c.s.SetKey(k); err == nil {
			t.Errorf("SetKey(%+v) is taken", k)
		}
	}
	if c.s.SetKeyState("nothing", emul.Enabled) == nil {
		t.Error("the state of no key is set")
	}
}

func TestCreateKey(t *testing.T) {
	c := newClient(t, emul.Options{})
	for _, tt := range []struct {
		params map[string]string
		spec   string
		want   string
	}{
		{nil, emul.AES256, ""},
		{map[string]string{"KeySpec": "Aliyun_SM4", "KeyUsage": "ENCRYPT/DECRYPT", "Origin": "Aliyun_KMS"}, emul.SM4, ""},
		{map[string]string{"KeySpec": "RSA_2048"}, "", "Unsupported.KeySpec"},
		{map[string]string{"KeyUsage": "SIGN/VERIFY"}, "", "InvalidParameter"},
		{map[string]string{"Origin": "EXTERNAL"}, "", "InvalidParameter"},
	} {
		r := c.kms("CreateKey", tt.params)
		if r.code() != tt.want {
			t.Errorf("%v: got %q, want %q", tt.params, r.code(), tt.want)
		}
		if tt.want != "" {
			continue
		}
		var made struct {
			KeyMetadata struct{ KeyId, KeySpec string }
		}
		r.decode(t, &made)
		if made.KeyMetadata.KeySpec != tt.spec {
			t.Errorf("got spec %q, want %q", made.KeyMetadata.KeySpec, tt.spec)
		}
		c.kms("GenerateDataKey", map[string]string{"KeyId": made.KeyMetadata.KeyId}).decode(t, new(dataKey))
	}
	if got := c.kms("ListKeys", nil).code(); got != "UnsupportedOperation" {
		t.Errorf("another operation: got %q", got)
	}
}

func TestLeastPrivilegeKMS(t *testing.T) {
	root := withKeys(t)
	var made dataKey
	root.kms("GenerateDataKey", map[string]string{"KeyId": "k"}).decode(t, &made)
	one := emul.Policy{Version: "1", Statement: []emul.Statement{{
		Effect: "Allow", Action: emul.Strings{"kms:GenerateDataKey"}, Resource: emul.Strings{"acs:kms:*:*:key/k"},
	}}}
	deny := emul.Policy{Version: "1", Statement: []emul.Statement{{
		Effect: "Deny", Action: emul.Strings{"kms:Decrypt"}, Resource: emul.Strings{"*"},
	}}}
	for _, tt := range []struct {
		name     string
		policies []emul.Policy
		allowed  string // operations that are, of those below
	}{
		{"nothing", nil, ""},
		{"agent", []emul.Policy{one}, "generate "},
		{"reader", []emul.Policy{emul.Allow("kms:Decrypt")}, "decrypt "},
		{"denied", []emul.Policy{emul.Allow("kms:*"), deny}, "generate other describe move create "},
		{"half a move", []emul.Policy{emul.Allow("kms:ReEncryptFrom")}, ""},
		{"move", []emul.Policy{emul.Allow("kms:ReEncrypt*")}, "move "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := root.as("LTAI"+tt.name, tt.policies...)
			allowed := ""
			for _, op := range []struct {
				name, action string
				params       map[string]string
			}{
				{"generate", "GenerateDataKey", map[string]string{"KeyId": "k"}},
				{"other", "GenerateDataKey", map[string]string{"KeyId": "sm"}},
				{"decrypt", "Decrypt", map[string]string{"CiphertextBlob": made.CiphertextBlob}},
				{"describe", "DescribeKey", map[string]string{"KeyId": "k"}},
				{"move", "ReEncrypt", map[string]string{"CiphertextBlob": made.CiphertextBlob, "DestinationKeyId": "sm"}},
				{"create", "CreateKey", nil},
			} {
				switch r := c.kms(op.action, op.params); r.code() {
				case "":
					allowed += op.name + " "
				case "Forbidden.NoPermission":
				default:
					t.Errorf("%s: got %q", op.name, r.code())
				}
			}
			if allowed != tt.allowed {
				t.Errorf("may %q, want %q", allowed, tt.allowed)
			}
		})
	}
	c := root.as("LTAIdry")
	if got := c.kms("Decrypt", map[string]string{"CiphertextBlob": made.CiphertextBlob, "DryRun": "true"}).code(); got != "AccessDeniedError" {
		t.Errorf("dry run: got %q", got)
	}
}

func TestPolicyJSON(t *testing.T) {
	var p emul.Policy
	if err := json.Unmarshal([]byte(`{"Version":"1","Statement":[{"Effect":"Allow","Action":"log:*","Resource":["a","b"]}]}`), &p); err != nil || len(p.Statement[0].Resource) != 2 {
		t.Errorf("got %+v, %v", p, err)
	}
	if err := json.Unmarshal([]byte(`"AliyunKMSReadOnlyAccess"`), &p); err != nil || p.Statement[0].Action[1] != "kms:Describe*" {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, bad := range []string{
		`"AliyunNothing"`, `[]`, `{"Statement":[{"Effect":"Perhaps"}]}`, `{"Statement":[{"Effect":"Allow","Condition":{}}]}`,
	} {
		if json.Unmarshal([]byte(bad), &p) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
