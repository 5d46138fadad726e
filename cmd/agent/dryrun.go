package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"sealtail/conf"
	"sealtail/pipeline"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/tail"
)

// dryRun takes the real line over the real files to their ends, under real
// data keys and a host identity of its own, with a spool that counts and
// forgets: no lock, no state, nothing shipped.
func dryRun(ctx context.Context, cfg *conf.Config, show bool, log *zap.Logger, stdout io.Writer) error {
	signing, err := seal.NewIdentity()
	if err != nil {
		return err
	}
	keys := make(map[keyUse]*runningKeys)
	nothing := func() neededKeys { return neededKeys{} }
	for _, s := range cfg.Streams {
		if use := keysOf(s); keys[use] == nil {
			if keys[use], err = openKeys(cfg, s, log, nothing); err != nil {
				return err
			}
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	life := new(stages)
	for use, k := range keys {
		life.run(use.String(), stop, func() error { return k.Run(ctx) })
	}
	for _, s := range cfg.Streams {
		if err := dryLine(ctx, cfg, s, signing, keys[keysOf(s)].Keys, show, log, stdout); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	stop()
	for use := range keys {
		life.wait(use.String())
	}
	return life.err
}

func dryLine(ctx context.Context, cfg *conf.Config, s conf.Stream, signing *seal.Identity, keys *seal.Keys, show bool, log *zap.Logger, stdout io.Writer) error {
	sealer, err := newChain(cfg, s, signing, keys, nil)
	if err != nil {
		return err
	}
	var spool forgetful
	sampler := &sampler{Sealer: &chain{Chain: sealer}, most: 3}
	p, err := newPipeline(cfg, s, sampler, &spool, pipeline.Options{Log: log})
	if err != nil {
		return err
	}
	s.RateLimit = 0 // nobody is to be spared
	t, err := newTailer(s, len(cfg.Streams), tail.Options{Key: make([]byte, 32), Once: true, Log: log})
	if err != nil {
		return err
	}
	chunks := make(chan *record.Chunk, 2)
	both := new(stages)
	running, stop := context.WithCancel(ctx)
	defer stop()
	both.run("tail", stop, func() error { return t.Run(running, running, chunks) })
	both.run("pipeline", stop, func() error { return p.Run(running, chunks) })
	both.wait("pipeline", "tail")
	if both.err != nil {
		return both.err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stopped before the files' end: %w", err)
	}

	n := p.Stats()
	fmt.Fprintf(stdout, "stream %s: %s under key %s to sink %s\n", s.Name, s.Suite, s.Key, s.Sink)
	fmt.Fprintf(stdout, "  files    %d matched\n", t.Stats().Files)
	fmt.Fprintf(stdout, "  records  %d in %d bytes\n", n.Records, n.Raw)
	if f := t.Stats(); f.Filtered+f.Malformed > 0 {
		fmt.Fprintf(stdout, "  besides  %d records dropped by filters, in %d bytes; %d lines not in the format %s\n", f.Filtered, f.Dropped, f.Malformed, s.Format)
	}
	fmt.Fprintf(stdout, "  batches  %d of %d bytes sealed", n.Batches, n.Sealed)
	if n.Content > 0 {
		fmt.Fprintf(stdout, " (compressed %.1f : 1)", float64(n.Raw)/float64(n.Content))
	}
	fmt.Fprintln(stdout)
	for _, r := range sampler.records {
		fmt.Fprintf(stdout, "  sample   %s\n", shown(r, show))
	}
	return nil
}

// shown is a record as it may be printed: as it is only if that was asked
// for, else its shape: ASCII digits as 0, punctuation as it is, all else as x.
func shown(content []byte, show bool) string {
	const most = 160
	s := strings.Map(func(r rune) rune {
		switch {
		case r == '\n': // of a record of several lines
			return '⏎'
		case show && unicode.IsPrint(r) && r != utf8.RuneError:
			return r
		case show:
			return '.'
		case '0' <= r && r <= '9':
			return '0'
		case r == ' ' || r < utf8.RuneSelf && (unicode.IsPunct(r) || unicode.IsSymbol(r)):
			return r
		}
		return 'x'
	}, string(content))
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

// forgetful is a spool that commits nothing.
type forgetful struct{}

func (forgetful) Append(context.Context, []byte, []record.Position) error { return nil }

// A sampler keeps the first records that pass on their way to be sealed.
type sampler struct {
	pipeline.Sealer
	most    int
	records [][]byte
}

func (s *sampler) Seal(ctx context.Context, buf []byte, kind uint8, first, last int64, codec uint8, content []byte) ([]byte, error) {
	if len(s.records) < s.most {
		list, err := seal.Decompress(codec, content)
		if err != nil {
			return nil, err
		}
		groups, err := record.Decode(list)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			for _, l := range g.Logs {
				if content, ok := l.Get(record.FieldRecord); ok && len(s.records) < s.most {
					s.records = append(s.records, append([]byte(nil), content...))
				}
			}
		}
	}
	return s.Sealer.Seal(ctx, buf, kind, first, last, codec, content)
}
