// Package conf reads the agent's configuration: one TOML file in, one checked
// [Config] out, or every fault of the file at once.
//
// The file is read strictly. An unknown key, a value of the wrong type or out
// of its range, a reference to nothing: each is a [Fault] with file, line, key
// and what to do about it, and [Load] returns all of them together as
// [Faults]. What is merely doubtful is a warning in [Config.Warnings].
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
//	required  no default: the key must be there
//	oneof     the words allowed
//	later     words known but not in this build
//	min, max  bounds, both allowed
package conf

import "time"

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
	// sealtail keyring new.
	Provider string `toml:"provider" required:"true" oneof:"keyring" later:"alikms"`
	// The keyring's file: absolute, owned by root or the agent's user, with no
	// rights for others.
	File string `toml:"file" required:"true"`
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
	// Batches after which a data key is replaced before its time.
	DEKMaxBatches int64 `toml:"dek_max_batches" default:"1048576" min:"1" max:"4294967296"`
	// Bytes after which a data key is replaced before its time.
	DEKMaxBytes Bytes `toml:"dek_max_bytes" default:"64GiB" min:"1MiB" max:"64TiB"`
}

// A Sink takes sealed batches.
type Sink struct {
	// "dir" is a directory of files of envelopes.
	Type string `toml:"type" required:"true" oneof:"dir" later:"sls"`
	// The directory; absolute. Each stream has its own directory in it.
	Path string `toml:"path" required:"true"`
	// Longest wait between two attempts while the sink refuses.
	RetryMax time.Duration `toml:"retry_max" default:"30s" min:"500ms" max:"1h"`
	// Size at which a file is closed and the next one begun.
	MaxBytes Bytes `toml:"max_bytes" default:"64MiB" min:"1MiB" max:"64GiB"`
	// Age at which a file is closed and the next one begun.
	MaxAge time.Duration `toml:"max_age" default:"1h" min:"1s" max:"720h"`
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
	// Where files begin that are there at the very first start: "beginning", or
	// "end" to take only what is appended. Every later file begins at its
	// beginning.
	StartAt string `toml:"start_at" default:"beginning" oneof:"beginning end"`
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
	// Bytes of the spool's files.
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
