// Package emul is an emulator of Alibaba Cloud Log Service (SLS) and Key
// Management Service (KMS), in memory, for development and tests. It speaks
// their protocols over HTTP and checks its caller as they do.
//
// Every request must be signed: for SLS with v1 (HMAC-SHA1 or HMAC-SHA256) or
// v4 (SLS4-HMAC-SHA256), for KMS with ACS3-HMAC-SHA256. A [Credential] may do
// what its policies allow. Times of requests may differ from the emulator's
// clock by 15 minutes.
//
// # Log Service
//
// A project is named by x-log-project or by the first label of the host, in
// requests of origin and of absolute form. Operations: projects and Logstores
// (create, get, list, update, delete), encryption of a Logstore, index,
// PutLogs on its three paths, ListShards, SplitShard, GetCursor, GetCursorTime,
// PullLogs, and of GetLogs and GetHistograms as much as plain words need.
//
// A LogGroup is stored as it was received. In an encrypted Logstore it lies at
// rest as
//
//	nonce(12) ‖ ciphertext ‖ tag(16), AAD = project/logstore/shard
//
// under AES-256-GCM or SM4-GCM with a data key of the Logstore, of which only
// the wrapped form is kept. It is wrapped by a key of the service or by a CMK
// of this emulator's KMS, which SLS uses through a role. While that CMK is not
// Enabled, or the role is gone or has no rights, every read and write of the
// Logstore's data is answered with [Quirks.CMKInvalid].
//
// # KMS
//
// Operations: CreateKey, DescribeKey, GenerateDataKey,
// GenerateDataKeyWithoutPlaintext, Encrypt, Decrypt, ReEncrypt; parameters in
// the query or in a form. A CiphertextBlob is
//
//	01 ‖ u8 length ‖ key id ‖ nonce(12) ‖ ciphertext ‖ tag(16)
//
// with AAD = all bytes before the nonce ‖ the EncryptionContext as JSON with
// sorted keys.
//
// # Control
//
// Tests steer the emulator by methods of [Server] or by its control API
// (docs/EMULATOR.md): states of keys, rights, faults, the clock; and see the
// requests and the bytes at rest.
//
// What the vendor's documents leave open is invented, and said so where it is.
// The sources are the references of SLS 2020-12-30 and KMS 2016-01-20 at
// https://help.aliyun.com and the SDKs https://github.com/aliyun/aliyun-log-go-sdk
// and https://github.com/alibabacloud-go/kms-20160120.
package emul

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Options says what a [Server] is. The zero value is useful.
type Options struct {
	Account string // account id; "" = 1234567890123456
	Region  string // "" = cn-hangzhou
	Host    string // name of the endpoint that is no project; "" = sls.test

	// AccessKeyID and AccessKeySecret are the credential that may do
	// everything; made at random where empty.
	AccessKeyID, AccessKeySecret string

	Now    func() time.Time // nil = time.Now
	Dir    string           // directory for the data at rest, one file a shard; "" = in memory
	Wire   io.Writer        // gets each request as received, without its signature; nil = nobody
	Quirks Quirks           // where servers differ
}

// A Server is an SLS and a KMS. It serves both, and the control API below
// /control/, as an [http.Handler]. Its methods may be called at any time by any
// goroutine.
type Server struct {
	o       Options
	own     *cmk // the service key: wraps the data keys of Logstores without a CMK
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	control http.Handler

	mu          sync.Mutex // guards all below
	offset      time.Duration
	quirks      Quirks
	credentials map[string]Credential
	roles       map[string]Role
	keys        map[string]*cmk
	nonces      map[string]time.Time // of signatures, for as long as their date is good
	nonceLimit  int                  // of them before the old ones are forgotten
	projects    map[string]*project
	faults      []*Fault
	faultID     int
	requests    []Request
	requestN    int
	counters    map[string]int
}

// New returns a Server without projects and keys.
func New(o Options) *Server {
	o.Account = or(o.Account, "1234567890123456")
	o.Region = or(o.Region, "cn-hangzhou")
	o.Host = or(o.Host, "sls.test")
	o.AccessKeyID = or(o.AccessKeyID, "LTAI"+strings.ToUpper(randomHex(8)))
	o.AccessKeySecret = or(o.AccessKeySecret, randomHex(15))
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		o:           o,
		quirks:      o.Quirks,
		credentials: map[string]Credential{},
		roles:       map[string]Role{},
		keys:        map[string]*cmk{},
		nonces:      map[string]time.Time{},
		projects:    map[string]*project{},
		counters:    map[string]int{},
	}
	s.own = newCMK(Key{ID: "service-key", Spec: AES256, State: Enabled}, s.o.Now())
	s.encoder, s.decoder = newZstd()
	s.control = s.newControl()
	s.SetCredential(Credential{AccessKeyID: o.AccessKeyID, AccessKeySecret: o.AccessKeySecret})
	return s
}

// Root returns the access key that may do everything.
func (s *Server) Root() (id, secret string) { return s.o.AccessKeyID, s.o.AccessKeySecret }

// Account returns the account's id.
func (s *Server) Account() string { return s.o.Account }

// Region returns the region.
func (s *Server) Region() string { return s.o.Region }

// ServeHTTP serves the control API below /control/, KMS to requests that carry
// x-acs-action, and SLS to all others.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/control/"):
		s.control.ServeHTTP(w, r)
	case r.Header.Get("x-acs-action") != "":
		s.serve(w, r, kmsService())
	default:
		s.serve(w, r, slsService())
	}
}

// SLS returns a handler that serves SLS alone.
func (s *Server) SLS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, slsService()) })
}

// KMS returns a handler that serves KMS alone.
func (s *Server) KMS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, kmsService()) })
}

// Control returns a handler that serves the control API alone. It asks for no
// credentials: it is for loopback addresses.
func (s *Server) Control() http.Handler { return s.control }

// Close removes the data at rest.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.projects {
		s.dropProject(name)
	}
	return nil
}

// Now returns the time by the emulator's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *Server) now() time.Time { return s.o.Now().Add(s.offset) }

// SetClock sets how far the emulator's clock is ahead of the true one.
func (s *Server) SetClock(offset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = offset
}

// Quirks are things in which servers differ, or which no document tells.
type Quirks struct {
	// CMKInvalid answers reads and writes of a Logstore whose CMK cannot be
	// used. No document names the vendor's answer. The zero value is 403 with
	// a code that stands in no table.
	CMKInvalid Error `json:"cmk_invalid,omitzero"`
	// OmitEnable leaves "enable" out of encrypt_conf when a Logstore is read.
	OmitEnable bool `json:"omit_enable,omitzero"`
	// UnknownKeys are keys of a Logstore that are refused as redundant, as an
	// older server refuses "encrypt_conf" or "enableModify".
	UnknownKeys []string `json:"unknown_keys,omitzero"`
	// NoEncryptionCall refuses UpdateLogStoreEncryption as not implemented.
	NoEncryptionCall bool `json:"no_encryption_call,omitzero"`
	// NoZstd refuses bodies compressed with zstd.
	NoZstd bool `json:"no_zstd,omitzero"`
	// MaxBody is the greatest size of a raw body; 0 = 10 MiB.
	MaxBody int `json:"max_body,omitzero"`
	// CreateDelay is for how long a new Logstore does not exist for others.
	CreateDelay Duration `json:"create_delay,omitzero"`
}

// SetQuirks replaces the quirks.
func (s *Server) SetQuirks(q Quirks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quirks = q
}

// A Duration is a [time.Duration] that is text in JSON: "1.5s".
type Duration time.Duration

// MarshalText returns the duration as [time.Duration.String] does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what [time.ParseDuration] reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand.Read
	return b
}

func randomHex(n int) string { return hex.EncodeToString(random(n)) }

// ids of keys and requests look like the vendor's.
func randomID() string {
	b := random(16)
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
