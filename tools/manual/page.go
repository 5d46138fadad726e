package manual

import (
	"fmt"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// A Page is what a manual page says beside the help.
type Page struct {
	Summary string    // of the NAME line
	Version string    // of the program
	Date    time.Time // of the page
	Files   []Item
	SeeAlso []string // such as "sealtail.toml(5)"
}

// Page returns the manual page of p, in the language man of roff.
func (p Program) Page(o Page) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 %s \"%s %s\"\n", strings.ToUpper(escape(p.Name)), o.Date.UTC().Format(time.DateOnly), escape(p.Name), escape(o.Version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n", escape(p.Name), escape(o.Summary))
	for i, c := range p.Commands {
		if i > 0 {
			b.WriteString(".br\n")
		}
		fmt.Fprintf(&b, ".B %s %s\n", escape(p.Name), escape(c.Synopsis))
	}
	b.WriteString(".SH COMMANDS\n")
	for i, c := range p.Commands {
		tag := ".TP"
		if i > 0 && p.Commands[i-1].Text == "" {
			tag = ".TQ"
		}
		fmt.Fprintf(&b, "%s\n.B %s\n", tag, escape(c.Synopsis))
		text(&b, c.Text)
	}
	for _, s := range p.Sections {
		if len(s.Items) == 0 {
			b.WriteString(".PP\n")
			text(&b, s.Text)
			continue
		}
		fmt.Fprintf(&b, ".SH %s\n", strings.ToUpper(escape(s.Title)))
		items(&b, s.Items)
	}
	for _, t := range p.Topics {
		fmt.Fprintf(&b, ".SH %s\n.nf\n", strings.ToUpper(escape(t.Name)))
		for _, line := range strings.Split(strings.TrimSpace(t.Text), "\n") {
			if line == "" {
				b.WriteString(".sp\n")
				continue
			}
			text(&b, line)
		}
		b.WriteString(".fi\n")
	}
	if len(o.Files) > 0 {
		b.WriteString(".SH FILES\n")
		items(&b, o.Files)
	}
	b.WriteString(".SH SEE ALSO\n")
	for i, s := range o.SeeAlso {
		name, section, _ := strings.Cut(strings.TrimSuffix(s, ")"), "(")
		comma := ","
		if i == len(o.SeeAlso)-1 {
			comma = ""
		}
		fmt.Fprintf(&b, ".BR %s (%s)%s\n", escape(name), section, comma)
	}
	return b.String()
}

func items(b *strings.Builder, all []Item) {
	for _, item := range all {
		fmt.Fprintf(b, ".TP\n.B %s\n", escape(item.Term))
		text(b, unwrap(item.Text))
	}
}

// text writes one line of text, which must not be taken for a request.
func text(b *strings.Builder, s string) {
	if s == "" {
		return
	}
	if strings.ContainsAny(s[:1], ".'") {
		b.WriteString(`\&`)
	}
	b.WriteString(escape(s) + "\n")
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`, `…`, `\(el`, `→`, `\(->`).Replace(s)
}

// Markdown returns the manual page of section 5 of a document that begins with
// a heading. Of its tables, each row becomes a term: the first cell, with the
// cells between in parentheses; the last cell is its text.
func Markdown(name, summary, document, version string, date time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% %s 5 %q %q\n\n# NAME\n\n%s - %s\n\n# DESCRIPTION\n", strings.ToUpper(name), date.UTC().Format(time.DateOnly), "sealtail "+version, name, summary)
	_, body, _ := strings.Cut(document, "\n")
	var head []string // of the table; nil outside of one
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "|") {
			head = nil
			b.WriteString(line)
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case head == nil:
			head = cells
		case strings.HasPrefix(line, "|--"):
		case len(cells) == len(head):
			row(&b, head, cells)
		}
	}
	return string(md2man.Render([]byte(b.String())))
}

func row(b *strings.Builder, head, cells []string) {
	var between []string
	for i := 1; i < len(cells)-1; i++ {
		if cells[i] != "" {
			between = append(between, head[i]+": "+cells[i])
		}
	}
	b.WriteString(cells[0])
	if len(between) > 0 {
		b.WriteString(" (" + strings.Join(between, "; ") + ")")
	}
	fmt.Fprintf(b, "\n: %s\n\n", cells[len(cells)-1])
}
