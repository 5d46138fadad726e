package manual

import (
	"fmt"
	"slices"
	"strings"
)

// Values are what an argument of a name may be, of those arguments that are no
// files.
var Values = map[string][]string{
	"SUITE": {"aes-256-gcm", "sm4-gcm"},
	"KIND":  {"hpke-mlkem768-x25519", "aes256-gcm", "sm4-gcm"},
}

// values returns what a flag's argument may be; file reports that it is the
// name of a file.
func (f Flag) values() (all []string, file bool) {
	if strings.Contains(f.Arg, "|") {
		return strings.Split(f.Arg, "|"), false
	}
	return Values[f.Arg], f.Arg == "FILE" || f.Arg == "DIR"
}

// verbs returns the first words of commands, each once, and the second words
// by first.
func (p Program) verbs() (first []string, second map[string][]string) {
	second = make(map[string][]string)
	for _, c := range p.Commands {
		for _, name := range c.Names {
			verb, sub, nested := strings.Cut(name, " ")
			if !slices.Contains(first, verb) {
				first = append(first, verb)
			}
			if nested {
				second[verb] = append(second[verb], sub)
			}
		}
	}
	return first, second
}

// Bash returns the completion for bash.
func (p Program) Bash() string {
	var b strings.Builder
	function := "_" + strings.ReplaceAll(p.Name, "-", "_")
	first, second := p.verbs()
	fmt.Fprintf(&b, `# bash completion for %s
%s() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} flags=
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "%s" -- "$cur")
		return
	fi
	case $command in
`, p.Name, function, strings.Join(first, " "))
	for _, verb := range first {
		if subs := second[verb]; subs != nil {
			fmt.Fprintf(&b, "\t%s)\n\t\tif ((COMP_CWORD == 2)); then\n\t\t\tmapfile -t COMPREPLY < <(compgen -W \"%s\" -- \"$cur\")\n\t\t\treturn\n\t\tfi\n\t\tcommand+=\" ${COMP_WORDS[2]}\"\n\t\t;;\n", verb, strings.Join(subs, " "))
		}
	}
	b.WriteString("\tesac\n\tcase $command:$prev in\n")
	for _, c := range p.Commands {
		for _, f := range c.Flags {
			all, file := f.values()
			var reply string
			switch {
			case file:
				reply = `compgen -f -- "$cur"`
			case all != nil:
				reply = fmt.Sprintf("compgen -W %q -- \"$cur\"", strings.Join(all, " "))
			case f.Arg != "":
				reply = ":" // free text
			default:
				continue
			}
			var patterns []string
			for _, name := range c.Names {
				patterns = append(patterns, fmt.Sprintf("%q:%s", name, f.Name))
			}
			fmt.Fprintf(&b, "\t%s)\n\t\tmapfile -t COMPREPLY < <(%s)\n\t\treturn\n\t\t;;\n", strings.Join(patterns, " | "), reply)
		}
	}
	b.WriteString("\tesac\n\tcase $command in\n")
	for _, c := range p.Commands {
		if len(c.Flags) == 0 {
			continue
		}
		var names, flags []string
		for _, name := range c.Names {
			names = append(names, fmt.Sprintf("%q", name))
		}
		for _, f := range c.Flags {
			flags = append(flags, f.Name)
		}
		fmt.Fprintf(&b, "\t%s) flags=%q ;;\n", strings.Join(names, " | "), strings.Join(flags, " "))
	}
	fmt.Fprintf(&b, `	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}
complete -o filenames -F %s %s
`, function, p.Name)
	return b.String()
}

// Zsh returns the completion for zsh.
func (p Program) Zsh() string {
	var b strings.Builder
	first, second := p.verbs()
	fmt.Fprintf(&b, "#compdef %s\n\nlocal command\nif ((CURRENT == 2)); then\n\tcompadd -- %s\n\treturn\nfi\ncommand=$words[2]\ncase $command in\n", p.Name, strings.Join(first, " "))
	for _, verb := range first {
		if subs := second[verb]; subs != nil {
			fmt.Fprintf(&b, "%s)\n\tif ((CURRENT == 3)); then\n\t\tcompadd -- %s\n\t\treturn\n\tfi\n\tcommand+=\" $words[3]\"\n\tshift words\n\t((CURRENT--))\n\t;;\n", verb, strings.Join(subs, " "))
		}
	}
	b.WriteString("esac\nshift words\n((CURRENT--))\ncase $command in\n")
	for _, c := range p.Commands {
		var names []string
		for _, name := range c.Names {
			names = append(names, fmt.Sprintf("'%s'", name))
		}
		fmt.Fprintf(&b, "%s)\n\t_arguments", strings.Join(names, "|"))
		for _, f := range c.Flags {
			fmt.Fprintf(&b, " \\\n\t\t'*%s", f.Name)
			all, file := f.values()
			switch {
			case file:
				fmt.Fprintf(&b, ":%s:_files", f.Arg)
			case all != nil:
				fmt.Fprintf(&b, ":value:(%s)", strings.Join(all, " "))
			case f.Arg != "":
				fmt.Fprintf(&b, ":%s: ", f.Arg)
			}
			b.WriteString("'")
		}
		b.WriteString(" \\\n\t\t'*:file:_files'\n\t;;\n")
	}
	b.WriteString("esac\n")
	return b.String()
}

// Fish returns the completion for fish.
func (p Program) Fish() string {
	var b strings.Builder
	first, second := p.verbs()
	fmt.Fprintf(&b, "complete -c %[1]s -f\ncomplete -c %[1]s -n 'not __fish_seen_subcommand_from %[2]s' -a '%[2]s'\n", p.Name, strings.Join(first, " "))
	for _, verb := range first {
		if subs := strings.Join(second[verb], " "); subs != "" {
			fmt.Fprintf(&b, "complete -c %s -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %s' -a '%s'\n", p.Name, verb, subs, subs)
		}
	}
	for _, c := range p.Commands {
		for _, name := range c.Names {
			verb, sub, nested := strings.Cut(name, " ")
			when := "__fish_seen_subcommand_from " + verb
			if nested {
				when += "; and __fish_seen_subcommand_from " + sub
			}
			if c.Inputs {
				fmt.Fprintf(&b, "complete -c %s -n '%s' -F\n", p.Name, when)
			}
			for _, f := range c.Flags {
				kind, bare := "-l", strings.TrimPrefix(f.Name, "--")
				if !strings.HasPrefix(f.Name, "--") {
					kind, bare = "-s", strings.TrimPrefix(f.Name, "-")
				}
				fmt.Fprintf(&b, "complete -c %s -n '%s' %s %s", p.Name, when, kind, bare)
				all, file := f.values()
				switch {
				case file:
					b.WriteString(" -r -F")
				case all != nil:
					fmt.Fprintf(&b, " -x -a '%s'", strings.Join(all, " "))
				case f.Arg != "":
					b.WriteString(" -x")
				}
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}
