package hidden_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"sealtail/internal/hidden"
)

func TestText(t *testing.T) {
	const canary = "canary-7f3a"
	s := hidden.New(canary)
	type open struct{ S hidden.Text }
	type closed struct{ s hidden.Text }
	out, err := json.Marshal(map[string]any{"a": s, "b": open{s}, "c": closed{s}})
	if err != nil {
		t.Fatal(err)
	}
	all := string(out)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p", "%t"} {
		for _, v := range []any{s, &s, open{s}, &open{s}, closed{s}, &closed{s}, []hidden.Text{s}, []closed{{s}}, map[string]*closed{"a": {s}}} {
			all += fmt.Sprintf(verb, v)
		}
	}
	if strings.Contains(all, canary) || strings.Contains(all, fmt.Sprintf("%x", canary)) {
		t.Errorf("it is in %s", all)
	}
	if !strings.Contains(string(out), `"a":"[redacted]"`) || fmt.Sprint(s) != "[redacted]" {
		t.Errorf("got %s and %v", out, s)
	}
	same, other := hidden.New(strings.Clone(canary)), hidden.New("other")
	if s.Reveal() != canary || !s.Equal(same) || s.Equal(other) || !reflect.DeepEqual(closed{s}, closed{same}) || reflect.DeepEqual(closed{s}, closed{other}) {
		t.Error("equal texts are not, or others are")
	}
	var zero hidden.Text
	if !zero.Empty() || zero.Reveal() != "" || s.Empty() || !hidden.New("").Empty() || !zero.Equal(hidden.New("")) || zero.Equal(s) {
		t.Error("the zero Text, and none other, must be empty")
	}
}
