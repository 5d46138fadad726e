package status

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severities of a [Problem], the worst first.
const (
	Stalled = "stalled" // a loop does not go on: the watchdog will restart the agent
	Paused  = "paused"  // nothing is sealed; nothing is lost
	Lost    = "lost"    // bytes that the world made impossible to read, or batches set aside
	Warning = "warning" // sealing goes on, and somebody should look
)

var severities = []string{Stalled, Paused, Lost, Warning}

// A Problem is what somebody should know, with what to do about it.
type Problem struct {
	Severity string    `json:"severity"`
	Stream   string    `json:"stream,omitempty"` // "" = the process
	What     string    `json:"what"`
	Since    time.Time `json:"since,omitzero"`
	Fix      string    `json:"fix"`
}

// late is how old the oldest unsealed byte or unshipped batch may become before
// that is worth a word.
const late = 15 * time.Minute

// shortAfter is how long files may wait for a descriptor: they take turns.
const shortAfter = 10 * time.Second

const fixDescriptors = "raise LimitNOFILE in the unit (elsewhere ulimit -Hn), which takes a restart: once nothing pauses"

// LossTold is how long a loss is a problem, whatever restarts meanwhile. After
// that it is told below all streams.
const LossTold = 24 * time.Hour

// Judge fills in which streams are paused, and what is wrong, worst first.
func Judge(s *Snapshot) {
	s.Problems = []Problem{}
	add := func(severity, stream, what string, since time.Time, fix string) {
		s.Problems = append(s.Problems, Problem{severity, stream, what, since, fix})
	}
	for _, loop := range s.Stalled {
		add(Stalled, "", "a loop does not go on: "+loop, time.Time{},
			"a disk or network file system may hang: look for processes in state D; systemd's watchdog restarts the agent, nothing is lost")
	}
	p := &s.Process
	if p.ReloadError != "" {
		add(Warning, "", "reload refused, the configuration before is in effect: "+p.ReloadError, p.Reloaded,
			"mend what it names, "+p.ConfigFile+" or a keyring; try it with sealtail check -c "+p.ConfigFile+", then reload again")
	}
	if len(p.Restart) > 0 {
		add(Warning, "", "changed, and waits for a restart: "+strings.Join(p.Restart, ", "), p.Reloaded, "systemctl restart sealtail")
	}
	if p.MaxOpen > 0 && p.Descriptors > p.MaxOpen/10*9 {
		add(Warning, "", fmt.Sprintf("%d of %d descriptors are in use", p.Descriptors, p.MaxOpen), time.Time{}, fixDescriptors)
	}
	for i := range s.Streams {
		judgeStream(s, &s.Streams[i], add)
	}
	slices.SortStableFunc(s.Problems, func(a, b Problem) int {
		return slices.Index(severities, a.Severity) - slices.Index(severities, b.Severity)
	})
}

func judgeStream(s *Snapshot, l *Stream, add func(severity, stream, what string, since time.Time, fix string)) {
	l.Paused = Pause{}
	k := &l.Key
	switch {
	case k.State == "paused":
		l.Paused = Pause{k.Since, "no data key: " + keyWords(k)}
		add(Paused, l.Name, l.Paused.Why, k.Since, keyFix(l))
	case k.State == "init" && s.Time.Sub(k.Since) > 10*time.Second:
		l.Paused = Pause{k.Since, "no data key yet"}
		add(Paused, l.Name, l.Paused.Why, k.Since, "the key service has not answered yet; if this lasts, sealtail check --online asks it")
	case k.State != "ready" && k.State != "refreshing" && k.State != "init":
		add(Warning, l.Name, "data key not refreshed, sealing goes on until "+clock(k.Ends)+": "+keyWords(k), k.Since, keyFix(l))
	}
	for _, at := range []struct {
		section string
		access  Access
	}{{"[key." + l.KeyRef + "]", k.Access}, {"[sink." + l.To + "]", l.Sink.Access}} {
		if a := at.access; a.Error != "" {
			add(Warning, l.Name, "the access key of "+at.section+" cannot be looked up, the one found last is used: "+a.Error, a.Since,
				"mend what the error names (there, with mode 0600, of the agent's user) before a restart: that would find none; it is looked up again with the next call, by itself")
		}
	}
	if l.Spool.Waiting != "" {
		what, fix := room(s, l)
		if l.Paused.Why == "" {
			l.Paused = Pause{l.Spool.Since, what}
		}
		add(Paused, l.Name, what, l.Spool.Since, fix)
	}
	if n := l.Spool.Damaged; n > 0 {
		add(Lost, l.Name, fmt.Sprintf("the spool was damaged in %s; what files still have was read again, the rest is told as lost", count(n, "place", "places")), time.Time{},
			"check the disk (dmesg -T, smartctl -a); the damaged bytes are in "+s.spoolDir(l)+"/damaged: once they are moved away this is not told any more")
	}
	if len(l.Spool.Missing) > 0 {
		add(Lost, l.Name, "missing in the spool at a start: segments "+strings.Join(l.Spool.Missing, ", ")+"; what files still have was read again, the rest is told as lost as far as anybody knows it", time.Time{},
			"find out who removes files in "+s.spoolDir(l)+" or has put an older copy there; once damaged/*.missing is removed there this is not told any more")
	}
	if ids := l.Spool.Destroyed; len(ids) > 0 {
		add(Lost, l.Name, "batches in the spool are sealed under key "+strings.Join(ids, ", ")+", which is destroyed in its keyring: without a copy of it nobody can open them", time.Time{},
			"was that not meant? put a copy of the keyring back in which [key."+l.KeyRef+"] has it; this is told until they are shipped")
	}
	if g := &l.Ledger; !g.Recent.none() {
		add(Lost, l.Name, g.Recent.words()+" of files are lost"+g.Recent.reasons()+g.newest(), time.Time{}, g.Recent.fix(s))
	}
	if n := l.Spool.Rejected; n > 0 {
		add(Lost, l.Name, count(n, "batch", "batches")+", still sealed, set aside: the sink can never accept them", time.Time{},
			"sealtail-reader opens them: "+s.spoolDir(l)+"/rejected; the .why beside each says why; move them out and keep them, and this is not told any more")
	}
	switch {
	case l.Sink.Parking:
		add(Warning, l.Name, "a batch that sink "+l.To+" can never accept cannot be set aside, the spool buffers: "+l.Sink.Error, l.Sink.Failing, sinkFix(s, l))
	case l.Sink.Error != "":
		add(Warning, l.Name, "sink "+l.To+" refuses, the spool buffers: "+l.Sink.Error, l.Sink.Failing, sinkFix(s, l))
	case !l.Spool.Oldest.IsZero() && s.Time.Sub(l.Spool.Oldest) > late && l.Trend.SpoolETA != 0:
		add(Warning, l.Name, "the oldest batch waits to be shipped since "+clock(l.Spool.Oldest), l.Spool.Oldest, shipFix(l))
	}
	if n := l.Files.Closed; n > 0 {
		what := l.Files.ClosedAt + " cannot be read"
		if n > 1 {
			what = fmt.Sprintf("%d files or directories cannot be read, such as %s", n, l.Files.ClosedAt)
		}
		add(Warning, l.Name, what+": "+l.Files.ClosedAs, time.Time{}, readFix(l.Files.ClosedErr))
	}
	if f := &l.Files; f.Waiting > 0 && s.Time.Sub(f.Waits) > shortAfter {
		add(Warning, l.Name, count(f.Waiting, "file waits", "files wait")+fmt.Sprintf(" for a descriptor, %d are open: what is deleted meanwhile is lost", f.Open), f.Waits, fixDescriptors)
	}
	if l.Paused.Why == "" && l.Files.LagAge > late.Seconds() {
		add(Warning, l.Name, "lines are sealed "+Span(l.Files.LagAge)+" late", time.Time{}, sealFix(l))
	}
	if s.Process.Swap && !l.Key.Locked && l.Key.ID != "" {
		add(Warning, l.Name, "the data key's memory is not locked, it may be swapped", time.Time{}, "raise LimitMEMLOCK, or turn swap off")
	}
}

func keyWords(k *Key) string {
	s := k.Reason
	if k.Code != "" {
		s += " (" + k.Code + ")"
	}
	if k.Error != "" {
		s += ": " + k.Error
	}
	return s
}

// readAgain says when an access key takes effect: a process never gets other
// variables, and systemd copies credentials at a start alone.
const readAgain = "its files are read again by themselves; for type env or systemd mend the unit, or what it loads, and restart"

// keyFix says what to do about a key service's answer. All go on by themselves
// once it is done, but for what takes a restart.
func keyFix(l *Stream) string {
	at, k := "[key."+l.KeyRef+"]", &l.Key
	switch k.Code {
	case "LostKey":
		return "put the key back into the keyring file of " + at + ", beside the primary (sealtail keyring rotate keeps the key before, export-public as well), or name the file that has it in another [key.NAME] and reload; or see to the sink: once those batches are shipped, sealing goes on by itself"
	case "NoFile":
		return "put the keyring file of " + at + " back; it is read again by itself"
	case "Disabled", "DecryptOnly", "Destroyed": // of a keyring's primary; a KMS says Rejected.Disabled
		return "mend the keyring file of " + at + " (sealtail keyring list, enable, rotate), or put another in its place; it is read again by itself"
	case "Forbidden.NoPermission":
		return "allow kms:GenerateDataKey with its master key to the access key of " + at + "; sealing goes on by itself"
	case "DescribeKey":
		return "allow kms:DescribeKey with its master key to the access key of " + at + ": sealing goes on by itself; or remove require_sm4_cmk, and reload"
	case "NoCredentials":
		return "mend what the error names, where " + at + " finds its access key (there, with mode 0600, of the agent's user); " + readAgain
	}
	goesOn := ": sealing goes on by itself once the key service of " + at + " answers"
	switch {
	case k.Reason == "revoked":
		return "enable the master key of " + at + " again, or give the agent the right to use it; sealing goes on by itself"
	case k.Reason == "credentials":
		return "put a valid access key where " + at + " finds it; " + readAgain
	case k.Reason == "misfit":
		return "mend what it says: a keyring is read again by itself; for a change of " + at + " try sealtail check --online, then systemctl reload sealtail"
	case k.Code == "Certificate":
		return "put the authority that issued it into ca_file of the route of " + at + ", or mend what the error names: that file, the certificate's name, its time or this host's clock" + goesOn
	case k.Code == "Network" || k.Code == "Timeout":
		return "check network, DNS, proxy and clock, and dial_address, ca_file and endpoint of the route of " + at + " (a changed key takes a reload, what is in ca_file nothing)" + goesOn
	case strings.HasPrefix(k.Code, "InvalidTimeStamp") || k.Code == "IllegalTimestamp":
		return "set this host's clock (chronyc tracking); sealing goes on by itself"
	}
	return "nothing to do here but to check network, DNS and clock" + goesOn
}

// room says what the spool waits for, in numbers, and what makes room.
func room(s *Snapshot, l *Stream) (what, fix string) {
	what, fix = "no room in the spool: "+l.Spool.Waiting, "free room on the disk of "+s.Process.StateDir+" (df -h)"
	switch {
	case strings.Contains(l.Spool.Waiting, "max_bytes"):
		what += " (" + Size(l.Spool.MaxBytes) + ")"
		fix = "raise spool.max_bytes, and reload"
	case strings.Contains(l.Spool.Waiting, "min_free"):
		what += fmt.Sprintf(" (%.4g%% of the disk of %s)", 100*l.Spool.MinFree, s.Process.StateDir)
		fix += ", or lower spool.min_free and reload"
	}
	if l.Sink.Error != "" {
		fix = "sink " + l.To + " has to take what waits, see below; or " + fix
	}
	return what, fix
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func catchUp(eta float64) string {
	return "nothing: it is catching up, done in about " + Span(eta)
}

// shipFix says what to do about a sink that takes, and too little.
func shipFix(l *Stream) string {
	switch r := &l.Trend; {
	case r.SpoolETA > 0:
		return catchUp(r.SpoolETA)
	case r.Shipping > 0:
		return "it ships " + Size(int64(r.Shipping)) + "/s, and no less comes: look at the quota of sink " + l.To + " and at the network, or seal less"
	}
	return "nothing was shipped in the last 10 s; a request that hangs is tried again by itself: if this lasts, look at the network"
}

// sealFix says what to do about lines that are sealed late, though nothing pauses.
func sealFix(l *Stream) string {
	switch r := &l.Trend; {
	case r.LagETA > 0:
		return catchUp(r.LagETA)
	case l.Files.Closed > 0:
		return "what cannot be read waits, see the problem of that"
	default:
		return Size(int64(r.Sealing)) + "/s are sealed, and no less comes: look at rate_limit of the stream, at the CPU (top) and at the disk of the spool (iostat)"
	}
}

// clock is a time for people, in UTC as the log has it.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// Paused reports whether a stream does not seal.
func (s *Snapshot) Paused() bool { return s.has(Paused) }

func (s *Snapshot) has(severity string) bool {
	return slices.ContainsFunc(s.Problems, func(p Problem) bool { return p.Severity == severity })
}

// Ready returns why the agent is not ready: some stream cannot seal. "" = it is.
func (s *Snapshot) Ready() (why string) {
	if p := s.Process.Phase; p == "starting" || p == "stopping" {
		return p
	}
	for i := range s.Streams {
		l := &s.Streams[i]
		switch {
		case l.Paused.Why != "":
			return l.Name + ": " + l.Paused.Why
		case !l.Spool.Recovered:
			return l.Name + ": the spool is not recovered yet"
		case l.Key.State == "init":
			return l.Name + ": no data key yet"
		}
	}
	return ""
}

// Line says in one line how it stands, for systemd's STATUS=.
func (s *Snapshot) Line() string {
	head := s.Process.Phase
	if head == "running" {
		var files, lag, pending int64
		for i := range s.Streams {
			l := &s.Streams[i]
			files, lag, pending = files+l.Files.Followed, lag+l.Files.Lag, pending+l.Spool.PendingB
		}
		head = fmt.Sprintf("%d streams, %d files, %s to seal, %s to ship", len(s.Streams), files, Size(lag), Size(pending))
	}
	if len(s.Problems) == 0 {
		return head
	}
	p := s.Problems[0]
	text := p.Severity + ": "
	if p.Stream != "" {
		text += p.Stream + ": "
	}
	text += strings.ToValidUTF8(p.What, "?")
	if !p.Since.IsZero() {
		text += " since " + clock(p.Since)
	}
	if n := len(s.Problems) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text + "; " + head
}
