// Package manual makes manual pages and shell completions of what a program
// says of itself. It reads the texts of `PROGRAM help`, which have this form:
//
//	Usage: PROGRAM COMMAND [ARGUMENTS]
//
//	  command -f FILE [--flag]
//	        what it does
//	  other | another [--mode a|b]
//	        what they do
//
//	Heading of more arguments, for open and verify:
//	  --flag FILE
//	        what it means
//
//	Any other paragraph.
//
// and of `PROGRAM help COMMAND` where there is one, whose first paragraph is
// the usage of that command alone. A name in capitals stands for an argument.
package manual

import (
	"regexp"
	"slices"
	"strings"
)

// A Program is what its help says.
type Program struct {
	Name     string
	Commands []Command
	Sections []Section // what follows the commands
	Topics   []Topic   // of help COMMAND
}

// A Command is one way to call a program.
type Command struct {
	Names    []string // "run", "keyring enable"; alternatives
	Synopsis string   // without the program's name
	Text     string
	Flags    []Flag
	Inputs   bool // takes files beside its flags
}

// A Flag is named with its dashes. Its argument is the name of what it stands
// for, or all values with "|" between; "" for none.
type Flag struct{ Name, Arg string }

// A Section is a heading with arguments below it, or a mere paragraph.
type Section struct {
	Title string
	Items []Item
	Text  string
}

// An Item is an argument and what it means.
type Item struct{ Term, Text string }

// A Topic is the text of help about a word.
type Topic struct{ Name, Text string }

var (
	usageLine  = regexp.MustCompile(`^Usage: (\S+) `)
	flagWithin = regexp.MustCompile(`(--?[a-z][a-z0-9-]*)(?:[ =]([A-Z]+\b|[a-z0-9]+(?:\|[a-z0-9]+)+))?`)
	onlyFor    = regexp.MustCompile(`, for ([a-z]+(?:(?:, | and )[a-z]+)*)$`)
)

// Parse reads the text of help. About returns the text of help about a command,
// "" where there is none.
func Parse(text string, topics []string, about func(topic string) string) Program {
	var p Program
	if m := usageLine.FindStringSubmatch(text); m != nil {
		p.Name = m[1]
	}
	blocks := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, block := range blocks[1:] {
		title, items := split(block)
		switch {
		case i == 0:
			p.Commands = commands(items)
		case len(items) > 0:
			p.Sections = append(p.Sections, Section{Title: title, Items: items})
		default:
			p.Sections = append(p.Sections, Section{Text: unwrap(block)})
		}
	}
	for i := range p.Commands {
		c := &p.Commands[i]
		c.Flags = flags(c.Synopsis)
		topic := about(c.Names[0])
		usage, _, _ := strings.Cut(topic, "\n\n")
		c.add(flags(usage))
		if c.Inputs = strings.Contains(usage, "INPUT"); !c.Inputs {
			continue
		}
		for _, s := range p.Sections {
			if m := onlyFor.FindStringSubmatch(s.Title); m != nil && !slices.Contains(regexp.MustCompile(`, | and `).Split(m[1], -1), c.Names[0]) {
				continue
			}
			for _, item := range s.Items {
				if strings.HasPrefix(item.Term, "-") {
					c.add(flags(item.Term))
				}
			}
		}
	}
	for _, name := range topics {
		p.Topics = append(p.Topics, Topic{name, about(name)})
	}
	return p
}

func (c *Command) add(more []Flag) {
	for _, f := range more {
		if !slices.ContainsFunc(c.Flags, func(g Flag) bool { return g.Name == f.Name }) {
			c.Flags = append(c.Flags, f)
		}
	}
}

// split takes a block apart: lines without indent are its title, lines
// indented by two spaces are terms, deeper ones the text of the term above; a
// term and its text may share a line, with two spaces or more between.
func split(block string) (title string, items []Item) {
	for _, line := range strings.Split(block, "\n") {
		switch text := strings.TrimLeft(line, " "); len(line) - len(text) {
		case 0:
			title = strings.TrimSuffix(line, ":")
		case 2:
			term, rest, _ := strings.Cut(text, "  ")
			items = append(items, Item{strings.TrimSpace(term), strings.TrimSpace(rest)})
		default:
			if len(items) > 0 {
				last := &items[len(items)-1]
				last.Text = strings.TrimSpace(last.Text + "\n" + text)
			}
		}
	}
	return title, items
}

// commands makes commands of terms such as "keyring enable | disable -f FILE".
// Terms that follow one another without a text share the next one's.
func commands(items []Item) []Command {
	var all []Command
	for _, item := range items {
		c := Command{Synopsis: item.Term, Text: unwrap(item.Text)}
		words := strings.Fields(item.Term)
		n := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w[:1], "-[") || w == strings.ToUpper(w) && w != "|" })
		if n < 0 {
			n = len(words)
		}
		prefix := ""
		if words = words[:n]; len(words) > 2 && words[1] != "|" || len(words) == 2 {
			prefix, words = words[0]+" ", words[1:]
		}
		for _, w := range words {
			if w != "|" {
				c.Names = append(c.Names, prefix+w)
			}
		}
		all = append(all, c)
	}
	return all
}

func flags(synopsis string) []Flag {
	var all []Flag
	for _, m := range flagWithin.FindAllStringSubmatch(synopsis, -1) {
		all = append(all, Flag{m[1], m[2]})
	}
	return all
}

func unwrap(text string) string { return strings.Join(strings.Fields(text), " ") }
