package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"sealtail/internal/command"
	"sealtail/internal/durable"
	"sealtail/reader"
	"sealtail/spool"
)

// inputs are what a command reads.
type inputs struct {
	dirs, spools, files []string
	logstores
}

func (in *inputs) flags(fs *flag.FlagSet) {
	in.logstores.flags(fs)
	fs.Func("dir", "`DIR` of files *.se1", to(&in.dirs))
	fs.Func("spool", "`DIR` of a spool", to(&in.spools))
}

// to collects the values of a flag that may be given several times.
func to(values *[]string) func(string) error {
	return func(v string) error {
		if v == "" {
			return errors.New("is empty")
		}
		*values = append(*values, v)
		return nil
	}
}

// set takes the arguments that are no flags.
func (in *inputs) set(verb string, files []string) error {
	in.files = files
	stdin := 0
	for _, name := range files {
		if name == "-" {
			stdin++
		}
	}
	switch {
	case stdin > 1:
		return command.Usage("%s: standard input can be read once", verb)
	case len(in.dirs)+len(in.spools)+len(in.files) == 0 && in.config == "":
		return command.Usage("%s: which input? give -c FILE, --dir DIR, --spool DIR, a FILE or -", verb)
	}
	return in.load(verb)
}

// nothing is the error of finding no envelope.
func (in *inputs) nothing(what string) error {
	hint := "is the archive mounted, and the path right?"
	names := slices.Concat(in.dirs, in.spools, in.files)
	if i := slices.Index(names, "-"); i >= 0 {
		names[i] = "standard input"
	}
	if in.cfg != nil {
		for _, name := range in.cfg.Reader.Sinks {
			names = append(names, logstoreName(in.cfg.Sinks[name]))
		}
		hint = "are the project, the Logstore and the times right?"
	}
	return command.Hinted(fmt.Errorf("%s: no envelope in %s", what, strings.Join(names, ", ")), hint)
}

// An input is one source with its content: of a Logstore its logs.
type input struct {
	reader.Source
	in   io.Reader
	logs func(yield func(*reader.Log) error) error
}

// each hands every input to yield. Where they are to be read again, those that
// can be read just once are copied to a temporary file without a name: sealed,
// as they are.
func (in *inputs) each(ctx context.Context, stdin io.Reader, again bool, yield func(input) error) error {
	if err := in.logstores.each(ctx, again, yield); err != nil {
		return err
	}
	yield = interruptible(ctx, yield)
	for _, dir := range in.dirs {
		names, err := sealedFiles(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = command.Hinted(err, "the agent makes it with the first batch it ships, and may not have shipped yet")
		}
		if err != nil {
			return err
		}
		if err := eachFile(names, yield); err != nil {
			return err
		}
	}
	for _, dir := range in.spools {
		if err := eachSpool(dir, again, yield); err != nil {
			return err
		}
	}
	for _, name := range in.files {
		var err error
		switch info, serr := os.Stat(name); {
		case name == "-":
			err = eachOnce("standard input", again, yield, copyOf(stdin))
		case serr == nil && !info.Mode().IsRegular() && !info.IsDir():
			err = eachPipe(name, again, yield)
		default:
			err = eachFile([]string{name}, yield)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// interruptible makes reads end with ctx.
func interruptible(ctx context.Context, yield func(input) error) func(input) error {
	return func(i input) error {
		in := i.in
		i.in = readerFunc(func(b []byte) (int, error) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			return in.Read(b)
		})
		return yield(i)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// sealedFiles lists the files *.se1 in dir and below, in the order of their
// names.
func sealedFiles(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".se1") && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// eachPipe reads what can be read once, such as a FIFO: it waits for a writer,
// as all programs do that are given one by name.
func eachPipe(name string, again bool, yield func(input) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	return eachOnce(name, again, yield, copyOf(f))
}

func copyOf(in io.Reader) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.Copy(w, in); return err }
}

// openFile opens a regular file. It waits for nobody.
func openFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = command.Hinted(fmt.Errorf("%s: is a directory", name), "give it by --dir, or --spool")
	case !info.Mode().IsRegular():
		err = command.Hinted(fmt.Errorf("%s: is no regular file", name), "take it out of the directory, or give it by its name alone: then it is read as a pipe is")
	default:
		return f, nil
	}
	f.Close() // it was only looked at
	return nil, err
}

func eachFile(names []string, yield func(input) error) error {
	for _, name := range names {
		open := func() (reader.File, error) { return openFile(name) }
		f, err := openFile(name)
		if err != nil {
			return err
		}
		err = yield(input{Source: reader.Source{Name: name, Open: open}, in: f})
		f.Close() // it was only read
		if err != nil {
			return err
		}
	}
	return nil
}

// eachSpool reads the spools in dir: dir is one, or their parent, or a state
// directory. What was parked in them is read too.
func eachSpool(dir string, again bool, yield func(input) error) error {
	spools, err := spoolsIn(dir)
	if err != nil {
		return err
	}
	for _, dir := range spools {
		err := eachOnce(dir, again, yield, func(w io.Writer) error {
			return spool.Read(durable.OS, dir, func(env []byte) error { _, err := w.Write(env); return err })
		})
		if err != nil {
			return err
		}
		parked, err := sealedFiles(filepath.Join(dir, "rejected"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := eachFile(parked, yield); err != nil {
			return err
		}
	}
	return nil
}

func spoolsIn(dir string) ([]string, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	for _, pattern := range []string{"*.seg", "*/*.seg", "streams/*/*.seg"} {
		segments, err := filepath.Glob(filepath.Join(escape(dir), pattern))
		if err != nil {
			return nil, err
		}
		var spools []string
		for _, s := range segments {
			if d := filepath.Dir(s); len(spools) == 0 || spools[len(spools)-1] != d {
				spools = append(spools, d)
			}
		}
		if len(spools) > 0 {
			return spools, nil
		}
	}
	return nil, command.Hinted(fmt.Errorf("%s: no spool is here", dir), "give a state directory, or one of its streams/NAME")
}

// escape makes a pattern of a name.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// eachOnce hands over what write writes: through a temporary file if it is to
// be read again.
func eachOnce(name string, again bool, yield func(input) error, write func(io.Writer) error) error {
	if !again {
		r, w := io.Pipe()
		go func() { w.CloseWithError(write(w)) }() // ends with the reading end
		err := yield(input{Source: reader.Source{Name: name}, in: r})
		r.CloseWithError(io.ErrClosedPipe)
		return err
	}
	f, err := tempFile()
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	open := func() (reader.File, error) { return unclosed{f}, nil }
	return yield(input{Source: reader.Source{Name: name, Open: open}, in: f})
}

// tempFile makes a file without a name. It lives as long as it is open, which
// is as long as the program runs.
func tempFile() (*os.File, error) {
	f, err := os.CreateTemp("", "sealtail-reader-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// unclosed is a file that stays open.
type unclosed struct{ io.ReaderAt }

func (unclosed) Close() error { return nil }
