package sls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// An Encryption says how SLS encrypts a Logstore at rest. Once it is set the
// service changes none of it.
type Encryption struct {
	// Type is the algorithm: "default" (AES), "m4" or, its newer name, "sm4"
	// (SM4), or another word that the service knows.
	Type string
	// CMK is the id of the Logstore's own CMK; "" = the service's key.
	CMK string
	// RoleARN is the role that the service assumes to use it, Region where it
	// is; both only with CMK.
	RoleARN, Region string
}

var knownType = regexp.MustCompile(`^(default|m4|sm4|sm4_(ecb|cbc|gcm)|aes_(ecb|cbc|cfb|ofb|gcm))$`)

func (e *Encryption) check() error {
	var faults []error
	if e.Type == "" {
		faults = append(faults, errors.New("encryption: type is not set"))
	}
	if e.CMK != "" && (e.RoleARN == "" || e.Region == "") {
		faults = append(faults, errors.New("encryption: a CMK needs the role's ARN and the region"))
	}
	if e.CMK == "" && (e.RoleARN != "" || e.Region != "") {
		faults = append(faults, errors.New("encryption: role and region are of a CMK, and none is set"))
	}
	return errors.Join(faults...)
}

// wireEncryption is encrypt_conf. What is absent is nil.
type wireEncryption struct {
	Enable *bool    `json:"enable,omitempty"`
	Type   *string  `json:"encrypt_type,omitempty"`
	CMK    *wireCMK `json:"user_cmk_info,omitempty"`
}

type wireCMK struct {
	Key    string `json:"cmk_key_id"`
	ARN    string `json:"arn"`
	Region string `json:"region_id"`
}

func (e *Encryption) wire() *wireEncryption {
	on := true
	w := &wireEncryption{Enable: &on, Type: &e.Type}
	if e.CMK != "" {
		w.CMK = &wireCMK{e.CMK, e.RoleARN, e.Region}
	}
	return w
}

// A Logstore is what the service tells about one.
type Logstore struct {
	Name      string `json:"logstoreName"`
	TTL       int    `json:"ttl"` // days
	Shards    int    `json:"shardCount"`
	AutoSplit bool   `json:"autoSplit"`
	MaxShards int    `json:"maxSplitShard"`
	Modify    bool   `json:"enableModify"` // its logs can be changed and deleted

	Encryption *wireEncryption `json:"encrypt_conf"`
}

// Logstore asks the service about the Logstore.
func (c *Client) Logstore(ctx context.Context) (*Logstore, error) {
	a, err := c.do(ctx, request{op: "get logstore", method: "GET", uri: c.logstore("")})
	if err != nil {
		return nil, err
	}
	l := &Logstore{}
	if err := json.Unmarshal(a.body, l); err != nil {
		return nil, &Error{Class: Unknown, Op: "get logstore", err: fmt.Errorf("parse answer: %w", err)}
	}
	if l.Name != c.o.Logstore {
		return nil, &Error{Class: Unknown, Op: "get logstore", Hint: hintOther, err: fmt.Errorf("the answer is about logstore %s", quote(l.Name))}
	}
	return l, nil
}

// A Verdict is how a Logstore's encryption compares with the configured one.
type Verdict struct {
	Differs []string // each in words; none = it is the configured one
	Notes   []string // what could not be compared or is odd
}

// Compare compares e with the encryption that l has. "m4" and "sm4" are the
// same. What the service leaves out of a Logstore that has the type and the
// key of e is a note; everything else that is not equal differs.
func (e Encryption) Compare(l *Logstore) (v Verdict) {
	differ := func(what, got, want string) {
		v.Differs = append(v.Differs, fmt.Sprintf("%s is %s, configured is %s", what, quote(got), quote(want)))
	}
	note := func(format string, args ...any) { v.Notes = append(v.Notes, fmt.Sprintf(format, args...)) }
	w := l.Encryption
	if w == nil || w.Enable == nil && w.Type == nil && w.CMK == nil {
		return Verdict{Differs: []string{"the Logstore is not encrypted"}}
	}
	switch {
	case w.Enable == nil:
		note("the service does not say that the Logstore's encryption is enabled; type and key are compared alone")
	case !*w.Enable:
		v.Differs = append(v.Differs, "the Logstore's encryption is disabled")
	}
	kind := ""
	if w.Type != nil {
		kind = *w.Type
	}
	if sameName(kind) != sameName(e.Type) {
		differ("encrypt_type", kind, e.Type)
	} else if !knownType.MatchString(kind) {
		note("encrypt_type %s is not known to this version and taken as it is", quote(kind))
	}
	var cmk wireCMK
	if w.CMK != nil {
		cmk = *w.CMK
	}
	if cmk.Key != e.CMK {
		differ("cmk_key_id", or(cmk.Key, "the service's key"), or(e.CMK, "the service's key"))
	}
	for _, f := range []struct{ name, got, want string }{{"arn", cmk.ARN, e.RoleARN}, {"region_id", cmk.Region, e.Region}} {
		switch {
		case f.got == f.want:
		case f.got == "" && cmk.Key != "":
			note("the service does not say the %s of the Logstore's CMK", f.name)
		default:
			differ(f.name, f.got, f.want)
		}
	}
	return v
}

// sameName maps the names of one algorithm to one.
func sameName(kind string) string {
	if kind == "sm4" {
		return "m4"
	}
	return kind
}

func quote(s string) string {
	if s == "" {
		return "not set"
	}
	if strings.HasPrefix(s, "the ") {
		return s
	}
	return fmt.Sprintf("%q", clean(s, 256))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
