package spool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"sealtail/internal/durable"
	"sealtail/spool"
)

// noSync is the real file system without syncs: what is left is the work of the
// processor.
type noSync struct{ durable.FS }

func (n noSync) SyncDir(string) error { return nil }
func (n noSync) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := n.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

type noSyncFile struct{ durable.File }

func (noSyncFile) Sync() error     { return nil }
func (noSyncFile) SyncData() error { return nil }

// BenchmarkAppend appends entries of these sizes while they are shipped, so that
// segments go round; sync is the real thing, nosync the processor's part.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{16 << 10, 300 << 10, 700 << 10} {
		for name, fsys := range map[string]durable.FS{"sync": durable.OS, "nosync": noSync{durable.OS}} {
			b.Run(fmt.Sprintf("%dK/%s", size>>10, name), func(b *testing.B) {
				s := benchSpool(b, fsys)
				env, delta, snapshot := newEntry(size, 0).env, make([]byte, 200), make([]byte, 20000)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Append(context.Background(), env, delta, func() []byte { return snapshot }); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					for {
						_, upto, err := s.Next(once, nil, 1<<20)
						if errors.Is(err, context.Canceled) {
							break
						}
						if err != nil {
							b.Fatal(err)
						}
						s.Trim(upto)
					}
					b.StartTimer()
				}
			})
		}
	}
}

// BenchmarkNext hands out what is spooled, from the cache.
func BenchmarkNext(b *testing.B) {
	for _, size := range []int{16 << 10, 300 << 10, 700 << 10} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			dir := benchFill(b, size)
			reopen := func() *spool.Spool {
				b.StopTimer()
				defer b.StartTimer()
				s, err := spool.Open(dir, spool.Options{}, nop{})
				if err != nil {
					b.Fatal(err)
				}
				s.CloseInput()
				return s
			}
			s := reopen()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := s.Next(context.Background(), nil, 1)
				if err == io.EOF {
					s.Close()
					s = reopen()
					_, _, err = s.Next(context.Background(), nil, 1)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			s.Close()
		})
	}
}

// BenchmarkOpen opens a spool of 64 MiB.
func BenchmarkOpen(b *testing.B) {
	dir := benchFill(b, 300<<10)
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		s, err := spool.Open(dir, spool.Options{}, nop{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// nop is a state that costs nothing.
type nop struct{}

func (nop) Load([]byte) error         { return nil }
func (nop) Apply(env, d []byte) error { return nil }
func (nop) Gap(string)                {}
func (nop) Snapshot() []byte          { return nil }

func benchSpool(b *testing.B, fsys durable.FS) *spool.Spool {
	s, err := spool.Open(filepath.Join(b.TempDir(), "s"), spool.Options{FS: fsys}, nop{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if err := s.Recover(context.Background()); err != nil {
		b.Fatal(err)
	}
	return s
}

// benchFill makes a spool of 64 MiB of entries of size bytes.
func benchFill(b *testing.B, size int) string {
	dir := filepath.Join(b.TempDir(), "s")
	s, err := spool.Open(dir, spool.Options{FS: noSync{durable.OS}}, nop{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Recover(context.Background()); err != nil {
		b.Fatal(err)
	}
	env := newEntry(size, 0).env
	for range 64 << 20 / size {
		if err := s.Append(context.Background(), env, make([]byte, 200), func() []byte { return make([]byte, 1000) }); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}
