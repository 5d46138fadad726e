package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"sealtail/conf"
	"sealtail/internal/cloud"
	"sealtail/seal"
	"sealtail/seal/alikms"
	"sealtail/sink"
	"sealtail/sink/dir"
	"sealtail/sink/sls"
	"sealtail/status"
)

// A describer tells what a CMK is.
type describer interface {
	Describe(ctx context.Context, keyID string) (alikms.Key, error)
}

// An sm4CMK has data keys for suite sm4-gcm made under a CMK, and looks at
// whether that is an SM4 key: at the first, and when an alias has come to mean
// another.
type sm4CMK struct {
	seal.KMS
	describe describer
	required bool
	known    string // id of the CMK that was looked at
	log      *zap.Logger
}

// Generate is called by one goroutine.
func (c *sm4CMK) Generate(ctx context.Context, context []byte) (seal.DataKey, error) {
	dek, err := c.KMS.Generate(ctx, context)
	if err != nil {
		return dek, err
	}
	id := string(dek.Recipients[0].KeyID)
	if id == c.known {
		return dek, nil
	}
	key, err := c.describe.Describe(ctx, id)
	e, _ := errors.AsType[*seal.KMSError](err)
	switch {
	case err == nil && key.SM4():
	case err == nil && c.required:
		err = &seal.KMSError{Class: seal.Misfit, Code: "CMKSpec",
			Err: fmt.Errorf("CMK %s is of spec %s, not Aliyun_SM4, and require_sm4_cmk is set", id, key.Spec)}
	case err != nil && c.required && e != nil && e.Code == "Forbidden.NoPermission":
		// The CMK has just made a data key: it is not the data key's end.
		err = &seal.KMSError{Class: seal.Misfit, Code: "DescribeKey",
			Err: fmt.Errorf("require_sm4_cmk is set, and the access key may not do kms:DescribeKey with CMK %s: %w", id, e.Err)}
	case err == nil:
		c.log.Warn("data keys of suite sm4-gcm are wrapped by another cipher than SM4", zap.String("cmk", id), zap.String("spec", key.Spec))
	case !c.required:
		c.log.Warn("CMK cannot be looked at: it may be of another kind than SM4", zap.String("cmk", id), zap.Error(err))
		err = nil
	}
	if err != nil {
		dek.Plain.Wipe()
		return seal.DataKey{}, err
	}
	if e == nil || e.Class != seal.Outage {
		c.known = id
	}
	return dek, nil
}

// openSLS opens no connection.
func openSLS(s conf.Sink) (*sls.Client, error) {
	return cloud.Logstore(s, userAgent())
}

func userAgent() string { return "sealtail/" + version() }

// An accessTrouble tells why an access key cannot be looked up while the one
// before is used, and since when.
type accessTrouble func() (since time.Time, err error)

func (t accessTrouble) status() (s status.Access) {
	if t == nil {
		return s
	}
	since, err := t()
	if err != nil {
		s.Since, s.Error = since, err.Error()
	}
	return s
}

func encryptionOf(s conf.Sink) sls.Encryption {
	e := s.Encryption
	return sls.Encryption{Type: e.Type, CMK: e.CMKKeyID, RoleARN: e.ARN, Region: e.RegionID}
}

// A store is where a line ends.
type store struct {
	sink.Store
	trouble    accessTrouble // of the access key; nil = there is none
	inFlight   int           // requests at a time
	maxRequest int           // bytes of envelopes in one
	close      func() error
}

func openStore(cfg *conf.Config, s conf.Stream, log *zap.Logger) (store, error) {
	to := cfg.Sinks[s.Sink]
	if to.Type == "dir" {
		d := dir.New(dir.Options{Path: to.Path, Stream: s.Name, MaxBytes: int64(to.MaxBytes), MaxAge: to.MaxAge})
		return store{Store: d, close: d.Close}, nil
	}
	access, err := cloud.Credentials(to.Credentials)
	if err != nil {
		return store{}, err
	}
	client, err := access.Logstore(to, userAgent())
	if err != nil {
		return store{}, err
	}
	st, err := sls.NewStore(client, sls.StoreOptions{
		Topic: s.Name, Source: cfg.Agent.Host, Describe: describe, Stub: stub, DescribeStub: describeStub,
		Encryption: encryptionOf(to), KeyState: logstoreKeyState(cfg, s),
		Tell: func(text string) { log.Warn("Logstore", zap.String("note", text)) },
	})
	return store{
		Store: st, trouble: access.Trouble, inFlight: 2, maxRequest: sls.MaxEnvelopes, close: func() error { client.Close(); return nil },
	}, err
}

// logstoreKeyState asks about the Logstore's CMK with the credentials of the
// stream's own KMS, where that is one that can be asked.
func logstoreKeyState(cfg *conf.Config, s conf.Stream) func(ctx context.Context) (string, error) {
	k, cmk := cfg.Keys[s.Key], cfg.Sinks[s.Sink].Encryption.CMKKeyID
	if k.Provider != "alikms" || cmk == "" {
		return nil
	}
	return func(ctx context.Context) (string, error) {
		client, err := cloud.KMS(k)
		if err != nil {
			return "", err
		}
		key, err := client.Describe(ctx, cmk)
		return key.State, err
	}
}

// describe reads what SLS is shown of an envelope in clear.
func describe(env []byte) (sls.Carrier, error) {
	e, err := seal.Parse(env)
	if err != nil {
		return sls.Carrier{}, err
	}
	return carrier(&e.Header), nil
}

func describeStub(b []byte) (sls.Carrier, error) {
	s, err := seal.ParseStub(b)
	if err != nil {
		return sls.Carrier{}, err
	}
	return carrier(&s.Header), nil
}

func carrier(h *seal.Header) sls.Carrier {
	return sls.Carrier{StreamID: h.StreamID, Epoch: h.Epoch, Seq: h.Seq, DEKID: h.DEKID, First: h.First / 1e9, Last: h.Last / 1e9}
}

// envelopeContext is what stands in clear in the header of every envelope for
// a sink, and binds it to it.
func envelopeContext(s conf.Sink) ([]byte, error) {
	c := seal.Context{}
	if s.Type == "sls" {
		c["project"], c["logstore"] = s.Project, s.Logstore
	}
	return seal.EncodeContext(c)
}
