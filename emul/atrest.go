package emul

import (
	"io"
	"os"
	"path/filepath"
)

// A store keeps the bytes at rest of one shard.
type store interface {
	add(b []byte) (at int64, err error)
	read(at int64, n int) ([]byte, error)
	size() int64
	drop()
}

// memory is a store in memory: what lies at the n-th place was the n-th.
type memory struct {
	kept  [][]byte
	total int64
}

func (m *memory) add(b []byte) (int64, error) {
	m.kept = append(m.kept, b)
	m.total += int64(len(b))
	return int64(len(m.kept) - 1), nil
}

func (m *memory) read(at int64, n int) ([]byte, error) { return m.kept[at], nil }
func (m *memory) size() int64                          { return m.total }
func (m *memory) drop()                                { m.kept = nil }

// disk is a store in a file, one behind the other.
type disk struct {
	f   *os.File
	end int64
}

func (d *disk) add(b []byte) (int64, error) {
	at := d.end
	n, err := d.f.WriteAt(b, at)
	d.end += int64(n)
	return at, err
}

func (d *disk) read(at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := d.f.ReadAt(b, at)
	return b, err
}

func (d *disk) size() int64 { return d.end }

func (d *disk) drop() {
	d.f.Close()           // nothing in it is wanted
	os.Remove(d.f.Name()) // nor the name
}

func (s *Server) newStore(name string) (store, error) {
	if s.o.Dir == "" {
		return &memory{}, nil
	}
	f, err := os.OpenFile(filepath.Join(s.o.Dir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &disk{f: f}, nil
}

// AtRest writes all bytes that lie at rest to w, Logstore by Logstore, shard by
// shard, as they lie there: for a search. Empty names mean all.
func (s *Server) AtRest(w io.Writer, project, logstore string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range sorted(s.projects) {
		for _, name := range sorted(s.projects[p].logstores) {
			if project != "" && p != project || logstore != "" && name != logstore {
				continue
			}
			for _, sh := range s.projects[p].logstores[name].shards {
				for _, e := range sh.entries {
					b, err := sh.data.read(e.at, e.size)
					if err != nil {
						return err
					}
					if _, err := w.Write(b); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
