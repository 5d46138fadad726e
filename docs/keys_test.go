package docs_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"sealtail/conf"
)

// TestKeyParameters holds the table of parameters in KEYS.md against conf: all
// that bound a data key's life are there, with their defaults and limits.
func TestKeyParameters(t *testing.T) {
	text, err := os.ReadFile("KEYS.md")
	if err != nil {
		t.Fatal(err)
	}
	const heading = "| parameter | default | allowed | what it trades |\n|---|---|---|---|\n"
	_, table, _ := strings.Cut(string(text), heading)
	table, _, _ = strings.Cut(table, "\n\n")
	var got []string
	for row := range strings.Lines(table) {
		cells := strings.Split(row, " | ")
		if len(cells) != 4 {
			t.Fatalf("a row of %d cells: %s", len(cells), row)
		}
		got = append(got, strings.TrimPrefix(strings.Join(cells[:3], " | "), "| "))
	}
	var want []string
	key := reflect.TypeFor[conf.Key]()
	first, _ := key.FieldByName("Refresh")
	for i := first.Index[0]; i < key.NumField(); i++ {
		tag := key.Field(i).Tag
		want = append(want, fmt.Sprintf("`%s` | %s | %s to %s", tag.Get("toml"), tag.Get("default"), tag.Get("min"), tag.Get("max")))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("KEYS.md has\n%s\nconf\n%s", g, w)
	}

	duration := func(name string) time.Duration {
		f, _ := key.FieldByName(name)
		d, err := time.ParseDuration(f.Tag.Get("default"))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	refresh, rotate := duration("Refresh"), duration("Rotate")
	for _, says := range []string{
		fmt.Sprintf("when reading: %d a host and day |", 24*time.Hour/rotate),
		fmt.Sprintf("With the default `refresh` of %.0f s and 1,000 a second: %d,000.", refresh.Seconds(), 200*refresh/time.Second/1000),
		fmt.Sprintf("which is %d,000 a second\nfor that fleet", 200*refresh/(duration("RetryMax")/2)/1000),
		fmt.Sprintf("it pauses within about %.0f min,", (refresh*6/5 + duration("Confirm") + 2*duration("CallTimeout")).Minutes()),
	} {
		if !strings.Contains(string(text), says) {
			t.Errorf("KEYS.md does not say %q", says)
		}
	}
}
