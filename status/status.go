// Package status says how an agent stands: one [Snapshot] of the whole line,
// and the ways in which it is told.
//
//	stages' Stats ──(main)──▶ Snapshot ──▶ a Unix socket: sealtail status
//	                              │    ──▶ /livez /readyz /metrics
//	                              └──────▶ systemd: STATUS= WATCHDOG=1
//
// main fills a snapshot each second and hands it to all; nothing here looks at
// a stage, so what hangs there cannot hang an answer. All that is served is
// read-only, and holds names, numbers and errors, never a line or a secret.
//
// Sizes are bytes, spans seconds.
package status

import "time"

// A Snapshot is how the agent stood at one moment.
type Snapshot struct {
	Time     time.Time `json:"time"`
	Process  Process   `json:"process"`
	Streams  []Stream  `json:"streams"`
	Stalled  []string  `json:"stalled"`  // loops that do not go on, such as "audit: tail"
	Problems []Problem `json:"problems"` // what [Judge] makes of it, worst first
}

// A Process is the agent's.
type Process struct {
	PID         int       `json:"pid"`
	Version     string    `json:"version"`
	Host        string    `json:"host"`
	ConfigFile  string    `json:"config_file"`
	Config      string    `json:"config"` // digest of what is in effect
	StateDir    string    `json:"state_dir"`
	Phase       string    `json:"phase"` // starting, running, reloading, stopping
	Started     time.Time `json:"started"`
	Descriptors int64     `json:"descriptors"`
	MaxOpen     int64     `json:"max_descriptors"`
	Memory      int64     `json:"memory_bytes"` // resident
	Swap        bool      `json:"swap"`         // the machine swaps to disk

	Reloads     int64     `json:"reloads"`                // that took effect
	Reloaded    time.Time `json:"reloaded,omitzero"`      // when the newest was tried
	ReloadError string    `json:"reload_error,omitempty"` // why that one was refused
	Restart     []string  `json:"restart,omitempty"`      // keys of the file that wait for a restart
}

// A Stream is one line, from its files to its sink.
type Stream struct {
	Name   string `json:"name"`
	Suite  string `json:"suite"`
	KeyRef string `json:"key_name"`
	To     string `json:"sink_name"`

	Paused Pause  `json:"paused,omitzero"`
	Files  Files  `json:"files"`
	Ledger Ledger `json:"ledger"`
	Key    Key    `json:"key"`
	Sealed Sealed `json:"sealed"`
	Spool  Spool  `json:"spool"`
	Sink   Sink   `json:"sink"`
	Trend  Rates  `json:"rates"`
}

// A Pause says why nothing is sealed. The zero Pause is none.
type Pause struct {
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// Files are what the tailer follows.
type Files struct {
	Followed  int64   `json:"followed"`
	Open      int64   `json:"open"`
	Lag       int64   `json:"lag_bytes"`   // seen and not sealed
	LagAge    float64 `json:"lag_seconds"` // of the oldest byte of these, as far as it was noticed
	Held      int64   `json:"held_bytes"`  // of deleted files
	Bytes     int64   `json:"read_bytes"`
	Records   int64   `json:"read_records"`
	Truncated int64   `json:"truncated"`
	Rewritten int64   `json:"rewritten"`
	Closed    int64   `json:"closed"`              // files and directories that are meant and cannot be read: as of now
	ClosedAt  string  `json:"closed_at,omitempty"` // one of them
	ClosedAs  string  `json:"closed_as,omitempty"` // and why
	ClosedErr error   `json:"-"`                   // likewise
	Errors    int64   `json:"errors"`              // files or directories that could not be read

	Waiting int64     `json:"waiting"`                // for a descriptor
	Waits   time.Time `json:"waiting_since,omitzero"` // since when there are such
}

// A Ledger is what the world made impossible to read. Each loss is logged and
// sealed in-band, with file and range. Losses are those since the state
// directory was made, all else since the stream was opened:
//
//	seen = taken + holes + what was lost since then + unread
type Ledger struct {
	Seen      int64 `json:"seen_bytes"` // of files as they grew
	Taken     int64 `json:"taken_bytes"`
	Dropped   int64 `json:"dropped_bytes"`   // of these: by the user's filters
	Filtered  int64 `json:"dropped_records"` // likewise
	Malformed int64 `json:"malformed_lines"` // not in the stream's format, sealed as they are
	Holes     int64 `json:"hole_bytes"`      // never written: NULs of truncated files

	Loss
	Untold Loss      `json:"untold"`               // of these: their events are not sealed yet
	Recent Loss      `json:"recent"`               // of all: told in the last day, to the hour, or not yet
	Newest time.Time `json:"newest_loss,omitzero"` // when it was told
}

// A Loss is a sum of losses.
type Loss struct {
	Losses int64            `json:"losses"`                         // events
	Lost   int64            `json:"lost_bytes"`                     // the sum of …
	By     map[string]int64 `json:"lost_bytes_by_reason,omitempty"` // as the label of sealtail_lost_bytes_total names it
}

// A Key is the life of the data key.
type Key struct {
	State   string    `json:"state"` // as docs/KEYS.md names them
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason,omitempty"` // class of the newest failure
	Code    string    `json:"code,omitempty"`   // the key service's word for it
	Error   string    `json:"error,omitempty"`
	ID      string    `json:"key_id,omitempty"` // of the master key
	Age     float64   `json:"age_seconds"`
	Ends    time.Time `json:"ends,omitzero"` // of the data key, if nothing changes
	Locked  bool      `json:"locked"`        // its memory cannot be swapped
	Proof   time.Time `json:"proof,omitzero"`
	Next    time.Time `json:"next,omitzero"`
	Calls   int64     `json:"calls"`
	Failed  int64     `json:"failed"`
	Rotated int64     `json:"rotated"`
	Access  Access    `json:"access,omitzero"`
}

// An Access says why an access key cannot be looked up, while the one that was
// found last is used. The zero Access is that it can, or need not be.
type Access struct {
	Error string    `json:"error"` // of the newest look-up: one goes with each call
	Since time.Time `json:"since"`
}

// Sealed is what the pipeline made.
type Sealed struct {
	Records    int64 `json:"records"`
	Taken      int64 `json:"taken_bytes"` // of files: with what was dropped, or had been sealed before
	RawBytes   int64 `json:"raw_bytes"`   // of files: of the records
	Batches    int64 `json:"batches"`
	Heartbeats int64 `json:"heartbeats"`
	Pauses     int64 `json:"pauses"` // that ended
	Bytes      int64 `json:"bytes"`  // of envelopes
}

// A Spool is what waits on disk.
type Spool struct {
	Bytes     int64     `json:"bytes"`     // as spool.max_bytes counts
	MaxBytes  int64     `json:"max_bytes"` //
	MinFree   float64   `json:"min_free"`  // of the disk, of 1
	Pending   int64     `json:"pending"`   // envelopes
	PendingB  int64     `json:"pending_bytes"`
	Oldest    time.Time `json:"oldest,omitzero"`
	Waiting   string    `json:"waiting,omitempty"` // for what room
	Since     time.Time `json:"waiting_since,omitzero"`
	Recovered bool      `json:"recovered"`
	Keys      []string  `json:"keys,omitempty"`           // of a keyring, under which envelopes are sealed that wait
	Destroyed []string  `json:"destroyed_keys,omitempty"` // of these: their keyring says so

	// Set aside, until somebody moves it away.
	Rejected int64    `json:"rejected"`          // envelopes that the sink can never accept
	Damaged  int64    `json:"damaged"`           // places on disk
	Missing  []string `json:"missing,omitempty"` // segments, such as "7" or "9 to 10"
}

// A Sink is where envelopes go.
type Sink struct {
	InFlight  int       `json:"in_flight"`
	Envelopes uint64    `json:"acknowledged"`
	Bytes     uint64    `json:"acknowledged_bytes"`
	Acked     time.Time `json:"last_acknowledged,omitzero"`
	Dir       string    `json:"dir,omitempty"`     // of a sink that is one
	Error     string    `json:"error,omitempty"`   // while a request waits for its next try
	Err       error     `json:"-"`                 // it
	Parking   bool      `json:"parking,omitempty"` // it is of a batch that is to be set aside
	Failing   time.Time `json:"failing_since,omitzero"`
	Retries   uint64    `json:"retries"`
	Parked    uint64    `json:"parked"`
	Access    Access    `json:"access,omitzero"`
}

// Rates are as of the last ten seconds; an ETA of -1 is more than a month, or never.
type Rates struct {
	Arriving float64 `json:"arriving_bytes_per_second"` // in files
	Sealing  float64 `json:"sealing_bytes_per_second"`
	Shipping float64 `json:"shipping_bytes_per_second"`
	LagETA   float64 `json:"lag_eta_seconds"`   // until what files have is sealed
	SpoolETA float64 `json:"spool_eta_seconds"` // until the spool is shipped
}
