// Package sls stores sealed envelopes in a Logstore of Alibaba Cloud Log
// Service (SLS) that the service itself encrypts.
//
// One Log carries one envelope or stub:
//
//	Time     ship time, unix s
//	_v       SE1; of a stub SE1P
//	_sid     stream id, 32 hex digits
//	_ep      epoch, decimal
//	_seq     seq, decimal
//	_dek     data key id, 32 hex digits
//	_t0 _t1  times of the oldest and newest record, unix s
//	_env     the envelope or stub, standard base64
//	_why     of a stub: why its envelope is not here
//
// The LogGroup's topic is the stream's name, its source the host's. Several
// envelopes share a request of at most 3 MiB before compression, which is zstd
// with entropy coding alone, 3/4 of base64, and none where the service refuses
// that.
//
// A [Client] is one destination: endpoint, project, Logstore. It sends one
// request at a time for each call, signed with version 4, and tells what came
// back as an [*Error], whose [Class] says who has to do what. A [Store] is the
// [sink.Store] over it. [Client.Provision] creates the Logstore, [Client.Pull]
// reads it, [Policies] says which rights all that takes.
//
// A Store ships only to a Logstore whose encryption is as configured. It
// compares before the first envelope and then hourly; see [Encryption.Compare].
// A Logstore may have a CMK of its own (the Logstore's CMK, not the data
// key's): while that cannot be used the service refuses every read and write,
// and the class of the error is [CMK].
//
// Whatever the service answers, what is sealed is kept: errors are to be tried
// again. The one exception, a [*sink.RejectedError], is for an envelope that
// the service, by a code of its own, refuses for what it holds: alone,
// uncompressed, and five times within not less than 40 s, while it takes the
// envelope's stub each time. An outage may answer like that too: so where a stub
// is not taken, or the KMS says that the Logstore's CMK cannot be used, the
// count begins anew.
//
// The order of a line's envelopes in the Logstore is not kept: they are spread
// over its shards. An answer that was lost leaves an envelope there twice.
//
// Wire formats: https://help.aliyun.com/zh/sls/developer-reference/api-sls-2020-12-30-putlogs
// and https://help.aliyun.com/zh/sls/developer-reference/error-codes
package sls

import (
	"context"
	"time"

	"sealtail/internal/hidden"
)

// Credentials hand out the access key that requests are signed with. It must
// be safe for concurrent use.
type Credentials interface {
	// AccessKey returns the access key to use now; token is empty where it is
	// a lasting one. fresh asks for one that is looked up now, because the
	// service refused the one before.
	AccessKey(ctx context.Context, fresh bool) (id string, secret, token hidden.Text, err error)
}

// A Carrier is what of an envelope or stub is shipped beside it in clear.
type Carrier struct {
	StreamID    [16]byte
	Epoch, Seq  uint64
	DEKID       [16]byte
	First, Last int64 // times of the oldest and newest record, unix s
}

// MaxEnvelopes is how many bytes of envelopes fit one request: the MaxRequest
// for a sink over a [Store]. More are sent in several requests.
const MaxEnvelopes = 2_350_000

const (
	maxRaw  = 3 << 20 // of a LogGroup: what older servers take
	maxLogs = 4096    // in a LogGroup, likewise
	maxName = 128     // bytes of topic and source
	maxWhy  = 256     // bytes of _why
)

const (
	versionEnvelope = "SE1"
	versionStub     = "SE1P"
)

// StoreOptions say what a [Store] ships. Describe, Stub, DescribeStub and
// Encryption must be set; the zero value of all others is their default.
type StoreOptions struct {
	Topic  string // the stream's name; at most 128 bytes
	Source string // the host's name, or what stands for it; at most 128 bytes

	// Describe and DescribeStub read what is shipped beside an envelope and a
	// stub.
	Describe, DescribeStub func(b []byte) (Carrier, error)
	// Stub makes the stub of an envelope.
	Stub func(env []byte) ([]byte, error)

	// Encryption is what the Logstore must have.
	Encryption Encryption
	// CheckEvery is how often that is compared, ±50 %; default 1 h.
	CheckEvery time.Duration

	// KeyState asks the KMS for the state of the Logstore's CMK, "Enabled"
	// being the good one. Default: it is not asked. It is called at most once
	// a minute, while requests fail for no known reason, and each 10 s while an
	// envelope may come to be rejected.
	KeyState func(ctx context.Context) (string, error)

	// Tell is called once for each thing that a person should know though
	// shipping goes on. Default: nobody is told.
	Tell func(text string)
}
