package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
)

// logs are all the files of the tour and what was written to them.
type logs struct {
	dir   string
	files []*file
	lines atomic.Int64
}

// A file is one log file through its life, whatever its name at the moment.
// Each of its lines begins with its label and the line's number, so that what
// comes back is known again.
type file struct {
	logs  *logs
	label string
	path  string
	fate  string // what the tour did to it
	lines []string
	f     *os.File
}

// create makes a file; name is below the directory of logs.
func (l *logs) create(name string) (*file, error) {
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return l.add(path, f), nil
}

// empty truncates the file, which ends its life: what is written from now on
// is another's.
func (f *file) empty() (*file, error) {
	if err := os.Truncate(f.path, 0); err != nil {
		return nil, err
	}
	return f.logs.add(f.path, f.f), nil
}

func (l *logs) add(path string, f *os.File) *file {
	n := &file{logs: l, label: fmt.Sprintf("F%03d", len(l.files)+1), path: path, fate: "grown", f: f}
	l.files = append(l.files, n)
	return n
}

// written returns the number of lines of all files.
func (l *logs) written() int { return int(l.lines.Load()) }

// grow appends n lines, in one write as a busy program's buffer would.
func (f *file) grow(n int) error {
	var b []byte
	for range n {
		line := f.text(len(f.lines))
		f.lines = append(f.lines, line)
		b = append(append(b, line...), '\n')
	}
	_, err := f.f.Write(b)
	f.logs.lines.Add(int64(n))
	return err
}

// half appends the next line in two writes and does between in the middle of
// it.
func (f *file) half(between func() error) error {
	line := f.text(len(f.lines))
	f.lines = append(f.lines, line)
	if _, err := io.WriteString(f.f, line[:len(line)/2]); err != nil {
		return err
	}
	if err := between(); err != nil {
		return err
	}
	f.logs.lines.Add(1)
	_, err := io.WriteString(f.f, line[len(line)/2:]+"\n")
	return err
}

// rename gives the file another name in its directory.
func (f *file) rename(name string) error {
	to := filepath.Join(filepath.Dir(f.path), name)
	if err := os.Rename(f.path, to); err != nil {
		return err
	}
	f.path = to
	return nil
}

// text is what the line with the number says: like a web server's, or an
// audit log's.
func (f *file) text(n int) string {
	if filepath.Base(filepath.Dir(f.path)) == "web" {
		return fmt.Sprintf(`%s %07d 203.0.113.%d - - "GET /shop/item/%d HTTP/1.1" 200 %d "-" "Mozilla/5.0"`,
			f.label, n, n*7%256, n*31%9973, 500+n*17%40000)
	}
	return fmt.Sprintf(`%s %07d type=USER_LOGIN uid=%d ses=%d 用户登录 terminal=pts/%d res=success`,
		f.label, n, 1000+n*13%97, n*29%8191, n%8)
}
