package manual_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealtail/tools/manual"
)

const help = `Usage: prog COMMAND [ARGUMENTS]

  run -c FILE [--dry-run [--show]]
        do it;
        really
  key new -f FILE [--kind KIND]
  key enable | disable -f FILE [ID]
        change a key
  open [--format text|json]
        print
  version
        print the version

INPUT, any number of:
  -c FILE [--from TIME]
                by configuration
  -             standard input

Trust, for open and verify:
  --state FILE
        what is remembered

Exit codes: 0 or
.not
`

const helpOpen = "Usage: prog open [--format text|json] [--suite SUITE]... INPUT...\n\nPrints.\n"

func program() manual.Program {
	return manual.Parse(help, []string{"open"}, func(topic string) string {
		if topic == "open" {
			return helpOpen
		}
		return ""
	})
}

func TestParse(t *testing.T) {
	p := program()
	if p.Name != "prog" {
		t.Errorf("got name %q", p.Name)
	}
	var got []string
	for _, c := range p.Commands {
		line := strings.Join(c.Names, ",") + ":"
		for _, f := range c.Flags {
			line += " " + f.Name + "=" + f.Arg
		}
		got = append(got, line+" "+c.Text)
	}
	want := []string{
		"run: -c=FILE --dry-run= --show= do it; really",
		"key new: -f=FILE --kind=KIND ",
		"key enable,key disable: -f=FILE change a key",
		"open: --format=text|json --suite=SUITE -c=FILE --from=TIME --state=FILE print",
		"version: print the version",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPage(t *testing.T) {
	page := program().Page(manual.Page{Summary: "does it", Version: "1", Date: time.Unix(0, 0), SeeAlso: []string{"other(1)"}})
	for _, want := range []string{".TH PROG 1 1970-01-01", ".B run \\-c FILE", ".TQ\n.B key enable | disable", ".SH TRUST, FOR OPEN AND VERIFY", "Exit codes: 0 or .not\n", ".SH OPEN\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	lint(t, page)
}

func TestMarkdown(t *testing.T) {
	page := manual.Markdown("x.toml", "a file", "# X\n\nText.\n\n## [a]\n\n| key | default | meaning |\n|---|---|---|\n| `b` | `1` | What is b. |\n| `c` |  | What is c. |\n", "1", time.Unix(0, 0))
	for _, want := range []string{"(default: \\fB1\\fR)", "What is c."} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	lint(t, page)
}

func lint(t *testing.T, page string) {
	t.Helper()
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("no mandoc here")
	}
	cmd := exec.Command(mandoc, "-Tlint", "-W", "warning")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

// TestCompletions has each shell complete.
func TestCompletions(t *testing.T) {
	p := program()
	dir := t.TempDir()
	for name, text := range map[string]string{"bash": p.Bash(), "_prog": p.Zsh(), "fish": p.Fish()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		line string // a trailing space begins a new word
		want []string
	}{
		{"prog v", []string{"version"}},
		{"prog key ", []string{"disable", "enable", "new"}},
		{"prog key new --k", []string{"--kind"}},
		{"prog key new --kind hp", []string{"hpke-mlkem768-x25519"}},
		{"prog open --format ", []string{"json", "text"}},
		{"prog open --su", []string{"--suite"}},
	}
	t.Run("bash", func(t *testing.T) {
		for _, c := range cases {
			script := `source ` + dir + `/bash; COMP_LINE=$1; read -ra COMP_WORDS <<<"$1"; [[ $1 == *' ' ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _prog; printf '%s\n' "${COMPREPLY[@]}"`
			compare(t, c.line, c.want, exec.Command("bash", "-c", script, "bash", c.line))
		}
	})
	t.Run("fish", func(t *testing.T) {
		if _, err := exec.LookPath("fish"); err != nil {
			t.Skip("no fish here")
		}
		for _, c := range cases {
			cmd := exec.Command("fish", "--no-config", "-c", "source "+dir+"/fish; complete -C "+`"`+c.line+`"`)
			cmd.Env = append(os.Environ(), "HOME="+dir)
			compare(t, c.line, c.want, cmd)
		}
	})
	t.Run("zsh", func(t *testing.T) {
		if _, err := exec.LookPath("zsh"); err != nil {
			t.Skip("no zsh here")
		}
		if out, err := exec.Command("zsh", "-n", filepath.Join(dir, "_prog")).CombinedOutput(); err != nil {
			t.Errorf("zsh -n: %v\n%s", err, out)
		}
	})
}

func compare(t *testing.T, line string, want []string, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	got := strings.Fields(string(out))
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q: got %q, %v, want %q", line, got, err, want)
	}
}

// TestValues holds the values that completions offer against the help of the
// programs that take them.
func TestValues(t *testing.T) {
	var all strings.Builder
	for _, file := range []string{"../../cmd/agent/main.go", "../../cmd/reader/main.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for arg, values := range manual.Values {
		for _, v := range values {
			if !strings.Contains(all.String(), v) {
				t.Errorf("no help names %s as a %s", v, arg)
			}
		}
	}
}
