package status

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A metric is one family and how it is read off a snapshot. Those of a stream
// have the label stream; docs/METRICS.md lists all, and a test holds it.
type metric struct {
	name, help string
	counter    bool
	label      string // beside stream; "" = none
	process    func(s *Snapshot) float64
	stream     func(s *Snapshot, l *Stream) float64
	labelled   func(s *Snapshot, l *Stream) map[string]float64 // by the label's value
}

var keyStates = []string{"init", "ready", "refreshing", "degraded", "paused"}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func since(s *Snapshot, t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, s.Time.Sub(t).Seconds())
}

// metrics are all families but those of the process and of Go.
var metrics = []metric{
	{name: "sealtail_info", help: "1; its labels tell version and digest of the configuration in effect.", label: "version, config"},
	{name: "sealtail_ready", help: "Whether every stream can seal.", process: func(s *Snapshot) float64 { return is(s.Ready() == "") }},
	{name: "sealtail_stalled_loops", help: "Loops that do not go on.", process: func(s *Snapshot) float64 { return float64(len(s.Stalled)) }},
	{name: "sealtail_snapshot_timestamp_seconds", help: "When these numbers were taken.", process: func(s *Snapshot) float64 { return seconds(s.Time) }},
	{name: "sealtail_reloads_total", help: "Configurations that took effect after the start.", counter: true, process: func(s *Snapshot) float64 { return float64(s.Process.Reloads) }},
	{name: "sealtail_reload_refused", help: "Whether the newest configuration was refused.", process: func(s *Snapshot) float64 { return is(s.Process.ReloadError != "") }},
	{name: "sealtail_restart_needed", help: "Whether a change of the configuration waits for a restart.", process: func(s *Snapshot) float64 { return is(len(s.Process.Restart) > 0) }},

	{name: "sealtail_paused", help: "Whether nothing is sealed, for want of a key or of room.", stream: func(_ *Snapshot, l *Stream) float64 { return is(l.Paused.Why != "") }},
	{name: "sealtail_pauses_total", help: "Pauses that ended.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sealed.Pauses) }},

	{name: "sealtail_files", help: "Files followed.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Files.Followed) }},
	{name: "sealtail_files_open", help: "Descriptors of files.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Files.Open) }},
	{name: "sealtail_lag_bytes", help: "Bytes of files that were seen and not sealed yet.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Files.Lag) }},
	{name: "sealtail_lag_seconds", help: "Age of the oldest of these, since it was seen.", stream: func(_ *Snapshot, l *Stream) float64 { return l.Files.LagAge }},
	{name: "sealtail_held_bytes", help: "Disk space of deleted files that are held open.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Files.Held) }},
	{name: "sealtail_read_bytes_total", help: "Bytes read, line ends included.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Files.Bytes) }},
	{name: "sealtail_read_records_total", help: "Records read.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Files.Records) }},
	{name: "sealtail_file_errors_total", help: "Files and directories that could not be opened, listed or read, each try.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Files.Errors) }},
	{name: "sealtail_dropped_records_total", help: "Records that keep and drop patterns dropped.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Ledger.Filtered) }},
	{name: "sealtail_dropped_bytes_total", help: "Bytes of these.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Ledger.Dropped) }},
	{name: "sealtail_malformed_lines_total", help: "Lines that are not in the stream's format, sealed as they are.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Ledger.Malformed) }},
	{name: "sealtail_losses_total", help: "Ranges of files that were gone unread, each sealed as a loss event; since the state directory was made.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Ledger.Losses - l.Ledger.Untold.Losses) }},
	{name: "sealtail_lost_bytes_total", help: "Bytes of these, by reason: " + labels() + ".", counter: true, label: "reason", labelled: func(_ *Snapshot, l *Stream) map[string]float64 {
		return l.Ledger.told()
	}},
	{name: "sealtail_lost_untold_bytes", help: "Bytes whose loss event is not sealed yet; sealtail_lost_bytes_total counts them once it is.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Ledger.Untold.Lost) }},

	{name: "sealtail_key_state", help: "1 for the state of the data key, 0 for the others.", label: "state", labelled: func(_ *Snapshot, l *Stream) map[string]float64 {
		states := make(map[string]float64)
		for _, state := range keyStates {
			states[state] = 0
		}
		states[l.Key.State] = 1
		return states
	}},
	{name: "sealtail_key_age_seconds", help: "Age of the data key; 0 without one.", stream: func(_ *Snapshot, l *Stream) float64 { return l.Key.Age }},
	{name: "sealtail_key_proof_timestamp_seconds", help: "When the key service last proved the master key alive; 0 = never.", stream: func(_ *Snapshot, l *Stream) float64 { return seconds(l.Key.Proof) }},
	{name: "sealtail_key_calls_total", help: "Calls to the key service.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Key.Calls) }},
	{name: "sealtail_key_failed_calls_total", help: "Calls that failed.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Key.Failed) }},
	{name: "sealtail_key_rotations_total", help: "Data keys taken into use.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Key.Rotated) }},
	{name: "sealtail_key_locked", help: "Whether the data key's memory cannot be swapped.", stream: func(_ *Snapshot, l *Stream) float64 { return is(l.Key.Locked) }},

	{name: "sealtail_sealed_records_total", help: "Records sealed.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sealed.Records) }},
	{name: "sealtail_sealed_raw_bytes_total", help: "Bytes of files that were sealed.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sealed.RawBytes) }},
	{name: "sealtail_sealed_batches_total", help: "Batches sealed.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sealed.Batches) }},
	{name: "sealtail_sealed_bytes_total", help: "Bytes of envelopes.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sealed.Bytes) }},

	{name: "sealtail_spool_bytes", help: "Disk space of the spool, as spool.max_bytes counts.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Spool.Bytes) }},
	{name: "sealtail_spool_max_bytes", help: "Its limit.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Spool.MaxBytes) }},
	{name: "sealtail_spool_pending_envelopes", help: "Envelopes that are not acknowledged.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Spool.Pending) }},
	{name: "sealtail_spool_pending_bytes", help: "Bytes of these.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Spool.PendingB) }},
	{name: "sealtail_spool_oldest_seconds", help: "Age of the oldest of these.", stream: func(s *Snapshot, l *Stream) float64 { return since(s, l.Spool.Oldest) }},
	{name: "sealtail_spool_damaged", help: "Damaged places of the spool that are set aside, and notes of missing segments.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Spool.Damaged) + float64(len(l.Spool.Missing)) }},

	{name: "sealtail_sink_in_flight", help: "Requests to the sink now.", stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sink.InFlight) }},
	{name: "sealtail_sink_acknowledged_envelopes_total", help: "Envelopes acknowledged.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sink.Envelopes) }},
	{name: "sealtail_sink_acknowledged_bytes_total", help: "Bytes of these.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sink.Bytes) }},
	{name: "sealtail_sink_acknowledged_timestamp_seconds", help: "When the sink acknowledged last; 0 = never.", stream: func(_ *Snapshot, l *Stream) float64 { return seconds(l.Sink.Acked) }},
	{name: "sealtail_sink_failing_seconds", help: "For how long a request has been waiting for its next try; 0 = none.", stream: func(s *Snapshot, l *Stream) float64 { return since(s, l.Sink.Failing) }},
	{name: "sealtail_sink_retries_total", help: "Tries that failed and are repeated.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sink.Retries) }},
	{name: "sealtail_sink_parked_total", help: "Envelopes that the sink can never accept, set aside still sealed.", counter: true, stream: func(_ *Snapshot, l *Stream) float64 { return float64(l.Sink.Parked) }},
}

// registry holds the metrics of what is posted.
func (b *Board) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{b}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// A collector renders the newest snapshot. It describes nothing: which series
// there are is the snapshot's to say.
type collector struct{ board *Board }

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.board.Newest()
	if s == nil {
		return
	}
	for _, m := range metrics {
		kind := prometheus.GaugeValue
		if m.counter {
			kind = prometheus.CounterValue
		}
		switch {
		case m.process != nil:
			out <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, nil, nil), kind, m.process(s))
		case m.stream == nil && m.labelled == nil:
			desc := prometheus.NewDesc(m.name, m.help, []string{"version", "config"}, nil)
			out <- prometheus.MustNewConstMetric(desc, kind, 1, s.Process.Version, s.Process.Config)
		}
		for i := range s.Streams {
			l := &s.Streams[i]
			if m.stream != nil {
				out <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, []string{"stream"}, nil), kind, m.stream(s, l), l.Name)
			}
			if m.labelled != nil {
				for value, v := range m.labelled(s, l) {
					out <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, []string{"stream", m.label}, nil), kind, v, l.Name, value)
				}
			}
		}
	}
}
