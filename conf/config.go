// Package conf reads the configuration of the agent, and of the reader: one
// TOML file in, one checked [Config] out, or every fault of the file at once.
//
// The file is read strictly. An unknown key, a value of the wrong type or out
// of its range, a reference to nothing: each is a [Fault] with file, line, key
// and what to do about it, and [Load] returns all of them together as
// [Faults]. What is merely doubtful is a warning in [Config.Warnings]. A file
// for the reader, [LoadReader], may do without what the agent alone needs.
//
// In every string "${NAME}" stands for the environment variable NAME, which
// must be set; "$$" is a dollar sign. A secret is never written in the file:
// a key for one names the file that holds it.
//
// Durations are written as "1m30s", sizes as 4096 or "2MiB", shares of a disk
// as "5%". The comments of the types below are the text of docs/CONFIG.md; the
// tags of their fields are what the reading goes by:
//
//	toml      name of the key
//	default   value when the key is absent
//	required  no default: the key must be there; "agent": but not for the reader
//	optional  a table that stays empty where it is absent
//	oneof     the words allowed
//	for       "key=word": only where another key of the table is that word
//	min, max  bounds, both allowed
package conf

import (
	"time"

	"sealtail/internal/hidden"
)

//go:generate go test -run TestConfigDoc -update .

// A Config is a checked configuration. It is not changed after [Load].
type Config struct {
	// File is the name that the configuration was read from.
	File string `toml:"-"`
	// Digest is the first 16 hex digits of the SHA-256 of all effective
	// values, defaults included.
	Digest string `toml:"-"`
	// Warnings are what is allowed but likely not meant.
	Warnings []Fault `toml:"-"`

	Agent   Agent           `toml:"agent"`
	Keys    map[string]Key  `toml:"key"`
	Sinks   map[string]Sink `toml:"sink"`
	Streams []Stream        `toml:"stream"`
	Reader  Reader          `toml:"reader"`

	lines map[string]int // of the keys as faults show them
}

// An Agent sets what holds for the whole process.
type Agent struct {
	// Directory of the lock, this host's identity and the spools. It must be
	// absolute, on a local disk, and used by one agent only. It is made with
	// mode 0700.
	StateDir string `toml:"state_dir" default:"/var/lib/sealtail"`
	// Name sealed with every record and given to the signers' file. Default:
	// the host's own name.
	Host string `toml:"host"`
	// Implementation that seals in bulk for suite sm4-gcm. The other one always
	// takes part in the self-test.
	SM4Engine string `toml:"sm4_engine" default:"emmansun" oneof:"emmansun tjfoc"`
	// HOST:PORT where /livez, /readyz and /metrics are answered, without
	// encryption or password: names of streams, numbers, errors; no line. "" = nowhere.
	Listen string `toml:"listen" default:"127.0.0.1:19470"`
	// How long a stop (SIGTERM) may take.
	Stop Stop `toml:"stop"`
}

// A Stop bounds a graceful stop. What is not sealed in time stays in its file,
// what is not shipped in time stays in the spool; nothing is lost.
type Stop struct {
	// For sealing what has been read.
	SealTimeout time.Duration `toml:"seal_timeout" default:"10s" min:"0s" max:"10m"`
	// For shipping what the spool holds.
	ShipTimeout time.Duration `toml:"ship_timeout" default:"20s" min:"0s" max:"10m"`
}

// A Key says which master key wraps the data keys, and how long a data key
// lives. Streams with the same key, sink and suite share one data key.
type Key struct {
	// What wraps the data keys: "keyring" is a local keyring file, made with
	// sealtail keyring new; "alikms" is Alibaba Cloud KMS.
	Provider string `toml:"provider" required:"true" oneof:"keyring alikms"`
	// The keyring's file: absolute, owned by root or the agent's user, with no
	// rights for others. While it lacks a key under which batches wait in a
	// spool, and no other [key.NAME] has that, it is refused.
	File string `toml:"file" required:"true" for:"provider=keyring"`
	// URL of the KMS's gateway, such as https://kms.cn-hangzhou.aliyuncs.com;
	// http:// only where connections end on a loopback address.
	Endpoint string `toml:"endpoint" required:"true" for:"provider=alikms"`
	// The CMK that wraps the data keys: ARN, id, or alias/NAME. It is another
	// than the Logstore's.
	KeyID string `toml:"key_id" required:"true" for:"provider=alikms"`
	// Where calls to the KMS have their parameters: in the "body", which no proxy
	// logs but which is not tried against the live service yet, or in the "query"
	// of the URL, as Alibaba's own SDK does.
	Parameters string `toml:"parameters" default:"body" oneof:"body query" for:"provider=alikms"`
	// Refuse a CMK that is not of spec Aliyun_SM4 for suite sm4-gcm, instead of
	// warning.
	RequireSM4CMK bool `toml:"require_sm4_cmk" default:"false" for:"provider=alikms"`
	// The access key that may do GenerateDataKey with the CMK, and no Decrypt.
	Credentials Credentials `toml:"credentials" required:"agent" for:"provider=alikms"`
	// How to get there.
	Route Route `toml:"route" for:"provider=alikms"`
	// A fresh data key is asked for this often (±20 %): the answer proves that
	// the master key still lives.
	Refresh time.Duration `toml:"refresh" default:"5m" min:"1s" max:"24h"`
	// Age at which a fresh data key replaces the one in use.
	Rotate time.Duration `toml:"rotate" default:"30m" min:"1s" max:"24h"`
	// Age beyond which a data key seals nothing without a fresh answer.
	HardAge time.Duration `toml:"hard_age" default:"1h" min:"1s" max:"24h"`
	// Time added to hard_age while the key service is merely out of reach.
	// "0s" is strict.
	Grace time.Duration `toml:"grace" default:"1h" min:"0s" max:"24h"`
	// Two refusals this far apart make a key revoked; its data key is wiped
	// then.
	Confirm time.Duration `toml:"confirm" default:"10s" min:"0s" max:"10m"`
	// Limit of one call to the key service.
	CallTimeout time.Duration `toml:"call_timeout" default:"5s" min:"100ms" max:"5m"`
	// Longest wait between two attempts while the key service is out of reach.
	RetryMax time.Duration `toml:"retry_max" default:"30s" min:"500ms" max:"1h"`
	// Wait between two attempts while the key is revoked (±20 %).
	RetryRevoked time.Duration `toml:"retry_revoked" default:"1m" min:"500ms" max:"1h"`
	// For this long an access key that the key service refuses counts as out of
	// reach, then as revoked. "0s" makes it revoked at once.
	CredentialsGrace time.Duration `toml:"credentials_grace" default:"5m" min:"0s" max:"24h"`
	// Batches after which a data key is replaced before its time.
	DEKMaxBatches int64 `toml:"dek_max_batches" default:"1048576" min:"1" max:"4294967296"`
	// Bytes after which a data key is replaced before its time.
	DEKMaxBytes Bytes `toml:"dek_max_bytes" default:"64GiB" min:"1MiB" max:"64TiB"`
}

// A Sink takes sealed batches.
type Sink struct {
	// "dir" is a directory of files of envelopes, "sls" an encrypted Logstore of
	// Alibaba Cloud Log Service.
	Type string `toml:"type" required:"true" oneof:"dir sls"`
	// Longest wait between two attempts while the sink refuses.
	RetryMax time.Duration `toml:"retry_max" default:"30s" min:"500ms" max:"1h"`
	// The directory; absolute. Each stream has its own directory in it.
	Path string `toml:"path" required:"true" for:"type=dir"`
	// Size at which a file is closed and the next one begun.
	MaxBytes Bytes `toml:"max_bytes" default:"64MiB" min:"1MiB" max:"64GiB" for:"type=dir"`
	// Age at which a file is closed and the next one begun.
	MaxAge time.Duration `toml:"max_age" default:"1h" min:"1s" max:"720h" for:"type=dir"`
	// URL of the service's endpoint, without the project, such as
	// https://cn-hangzhou.log.aliyuncs.com; http:// only where connections end on
	// a loopback address.
	Endpoint string `toml:"endpoint" required:"true" for:"type=sls"`
	// Region of the endpoint: requests are signed for it.
	Region string `toml:"region" required:"true" for:"type=sls"`
	// The project; sealtail never creates one.
	Project string `toml:"project" required:"true" for:"type=sls"`
	// The Logstore; only sealtail provision creates it.
	Logstore string `toml:"logstore" required:"true" for:"type=sls"`
	// The access key that may write to the Logstore and look at it.
	Credentials Credentials `toml:"credentials" required:"agent" for:"type=sls"`
	// How the service must encrypt the Logstore. Nothing is shipped to one that
	// differs.
	Encryption Encryption `toml:"encryption" required:"agent" for:"type=sls"`
	// What sealtail provision gives a new Logstore.
	Create Create `toml:"create" for:"type=sls"`
	// How to get there.
	Route Route `toml:"route" for:"type=sls"`
}

// Credentials say where an access key is found. It is never written here.
type Credentials struct {
	// "file": in the files named below. "env": in ALIBABA_CLOUD_ACCESS_KEY_ID,
	// ALIBABA_CLOUD_ACCESS_KEY_SECRET and ALIBABA_CLOUD_SECURITY_TOKEN. "systemd":
	// in credentials that the unit loads, named below.
	Type string `toml:"type" required:"true" oneof:"file env systemd"`
	// File of the key's id; absolute, private to root or the agent's user.
	AccessKeyIDFile string `toml:"access_key_id_file" required:"true" for:"type=file"`
	// File of its secret, likewise.
	AccessKeySecretFile string `toml:"access_key_secret_file" required:"true" for:"type=file"`
	// File of the token of a temporary key, likewise.
	SecurityTokenFile string `toml:"security_token_file" for:"type=file"`
	// Name of the key's id in $CREDENTIALS_DIRECTORY.
	AccessKeyIDName string `toml:"access_key_id_name" default:"access-key-id" for:"type=systemd"`
	// Name of its secret there.
	AccessKeySecretName string `toml:"access_key_secret_name" default:"access-key-secret" for:"type=systemd"`
	// Name of the token of a temporary key there.
	SecurityTokenName string `toml:"security_token_name" for:"type=systemd"`
}

// An Encryption is what a Logstore is created with; the service never changes
// it. It is the outer of two: what is stored is sealed already.
type Encryption struct {
	// "default" is AES, "m4" (also "sm4") SM4.
	Type string `toml:"type" required:"true"`
	// It is always on: false is refused.
	Enable bool `toml:"enable" default:"true"`
	// Id of the Logstore's own CMK (BYOK). Without it the service's key is used.
	CMKKeyID string `toml:"cmk_key_id"`
	// ARN of the RAM role by which log.aliyuncs.com uses that CMK.
	ARN string `toml:"arn"`
	// Region of that CMK: the Logstore's.
	RegionID string `toml:"region_id"`
}

// A Create is what a new Logstore is given besides its encryption.
type Create struct {
	// Days that logs are kept; 3650 is forever.
	TTLDays int64 `toml:"ttl_days" default:"180" min:"1" max:"3650"`
	// Shards at first.
	Shards int64 `toml:"shards" default:"2" min:"1" max:"100"`
	// Whether the service adds shards as traffic grows.
	AutoSplit bool `toml:"auto_split" default:"true"`
	// Then at most.
	MaxShards int64 `toml:"max_shards" default:"64" min:"1" max:"256"`
}

// A Route is how connections are made.
type Route struct {
	// File of PEM certificates to trust in the place of the system's. It is read
	// again by itself; what was read last holds while it cannot be read.
	CAFile string `toml:"ca_file"`
	// URL of a proxy. The environment's is never used. A password in it is not
	// shown, and is no part of the digest.
	Proxy hidden.Text `toml:"proxy"`
	// HOST:PORT to connect to whatever name the endpoint has, for private links.
	// Certificates are still held against the endpoint's name.
	DialAddress string `toml:"dial_address"`
}

// A Stream leads from files to a sink, with its own chain, spool and limits.
type Stream struct {
	// Letters, digits, ".", "_", "-"; not a leading dot. It names directories
	// and is sealed with every record. Unique.
	Name string `toml:"name" required:"true"`
	// Absolute patterns of the files to follow. "*" and "?" stay inside a path
	// element, "**" crosses elements, "[a-z]" and "{a,b}" choose.
	Include []string `toml:"include" required:"true"`
	// Patterns of files not to follow: absolute, or beginning with "**/".
	Exclude []string `toml:"exclude"`
	// Absolute patterns of where rotated files lie, also compressed by gzip, if
	// not beside the file under its name and a number or date. Only what was
	// not read before it was rotated is read there.
	Rotated []string `toml:"rotated"`
	// A file that was not written to for this long when it is found begins at its
	// end. "0s" reads all.
	IgnoreOlder time.Duration `toml:"ignore_older" default:"0s" min:"0s" max:"87600h"`
	// Where files begin that are there at the very first start: "beginning", or
	// "end" to take only what is appended. Every later file begins at its
	// beginning.
	StartAt string `toml:"start_at" default:"beginning" oneof:"beginning end"`
	// How what is written is wrapped: "lines", or the lines of a container runtime,
	// "cri" (Kubernetes) or "docker" (its json-file driver): then pieces of lines
	// are joined, stdout and stderr apart, records have the time that the runtime
	// gave them, and the path tells pod and container.
	Format string `toml:"format" default:"lines" oneof:"lines cri docker"`
	// Of the files; records are UTF-8. "utf-8" leaves bytes as they are; "utf-16"
	// goes by the file's first two bytes. What is no text of the encoding is sealed
	// as it is.
	Encoding string `toml:"encoding" default:"utf-8" oneof:"utf-8 gb18030 gbk utf-16le utf-16be utf-16"`
	// Whether a carriage return before a line feed is part of the line end.
	TrimCR bool `toml:"trim_cr" default:"false"`
	// A line that is not finished for this long is sealed in pieces, which a
	// reader joins.
	FlushAfter time.Duration `toml:"flush_after" default:"5s" min:"100ms" max:"1h"`
	// Which lines make up one record. Absent: each is one.
	Multiline Multiline `toml:"multiline" optional:"true"`
	// Regular expressions (RE2; "$" is written "$$"). A record that matches none of
	// them is dropped, and counted; one sealed in pieces is not.
	Keep []string `toml:"keep"`
	// Regular expressions (RE2). A record that matches one of them is dropped,
	// likewise.
	Drop []string `toml:"drop"`
	// Bytes of files read in a second at most; the files buffer. "0" is no limit.
	RateLimit Bytes `toml:"rate_limit" default:"0" min:"0" max:"64GiB"`
	// Algorithms that seal.
	Suite string `toml:"suite" required:"true" oneof:"aes-256-gcm sm4-gcm"`
	// Name of a [key.NAME].
	Key string `toml:"key" required:"true"`
	// Name of a [sink.NAME].
	Sink string `toml:"sink" required:"true"`
	// Names and values sealed with every record: together at most 8 KiB. Names
	// that begin with "__" are the agent's own.
	Tags map[string]string `toml:"tags"`
	// When a batch is full, and how it is compressed.
	Batch Batch `toml:"batch"`
	// Limits of the sealed batches that wait on disk to be shipped. At a limit
	// the agent waits, the files buffer.
	Spool Limits `toml:"spool"`
	// Limits of the bytes of deleted files that are held open because they are
	// not read yet. Beyond them the oldest are given up, counted and reported.
	Hold Hold `toml:"hold"`
	// After this much silence an empty envelope shows that the stream lives.
	Heartbeat time.Duration `toml:"heartbeat" default:"5m" min:"1s" max:"24h"`
}

// A Multiline says which lines make up one record, by one of its first four
// keys. A line longer than 512 KiB is a record of its own.
type Multiline struct {
	// Stack traces of a language, joined with what they follow.
	Preset string `toml:"preset" oneof:"java python go node"`
	// RE2 ("$" is written "$$") that the first line of a record matches.
	Start string `toml:"start"`
	// RE2 that all other lines of a record match.
	Continuation string `toml:"continuation"`
	// RE2 that the last line of a record matches.
	End string `toml:"end"`
	// How long after its last line a record is waited for. It stays in its file
	// until then.
	MaxAge time.Duration `toml:"max_age" default:"5s" min:"100ms" max:"1h"`
	// Size at which a record ends.
	MaxBytes Bytes `toml:"max_bytes" default:"512KiB" min:"1" max:"512KiB"`
}

// A Reader is what sealtail-reader -c pulls from Logstores, and what it opens
// that with. A file for the reader alone needs no [[stream]].
type Reader struct {
	// Names of the sinks to read, each of type "sls". Default: all that are.
	Sinks []string `toml:"sinks"`
	// Ids or ARNs of the CMKs that Decrypt may be asked for; an alias may come to
	// mean another key, and is refused. Default: of each key of provider
	// "alikms" its own key_id.
	Allow []string `toml:"allow"`
	// PROJECT/LOGSTORE for which what is found may have been sealed, besides the
	// one where it is found: after a move or a copy.
	AcceptFrom []string `toml:"accept_from"`
	// Keyrings that can open, with their symmetric or private keys; absolute.
	Keyrings []string `toml:"keyrings"`
	// The access key that may pull and do Decrypt, in the place of those of sinks
	// and keys, which an agent has.
	Credentials Credentials `toml:"credentials" optional:"true"`
}

// A Batch says when records are sealed together: at the first of these limits.
type Batch struct {
	// Encoded size before compression.
	MaxBytes Bytes `toml:"max_bytes" default:"2MiB" min:"64KiB" max:"8MiB"`
	// Number of records.
	MaxRecords int64 `toml:"max_records" default:"65536" min:"1" max:"1048576"`
	// Age of its first record.
	MaxAge time.Duration `toml:"max_age" default:"1s" min:"10ms" max:"10m"`
	// Compression by zstd.
	Level string `toml:"level" default:"fastest" oneof:"fastest default better"`
}

// A Limits bounds what a spool takes of the disk.
type Limits struct {
	// Bytes of the batches that wait. The unwritten part of the segment being
	// written and two spare ones come on top (48 MiB), and what was set aside:
	// damaged bytes, and batches that the sink can never take.
	MaxBytes Bytes `toml:"max_bytes" default:"2GiB" min:"32MiB" max:"64TiB"`
	// Share of the disk that must stay free.
	MinFree Percent `toml:"min_free" default:"5%" min:"0%" max:"90%"`
}

// A Hold bounds what deleted files held open take of their disk.
type Hold struct {
	// Bytes of deleted files.
	MaxBytes Bytes `toml:"max_bytes" default:"8GiB" min:"0" max:"64TiB"`
	// Share of their disk that must stay free.
	MinFree Percent `toml:"min_free" default:"5%" min:"0%" max:"90%"`
}
