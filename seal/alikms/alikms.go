// Package alikms has data keys made and opened by Alibaba Cloud KMS, under a
// customer master key (CMK) that never leaves it.
//
// It speaks the OpenAPI of version 2016-01-20, signed with ACS3-HMAC-SHA256:
// GenerateDataKey for sealing, Decrypt for reading, DescribeKey for a look at
// the CMK. The shared gateway (kms.REGION.aliyuncs.com) and the dedicated
// gateway of a KMS instance, which has a CA of its own, are called alike. The
// context of an envelope is the call's EncryptionContext, so a wrapped data
// key opens only where it belongs.
//
// The key id of a recipient is the CMK's ARN where [Options.KeyID] is one, else
// the bare id that the KMS returned. An alias is never on the wire: it may come
// to mean another CMK.
//
// Every failed call is a [*seal.KMSError]. The HTTP status is weighed first,
// then the service's code; what nobody has classed is [seal.Unknown]. Errors
// hold the service's code and request id, never a key, a credential, a wrapped
// key or a URL.
//
// An answer that holds a data key is read into locked memory, decoded from
// there into locked memory, and wiped; what net/http and crypto/tls buffer of it
// on the way is left to the garbage collector. Nothing is kept open between calls.
//
// Source: https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature
package alikms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"sealtail/internal/hidden"
	"sealtail/seal"
)

const (
	dekSize    = 32
	maxBlob    = 8 << 10 // far above a CiphertextBlob of the KMS's
	maxContext = 8192    // what the KMS takes for an EncryptionContext
)

// Credentials hand out the access key that signs calls. They are safe for
// concurrent use.
type Credentials interface {
	// Get returns the access key to use now; token is empty for a lasting one.
	Get(ctx context.Context) (id string, secret, token hidden.Text, err error)

	// Refresh is Get after the KMS has refused the access key: it looks again
	// where that came from.
	Refresh(ctx context.Context) (id string, secret, token hidden.Text, err error)
}

// Options say which KMS, which CMK, and how to get there.
type Options struct {
	// Endpoint is the gateway's URL, such as https://kms.cn-hangzhou.aliyuncs.com.
	// http:// is refused unless the connection ends on a loopback address.
	Endpoint string

	// KeyID is the CMK that [Client.Generate] wraps under: an id, an ARN
	// (acs:kms:REGION:ACCOUNT:key/ID) or an alias (alias/NAME). It may be empty
	// where nothing is sealed.
	KeyID string

	// Allow are the CMKs, by id or ARN, that [Client.Unwrap] may call for.
	// KeyID is not among them by itself.
	Allow []string

	Credentials Credentials

	// CAFile is a file of PEM certificates, read with each call: the only
	// authorities to trust, as a dedicated gateway needs. What was read last holds
	// while it cannot be read; before that a call fails. Empty = the system's.
	CAFile string

	// Proxy is the URL of a proxy (http, https, socks5), which may name user
	// and password. Empty = none, whatever the environment says.
	Proxy hidden.Text

	// DialAddress is HOST:PORT to connect to whatever host Endpoint names.
	// What is signed and which certificate is expected stay Endpoint's.
	DialAddress string

	// Timeout of one try; 5 s. A context that ends sooner ends it sooner.
	Timeout time.Duration

	// QueryParameters has a call's parameters sent in the URL, as Alibaba's own
	// SDK does, instead of in the body: proxies and gateways log URLs, and so
	// wrapped data keys and contexts. Parameters in the body are what the
	// gateway documents for calls of this style, but have not been tried
	// against the live service.
	QueryParameters bool
}

// A Client calls a KMS. It is safe for concurrent use.
type Client struct {
	gateway
	keyID string
	allow []string
}

var (
	_ seal.KMS       = (*Client)(nil)
	_ seal.Unwrapper = (*Client)(nil)
)

// New returns a Client, or all that is wrong with o. It calls nobody.
func New(o Options) (*Client, error) {
	c := &Client{keyID: o.KeyID, allow: o.Allow}
	errs := []error{c.gateway.configure(o)}
	for _, k := range o.Allow {
		if k == "" || isAlias(k) {
			errs = append(errs, fmt.Errorf("allowed key %q: name the CMK by its id or ARN", k))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("alikms: %w", err)
	}
	return c, nil
}

// Generate has the KMS make a data key and wrap it under the CMK.
func (c *Client) Generate(ctx context.Context, context []byte) (seal.DataKey, error) {
	const action = "GenerateDataKey"
	if c.keyID == "" {
		return seal.DataKey{}, misfit(action, "NoKey", "no CMK is configured")
	}
	pairs, err := encryptionContext(action, context)
	if err != nil {
		return seal.DataKey{}, err
	}
	var a struct {
		KeyID     string    `json:"KeyId"`
		Wrapped   []byte    `json:"CiphertextBlob"`
		Plaintext plaintext `json:"Plaintext"`
	}
	err = c.call(ctx, action, map[string]string{
		"KeyId": c.keyID, "NumberOfBytes": fmt.Sprint(dekSize), "EncryptionContext": pairs,
	}, &a)
	id := c.keyID
	if isAlias(id) {
		id = a.KeyID
	}
	switch {
	case err != nil:
	case a.KeyID == "" || len(a.Plaintext.Bytes()) == 0 || len(a.Wrapped) == 0:
		err = noAnswer(action)
	case !sameKey(a.KeyID, id) || isAlias(id):
		err = misfit(action, "Answer", "the data key is wrapped under another CMK")
	case len(a.Plaintext.Bytes()) != dekSize:
		err = misfit(action, "Answer", fmt.Sprintf("a data key of %d bytes, want %d", len(a.Plaintext.Bytes()), dekSize))
	case len(a.Wrapped) > maxBlob:
		err = misfit(action, "Answer", fmt.Sprintf("a wrapped data key of %d bytes, want 1 to %d", len(a.Wrapped), maxBlob))
	default:
		return seal.DataKey{
			Plain:      a.Plaintext.Secret,
			Recipients: []seal.Recipient{{Type: seal.TypeAliKMS, KeyID: []byte(id), Wrapped: a.Wrapped}},
		}, nil
	}
	a.Plaintext.Wipe()
	return seal.DataKey{}, err
}

// Unwrap has the KMS open a data key that is wrapped under one of the allowed
// CMKs. It calls for no other, and takes the answer only if that is the CMK
// which opened it: recipients are not signed, and whoever made one up chose
// what it says.
func (c *Client) Unwrap(ctx context.Context, r seal.Recipient, context []byte) (seal.Secret, error) {
	const action = "Decrypt"
	id := string(r.KeyID)
	if r.Type != seal.TypeAliKMS || !c.allowed(id) {
		return seal.Secret{}, seal.ErrNotMine
	}
	if len(r.Wrapped) == 0 || len(r.Wrapped) > maxBlob {
		return seal.Secret{}, misfit(action, "Recipient", fmt.Sprintf("a wrapped data key of %d bytes, want 1 to %d", len(r.Wrapped), maxBlob))
	}
	pairs, err := encryptionContext(action, context)
	if err != nil {
		return seal.Secret{}, err
	}
	var a struct {
		KeyID     string    `json:"KeyId"`
		Plaintext plaintext `json:"Plaintext"`
	}
	err = c.call(ctx, action, map[string]string{
		"CiphertextBlob": base64.StdEncoding.EncodeToString(r.Wrapped), "EncryptionContext": pairs,
	}, &a)
	switch {
	case err != nil:
	case a.KeyID == "" || len(a.Plaintext.Bytes()) == 0:
		err = noAnswer(action)
	case !sameKey(a.KeyID, id):
		err = misfit(action, "Answer", "the data key was wrapped under another CMK than the recipient names")
	case len(a.Plaintext.Bytes()) != dekSize:
		err = misfit(action, "Answer", fmt.Sprintf("a data key of %d bytes, want %d", len(a.Plaintext.Bytes()), dekSize))
	default:
		return a.Plaintext.Secret, nil
	}
	a.Plaintext.Wipe()
	return seal.Secret{}, err
}

// A Key is what a KMS tells about a CMK, in its own words.
type Key struct {
	ID                 string `json:"KeyId"`
	ARN                string `json:"Arn"`
	State              string `json:"KeyState"`           // Enabled, Disabled, PendingDeletion, PendingImport
	Spec               string `json:"KeySpec"`            // Aliyun_AES_256, Aliyun_SM4, …
	Usage              string `json:"KeyUsage"`           // ENCRYPT/DECRYPT, SIGN/VERIFY
	Origin             string `json:"Origin"`             // Aliyun_KMS, EXTERNAL
	ProtectionLevel    string `json:"ProtectionLevel"`    // SOFTWARE, HSM
	DeletionProtection string `json:"DeletionProtection"` // Enabled, Disabled
	DeleteDate         string `json:"DeleteDate"`         // of a key in PendingDeletion
	Instance           string `json:"DKMSInstanceId"`     // the KMS instance that holds it
}

// SM4 reports whether the CMK wraps by SM4, so that no other cipher stands
// between it and what is sealed with sm4-gcm.
func (k Key) SM4() bool { return k.Spec == "Aliyun_SM4" }

// Describe asks the KMS about a CMK, by id, ARN or alias: in whatever state it
// is. An account has few such calls a second for all that it runs. A dedicated
// gateway may not offer it.
func (c *Client) Describe(ctx context.Context, keyID string) (Key, error) {
	const action = "DescribeKey"
	var a struct{ KeyMetadata Key }
	if err := c.call(ctx, action, map[string]string{"KeyId": keyID}, &a); err != nil {
		return Key{}, err
	}
	id := a.KeyMetadata.ID
	if id == "" {
		return Key{}, noAnswer(action)
	}
	if !isAlias(keyID) && !sameKey(id, keyID) {
		return Key{}, misfit(action, "Answer", "the answer is about another CMK")
	}
	return a.KeyMetadata, nil
}

func (c *Client) allowed(id string) bool {
	for _, k := range c.allow {
		if sameKey(id, k) {
			return true
		}
	}
	return false
}

// sameKey reports whether a and b, each an id or an ARN, name one CMK. Two ARNs
// must be equal; of an ARN and an id, the ids.
func sameKey(a, b string) bool {
	_, idA, arnA := strings.Cut(a, ":key/")
	_, idB, arnB := strings.Cut(b, ":key/")
	switch {
	case a == "" || b == "":
		return false
	case arnA && !arnB:
		return idA == b
	case arnB && !arnA:
		return a == idB
	}
	return a == b
}

// isAlias reports whether id is alias/NAME or the ARN of an alias.
func isAlias(id string) bool {
	return strings.HasPrefix(id, "alias/") || strings.Contains(id, ":alias/")
}

// misfit is what no further call would mend.
func misfit(action, code, text string) error {
	return &seal.KMSError{Class: seal.Misfit, Code: code, Err: fmt.Errorf("%s: %s", action, text)}
}
