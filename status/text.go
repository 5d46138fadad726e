package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Write tells a snapshot to people: first what is wrong and what to do, then a
// line a stream.
func (s *Snapshot) Write(w io.Writer) error {
	var b strings.Builder
	p := &s.Process
	head := "fine"
	if len(s.Problems) > 0 {
		head = strings.ToUpper(s.Problems[0].Severity)
	}
	fmt.Fprintf(&b, "%s  sealtail %s on %s, %s, up %s, config %s\n", head, p.Version, p.Host, p.Phase, Span(s.Time.Sub(p.Started).Seconds()), p.Config)
	for _, x := range s.Problems {
		fmt.Fprintf(&b, "\n%s", strings.ToUpper(x.Severity))
		if x.Stream != "" {
			fmt.Fprintf(&b, "  stream %s", x.Stream)
		}
		if !x.Since.IsZero() {
			fmt.Fprintf(&b, "  for %s, since %s", Span(s.Time.Sub(x.Since).Seconds()), clock(x.Since))
		}
		fmt.Fprintf(&b, "\n  %s\n  fix: %s\n", plain(x.What), plain(x.Fix))
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STREAM\tSTATE\tFILES\tTO SEAL\tLATE\tHELD\tLOST\tKEY\tTO SHIP\tOLDEST\tSINK\tSHIPPED\tRECORDS")
	for i := range s.Streams {
		l := &s.Streams[i]
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", l.Name, l.state(), l.Files.Followed,
			Size(l.Files.Lag), Span(l.Files.LagAge), Size(l.Files.Held), Size(l.Ledger.Lost), l.Key.State,
			Size(l.Spool.PendingB), s.ago(l.Spool.Oldest), l.sinkState(), Size(int64(l.Sink.Bytes)), l.Sealed.Records)
	}
	t.Flush()
	for i := range s.Streams {
		if l := &s.Streams[i]; l.Trend.LagETA > 5 || l.Trend.SpoolETA > 5 {
			fmt.Fprintf(&b, "%s catches up: %s\n", l.Name, strings.Join(l.catchesUp(), "; "))
		}
	}
	for i := range s.Streams {
		if g := &s.Streams[i].Ledger; g.Losses != g.Recent.Losses || g.Lost != g.Recent.Lost {
			fmt.Fprintf(&b, "%s lost %s since its state began%s%s; sealtail-reader open --events tells each\n", s.Streams[i].Name,
				g.words(), g.reasons(), g.newest())
		}
	}
	fmt.Fprintf(&b, "\n%d of %d descriptors, %s of memory, state in %s, config file %s\n", p.Descriptors, p.MaxOpen, Size(p.Memory), p.StateDir, p.ConfigFile)
	_, err := io.WriteString(w, b.String())
	return err
}

// catchesUp tells of what becomes less.
func (l *Stream) catchesUp() (parts []string) {
	say := func(left int64, what string, rate, eta float64) {
		if eta > 0 {
			parts = append(parts, fmt.Sprintf("%s to %s at %s/s, about %s", Size(left), what, Size(int64(rate)), Span(eta)))
		}
	}
	say(l.Files.Lag, "seal", l.Trend.Sealing, l.Trend.LagETA)
	say(l.Spool.PendingB, "ship", l.Trend.Shipping, l.Trend.SpoolETA)
	return parts
}

func (g *Ledger) newest() string {
	if g.Newest.IsZero() {
		return ""
	}
	return "; the newest at " + clock(g.Newest)
}

func (l *Stream) state() string {
	switch {
	case l.Paused.Why != "":
		return "paused"
	case !l.Spool.Recovered:
		return "starting"
	}
	return "sealing"
}

func (l *Stream) sinkState() string {
	switch {
	case l.Sink.Parking:
		return "waits"
	case l.Sink.Error != "":
		return "refuses"
	case l.Sink.Acked.IsZero():
		return "quiet"
	}
	return "takes"
}

func (s *Snapshot) ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return Span(s.Time.Sub(t).Seconds())
}

// plain keeps an error from writing control characters to a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// Size is a number of bytes for people.
func Size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n), -1
	for ; v >= 1<<10 && i < 4; i++ {
		v /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[i])
}

// Span is a number of seconds for people.
func Span(seconds float64) string {
	d := time.Duration(max(0, seconds)) * time.Second
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
