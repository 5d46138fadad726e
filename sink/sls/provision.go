package sls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Spec says how a Logstore is to be created.
type Spec struct {
	Encryption Encryption
	TTL        int           // days that logs are kept, 1 to 3650, which is forever; default 180
	Shards     int           // at first; default 2
	AutoSplit  bool          // more of them as traffic grows
	MaxShards  int           // then at most; default 64
	Wait       time.Duration // for the Logstore to be there; default 2 min
}

// An Outcome is what [Client.Provision] found or did.
type Outcome struct {
	Created  bool
	Logstore *Logstore // as read back
	Notes    []string  // what a person should know
}

// A MismatchError is returned by [Client.Provision] for a Logstore that is
// there with another encryption. It was not touched.
type MismatchError struct {
	Project, Logstore string
	Differs           []string
	Created           bool // by this call: the service did not do what it was told
}

// Error returns what differs.
func (e *MismatchError) Error() string {
	s := fmt.Sprintf("logstore %s of project %s: %s", e.Logstore, e.Project, strings.Join(e.Differs, ", "))
	if e.Created {
		s += "; it was created just now, and differs from what was asked for"
	}
	return s
}

// wireLogstore is the body of CreateLogstore: only keys that this package
// means to set, since servers refuse those that they do not know.
type wireLogstore struct {
	Name       string          `json:"logstoreName"`
	TTL        int             `json:"ttl"`
	Shards     int             `json:"shardCount"`
	AutoSplit  bool            `json:"autoSplit"`
	MaxShards  int             `json:"maxSplitShard,omitempty"`
	Modify     *bool           `json:"enableModify,omitempty"`
	Encryption *wireEncryption `json:"encrypt_conf"`
}

func (s *Spec) fill() error {
	if s.TTL == 0 {
		s.TTL = 180
	}
	if s.Shards == 0 {
		s.Shards = 2
	}
	if s.AutoSplit && s.MaxShards == 0 {
		s.MaxShards = 64
	}
	if s.Wait <= 0 {
		s.Wait = 2 * time.Minute
	}
	var faults []error
	if s.TTL < 1 || s.TTL > 3650 {
		faults = append(faults, fmt.Errorf("ttl %d: want 1 to 3650 days", s.TTL))
	}
	if s.Shards < 1 || s.Shards > 256 {
		faults = append(faults, fmt.Errorf("shards %d: want 1 to 256", s.Shards))
	}
	if s.AutoSplit && (s.MaxShards < s.Shards || s.MaxShards > 256) {
		faults = append(faults, fmt.Errorf("max shards %d: want %d to 256", s.MaxShards, s.Shards))
	}
	return errors.Join(append(faults, s.Encryption.check())...)
}

// Provision sees to it that the Logstore is there, encrypted as spec says. It
// creates one that is not there, waits until it is, reads it back and
// verifies it. One that is there is only verified, so it may be called again.
// It never creates one that is not encrypted, never creates a project, and
// changes nothing that exists.
func (c *Client) Provision(ctx context.Context, spec Spec) (*Outcome, error) {
	if err := spec.fill(); err != nil {
		return nil, err
	}
	l, err := c.Logstore(ctx)
	if err == nil {
		return c.verify(&spec, l, false)
	}
	if !isCode(err, "LogStoreNotExist") {
		return nil, err
	}
	created := true
	if err := c.create(ctx, &spec); err != nil {
		var e *Error
		switch {
		case isCode(err, "LogStoreAlreadyExist"):
			created = false
		case errors.As(err, &e) && (e.Class == Network || e.Class == Transient):
			// It may have been created; if so, it is verified.
			if l, again := c.Logstore(ctx); again == nil {
				return c.verify(&spec, l, true)
			}
			return nil, err
		default:
			return nil, err
		}
	}
	l, err = c.await(ctx, spec.Wait)
	if err != nil {
		return nil, err
	}
	return c.verify(&spec, l, created)
}

// create asks for the Logstore. Older servers refuse keys that they do not
// know: it is asked for once more without enableModify, whose default is the
// same, and never without encrypt_conf.
func (c *Client) create(ctx context.Context, s *Spec) error {
	err := c.ask(ctx, s, new(bool))
	if e := (*Error)(nil); isCode(err, "LogStoreInfoInvalid") && errors.As(err, &e) && strings.Contains(strings.ToLower(e.Message), "redundant key") {
		err = c.ask(ctx, s, nil)
	}
	return err
}

func (c *Client) ask(ctx context.Context, s *Spec, modify *bool) error {
	w := wireLogstore{
		Name: c.o.Logstore, TTL: s.TTL, Shards: s.Shards, AutoSplit: s.AutoSplit,
		Modify: modify, Encryption: s.Encryption.wire(),
	}
	if s.AutoSplit {
		w.MaxShards = s.MaxShards
	}
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("create logstore: %w", err)
	}
	_, err = c.do(ctx, request{
		op: "create logstore", method: "POST", uri: "/logstores", body: b, raw: len(b),
		header: map[string]string{"Content-Type": "application/json"},
	})
	return err
}

// await waits until the Logstore can be read, for up to wait.
func (c *Client) await(ctx context.Context, wait time.Duration) (*Logstore, error) {
	deadline := time.Now().Add(wait)
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		l, err := c.Logstore(ctx)
		var e *Error
		passes := isCode(err, "LogStoreNotExist") ||
			errors.As(err, &e) && (e.Class == Network || e.Class == Transient || e.Class == Throttled)
		if err == nil || !passes || time.Now().Add(pause).After(deadline) {
			return l, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *Client) verify(s *Spec, l *Logstore, created bool) (*Outcome, error) {
	v := s.Encryption.Compare(l)
	if len(v.Differs) > 0 {
		return nil, &MismatchError{c.o.Project, c.o.Logstore, v.Differs, created}
	}
	o := &Outcome{Created: created, Logstore: l, Notes: v.Notes}
	for _, f := range []struct {
		what      string
		got, want any
	}{
		{"ttl", l.TTL, s.TTL}, {"autoSplit", l.AutoSplit, s.AutoSplit}, {"enableModify", l.Modify, false},
	} {
		if f.got != f.want {
			o.Notes = append(o.Notes, fmt.Sprintf("%s is %v, configured is %v; it was left as it is", f.what, f.got, f.want))
		}
	}
	if s.AutoSplit && l.AutoSplit && l.MaxShards != s.MaxShards {
		o.Notes = append(o.Notes, fmt.Sprintf("maxSplitShard is %d, configured is %d; it was left as it is", l.MaxShards, s.MaxShards))
	}
	return o, nil
}

// isCode reports whether the service answered code; it spells some in several
// ways.
func isCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && strings.EqualFold(e.Code, code)
}
