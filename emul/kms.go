package emul

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxContext   = 8192 // characters of an EncryptionContext
	maxPlaintext = 6144 // bytes that Encrypt takes
	maxDataKey   = 1024 // bytes that GenerateDataKey makes
)

// routeKMS finds the operation and the parameters of a request.
func (s *Server) routeKMS(c *call) error {
	c.log.Operation = c.header("x-acs-action")
	a, _ := parseACS3(c.header("Authorization"))
	c.log.AccessKeyID = a.key
	var err error
	c.params, err = kmsParams(c.URL.RawQuery, c.header("Content-Type"), c.body)
	if err != nil {
		return err
	}
	c.log.Params = map[string]string{}
	for name := range c.params {
		if name != "Plaintext" && name != "CiphertextBlob" {
			c.log.Params[name] = c.params.Get(name)
		}
	}
	return nil
}

// kmsParams returns the parameters of a query and a form. A parameter may be
// given once.
func kmsParams(query, contentType string, body []byte) (url.Values, error) {
	params, err := url.ParseQuery(query)
	if err != nil {
		return nil, kmsError("ParseRequestParameterException", "")
	}
	if media, _, _ := mime.ParseMediaType(contentType); media == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, kmsError("ParseRequestParameterException", "")
		}
		for name, values := range form {
			params[name] = append(params[name], values...)
		}
	} else if len(body) > 0 {
		return nil, kmsError("ParseRequestParameterException", "the body is no form")
	}
	for name, values := range params {
		if len(values) > 1 {
			return nil, kmsError("InvalidParameter", "The parameter %s is given twice.", name)
		}
	}
	return params, nil
}

// serveKMS verifies the signature and carries out the operation. With DryRun
// it tells what would have happened.
func (s *Server) serveKMS(c *call) (*answer, error) {
	cred, err := s.signerKMS(c)
	if err != nil {
		return nil, err
	}
	c.cred = cred
	do := map[string]func(*Server, *call) (map[string]any, error){
		"CreateKey":                       (*Server).createKey,
		"DescribeKey":                     (*Server).describeKey,
		"GenerateDataKey":                 (*Server).generateDataKey,
		"GenerateDataKeyWithoutPlaintext": (*Server).generateDataKey,
		"Encrypt":                         (*Server).encrypt,
		"Decrypt":                         (*Server).decrypt,
		"ReEncrypt":                       (*Server).reEncrypt,
	}[c.log.Operation]
	switch {
	case c.Method != http.MethodPost && c.Method != http.MethodGet, strings.Trim(c.URL.Path, "/") != "", do == nil,
		c.header("x-acs-version") != "2016-01-20":
		return nil, kmsError("UnsupportedOperation", "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reply, err := do(s, c)
	switch dry := c.params.Get("DryRun"); {
	case dry == "true" && err == nil:
		return nil, kmsError("DryRunOperationError", "")
	case dry == "true":
		if e := (*Error)(nil); errors.As(err, &e) && e.Code == "Forbidden.NoPermission" {
			return nil, kmsError("AccessDeniedError", "")
		}
		return nil, kmsError("ValidationError", "The request would have failed: %s", err)
	case dry != "" && dry != "false":
		return nil, invalid("DryRun")
	case err != nil:
		return nil, err
	}
	reply["RequestId"] = c.log.ID
	return jsonAnswer(http.StatusOK, reply), nil
}

func invalid(param string) error {
	return kmsError("InvalidParameter", "The specified parameter %s is not valid.", param)
}

// need returns a parameter that must be there.
func (c *call) need(name string) (string, error) {
	if v := c.params.Get(name); v != "" {
		return v, nil
	}
	return "", kmsError("MissingParameter", "The parameter %s needed but no provided.", name)
}

func (c *call) needBytes(name string) ([]byte, error) {
	text, err := c.need(name)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, invalid(name)
	}
	return b, nil
}

// permitted returns the key that a parameter names if the caller may do this
// to it. Whether the key can be used is another matter.
func (s *Server) permitted(c *call, param, action string) (*cmk, error) {
	name, err := c.need(param)
	if err != nil {
		return nil, err
	}
	k, err := s.key(name)
	if err != nil {
		return nil, err
	}
	if !c.cred.may(action, k.ARN) {
		return nil, kmsError("Forbidden.NoPermission", "")
	}
	return k, nil
}

func (s *Server) createKey(c *call) (map[string]any, error) {
	if !c.cred.may("kms:CreateKey", "acs:kms:"+s.o.Region+":"+s.o.Account+":key") {
		return nil, kmsError("Forbidden.NoPermission", "")
	}
	spec := or(c.params.Get("KeySpec"), AES256)
	if spec != AES256 && spec != SM4 {
		return nil, kmsError("Unsupported.KeySpec", "")
	}
	if usage := c.params.Get("KeyUsage"); usage != "" && usage != "ENCRYPT/DECRYPT" {
		return nil, invalid("KeyUsage")
	}
	if origin := c.params.Get("Origin"); origin != "" && origin != "Aliyun_KMS" {
		return nil, invalid("Origin")
	}
	id := "key-" + strings.ToLower(randomHex(8))
	k := newCMK(Key{ID: id, ARN: s.keyARN(id), Spec: spec, State: Enabled}, c.now)
	if c.params.Get("DryRun") != "true" {
		s.keys[id] = k
	}
	return map[string]any{"KeyMetadata": s.metadata(k)}, nil
}

func (s *Server) describeKey(c *call) (map[string]any, error) {
	k, err := s.permitted(c, "KeyId", "kms:DescribeKey")
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": s.metadata(k)}, nil
}

func (s *Server) metadata(k *cmk) map[string]any {
	m := map[string]any{
		"KeyId": k.ID, "Arn": k.ARN, "KeyState": k.State, "KeySpec": k.Spec, "KeyUsage": "ENCRYPT/DECRYPT",
		"Origin": "Aliyun_KMS", "ProtectionLevel": "SOFTWARE", "Creator": s.o.Account,
		"CreationDate": k.created.UTC().Format(time.RFC3339), "PrimaryKeyVersion": k.version,
		"AutomaticRotation": "Disabled", "DeletionProtection": "Disabled",
	}
	if k.DeletionProtection {
		m["DeletionProtection"] = Enabled
	}
	if k.State == PendingDeletion {
		m["DeleteDate"] = s.now().Add(7 * 24 * time.Hour).UTC().Format(time.RFC3339)
	}
	return m
}

func (s *Server) generateDataKey(c *call) (map[string]any, error) {
	k, err := s.permitted(c, "KeyId", "kms:"+c.log.Operation)
	if err != nil {
		return nil, err
	}
	n := 32
	switch c.params.Get("KeySpec") {
	case "", "AES_256":
	case "AES_128":
		n = 16
	default:
		return nil, invalid("KeySpec")
	}
	if text := c.params.Get("NumberOfBytes"); text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > maxDataKey {
			return nil, invalid("NumberOfBytes")
		}
	}
	plain := random(n)
	reply, err := sealUnder(k, plain, c.params.Get("EncryptionContext"), "EncryptionContext")
	if err != nil {
		return nil, err
	}
	if c.log.Operation == "GenerateDataKey" {
		reply["Plaintext"] = plain
	}
	return reply, nil
}

func (s *Server) encrypt(c *call) (map[string]any, error) {
	k, err := s.permitted(c, "KeyId", "kms:Encrypt")
	if err != nil {
		return nil, err
	}
	plain, err := c.needBytes("Plaintext")
	if err != nil {
		return nil, err
	}
	if len(plain) > maxPlaintext {
		return nil, invalid("Plaintext")
	}
	return sealUnder(k, plain, c.params.Get("EncryptionContext"), "EncryptionContext")
}

func (s *Server) decrypt(c *call) (map[string]any, error) {
	k, plain, err := s.openBlob(c, "kms:Decrypt", "EncryptionContext")
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": k.ID, "KeyVersionId": k.version, "Plaintext": plain}, nil
}

func (s *Server) reEncrypt(c *call) (map[string]any, error) {
	_, plain, err := s.openBlob(c, "kms:ReEncryptFrom", "SourceEncryptionContext")
	if err != nil {
		return nil, err
	}
	k, err := s.permitted(c, "DestinationKeyId", "kms:ReEncryptTo")
	if err != nil {
		return nil, err
	}
	return sealUnder(k, plain, c.params.Get("DestinationEncryptionContext"), "DestinationEncryptionContext")
}

// sealUnder wraps bytes under a key, if it can be used.
func sealUnder(k *cmk, plain []byte, context, param string) (map[string]any, error) {
	canonical, err := canonicalContext(context)
	if err != nil {
		return nil, invalid(param)
	}
	if err := k.usable(); err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": k.ID, "KeyVersionId": k.version, "CiphertextBlob": k.wrap(plain, canonical)}, nil
}

// openBlob unwraps the call's CiphertextBlob under the key that made it. No
// document names the answer to a corrupt blob or a wrong context.
func (s *Server) openBlob(c *call, action, contextParam string) (*cmk, []byte, error) {
	blob, err := c.needBytes("CiphertextBlob")
	if err != nil {
		return nil, nil, err
	}
	id, _, err := splitBlob(blob)
	if err != nil {
		return nil, nil, invalid("CiphertextBlob")
	}
	k, err := s.key(id)
	if err != nil {
		return nil, nil, err
	}
	if !c.cred.may(action, k.ARN) {
		return nil, nil, kmsError("Forbidden.NoPermission", "")
	}
	context, err := canonicalContext(c.params.Get(contextParam))
	if err != nil {
		return nil, nil, invalid(contextParam)
	}
	if err := k.usable(); err != nil {
		return nil, nil, err
	}
	plain, err := k.unwrap(blob, context)
	if err != nil {
		return nil, nil, invalid("CiphertextBlob")
	}
	return k, plain, nil
}

var errContext = errors.New("not a JSON object of strings")

// canonicalContext returns an EncryptionContext, a JSON object of strings, with
// its keys sorted; "" and {} are the same.
func canonicalContext(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if len(text) > maxContext {
		return "", errContext
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", errContext
	}
	pairs := map[string]string{}
	for d.More() {
		name, err := d.Token()
		key, ok := name.(string)
		if err != nil || !ok {
			return "", errContext
		}
		value, err := d.Token()
		v, ok := value.(string)
		if _, twice := pairs[key]; err != nil || !ok || twice {
			return "", errContext
		}
		pairs[key] = v
	}
	if _, err := d.Token(); err != nil {
		return "", errContext
	}
	if _, err := d.Token(); err != io.EOF {
		return "", errContext
	}
	if len(pairs) == 0 {
		return "", nil
	}
	b, err := json.Marshal(pairs)
	if err != nil {
		return "", errContext
	}
	return string(b), nil
}
