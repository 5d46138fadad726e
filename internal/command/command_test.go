package command_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sealtail/internal/command"
)

func TestReport(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"nothing", nil, 0, ""},
		{"an error", errors.New("it\nbroke"), 1, "prog: error: it broke\n"},
		{"a hint", command.Hinted(errors.New("it broke"), "mend it"), 1, "prog: error: it broke\nprog: hint: mend it\n"},
		{"no error, hinted", command.Hinted(nil, "mend it"), 0, ""},
		{"a code", command.Fail(command.ExitConfig, errors.New("it broke"), ""), 78, "prog: error: it broke\n"},
		{"what is around it", fmt.Errorf("stream a: %w", command.Fail(command.ExitConfig, errors.New("it broke"), "mend it")), 78,
			"prog: error: stream a: it broke\nprog: hint: mend it\n"},
		{"usage", command.Usage("what is %q?", "x"), 64, "prog: error: what is \"x\"?\nprog: hint: see prog help\n"},
	} {
		var b strings.Builder
		if code := command.Program("prog").Report(&b, test.err); code != test.code || b.String() != test.want {
			t.Errorf("%s: got %d and\n%swant %d and\n%s", test.name, code, b.String(), test.code, test.want)
		}
	}
	if err := command.Hinted(fs.ErrExist, "x"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want it to be fs.ErrExist", err)
	}
	if err := command.Usage("open: %w", fs.ErrExist); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want it to be fs.ErrExist", err)
	}
}

// The journal is given priorities, so that it tells at a glance why a service
// does not start.
func TestJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for _, own := range []uint64{1, 0} { // the journal reads another file, and this one
		t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino+own))
		command.Program("prog").Report(f, command.Hinted(errors.New("it broke"), "mend it"))
		command.Program("prog").Tell(f, "warning", "it is old")
		command.Program("prog").Tell(f, "note", "it is new")
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	const plain = "prog: error: it broke\nprog: hint: mend it\nprog: warning: it is old\nprog: note: it is new\n"
	if got, want := string(b), plain+"<3>prog: error: it broke\n<4>prog: hint: mend it\n<4>prog: warning: it is old\n<6>prog: note: it is new\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		args        string
		least, most int
		rest        []string
		file        string
		want        string
	}{
		{args: "", most: 0},
		{args: "-f x", most: 0, file: "x"},
		{args: "a -f x b", most: 2, rest: []string{"a", "b"}, file: "x"},
		{args: "a b -f=x", most: -1, rest: []string{"a", "b"}, file: "x"},
		{args: "-f x -- -a", most: 1, rest: []string{"-a"}, file: "x"},
		{args: "a", most: 0, want: `verb: what is "a"?`},
		{args: "a b", most: 1, want: `verb: what is "b"?`},
		{args: "-f x", least: 1, most: 1, want: "verb: an argument is missing"},
		{args: "-g", most: 0, want: "verb: flag provided but not defined: -g"},
		{args: "a -h", most: 1, want: "flag: help requested"},
		{args: "--help -g", most: 1, want: "flag: help requested"},
	} {
		flags := flag.NewFlagSet("verb", flag.ContinueOnError)
		file := flags.String("f", "", "")
		rest, err := command.Parse(flags, strings.Fields(test.args), test.least, test.most)
		if test.want != "" {
			if err == nil || err.Error() != test.want {
				t.Errorf("%q: got %v, want %s", test.args, err, test.want)
			}
			continue
		}
		if err != nil || !slices.Equal(rest, test.rest) || *file != test.file {
			t.Errorf("%q: got %q, file %q, %v, want %q, %q", test.args, rest, *file, err, test.rest, test.file)
		}
	}
}

func TestVersion(t *testing.T) {
	if got := command.Program("prog").Version("1.2.3"); !strings.HasPrefix(got, "prog 1.2.3 go1.") || !strings.HasSuffix(got, "\n") {
		t.Errorf("got %q", got)
	}
	if got := command.Version(""); got == "" {
		t.Error("got no version")
	}
}
