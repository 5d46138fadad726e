package conf

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sealtail/internal/hidden"
)

// decoder fills the structs of a [Config] from a parsed TOML tree by their
// tags, and collects what is wrong on the way.
type decoder struct {
	file             string
	tree             map[string]any
	lines            map[string]int // by path, from locate
	env              func(string) (string, bool)
	reader           bool // the file is for the reader
	faults, warnings []Fault
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[Bytes]()
	percentType  = reflect.TypeFor[Percent]()
	hiddenType   = reflect.TypeFor[hidden.Text]()
)

func (d *decoder) decode(c *Config) {
	d.table("", d.tree, reflect.ValueOf(c).Elem())
}

// fault reports what is wrong at path, or at the nearest table around it that
// the file has.
func (d *decoder) fault(path, fix, problem string, args ...any) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, d.at(path, fix, problem, args...))
	}
}

func (d *decoder) warn(path, fix, problem string, args ...any) {
	d.warnings = append(d.warnings, d.at(path, fix, problem, args...))
}

func (d *decoder) at(path, fix, problem string, args ...any) Fault {
	return Fault{File: d.file, Line: lineOf(d.lines, path), Key: d.shown(path), Problem: fmt.Sprintf(problem, args...), Fix: fix}
}

func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// shown makes stream.audit of stream[0] where the stream has a name.
func (d *decoder) shown(path string) string {
	rest, ok := strings.CutPrefix(path, "stream[")
	if !ok {
		return path
	}
	number, rest, _ := strings.Cut(rest, "]")
	i, err := strconv.Atoi(number)
	streams := tables(d.tree["stream"])
	if err != nil || i >= len(streams) {
		return path
	}
	if name, _ := streams[i]["name"].(string); goodName(name) {
		return "stream." + name + rest
	}
	return path
}

// tables returns an array of tables, however it was written; nil if it is
// none.
func tables(v any) []map[string]any {
	switch v := v.(type) {
	case []map[string]any:
		return v
	case []any:
		var all []map[string]any
		for _, e := range v {
			t, ok := e.(map[string]any)
			if !ok {
				return nil
			}
			all = append(all, t)
		}
		return all
	}
	return nil
}

// table fills a struct.
func (d *decoder) table(path string, from map[string]any, to reflect.Value) {
	known := make(map[string]bool)
	for f, tag := range fields(to.Type()) {
		known[tag] = true
		at, field := join(path, tag), to.FieldByIndex(f.Index)
		v, ok := from[tag]
		if other, word, only := strings.Cut(f.Tag.Get("for"), "="); only && from[other] != word {
			if is, _ := from[other].(string); ok && slices.Contains(words(to.Type(), other), is) {
				d.fault(at, "remove it", "goes with %s = %q, not %q", other, word, is)
			}
			continue
		}
		switch {
		case ok:
			d.value(at, v, field, f.Tag)
		case f.Tag.Get("required") == "true", f.Tag.Get("required") == "agent" && !d.reader:
			d.fault(at, missingFix(tag, f), "missing")
		case f.Tag.Get("required") != "", f.Tag.Get("optional") != "":
		case field.Kind() == reflect.Struct:
			d.table(at, nil, field)
		case f.Tag.Get("default") != "":
			d.scalar(at, f.Tag.Get("default"), field, f.Tag)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if !known[key] && len(d.faults) < maxFaults {
			d.fault(join(path, key), unknownFix(key, known), "unknown key")
		}
	}
}

// words are those that a key of a struct may be.
func words(t reflect.Type, key string) []string {
	for f, tag := range fields(t) {
		if tag == key {
			return strings.Fields(f.Tag.Get("oneof"))
		}
	}
	return nil
}

func missingFix(key string, f reflect.StructField) string {
	if words := strings.Fields(f.Tag.Get("oneof")); len(words) > 0 {
		return "add " + key + " = " + orList(words)
	}
	switch f.Type.Kind() {
	case reflect.Slice:
		return "add " + key + ` = ["…"]`
	case reflect.Struct:
		return "add " + key + ` = { type = "…" }`
	}
	return "add " + key + ` = "…"`
}

// fields yields the fields of a struct that have a key, with the key.
func fields(t reflect.Type) func(yield func(reflect.StructField, string) bool) {
	return func(yield func(reflect.StructField, string) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			if tag := f.Tag.Get("toml"); tag != "-" && f.IsExported() && !yield(f, tag) {
				return
			}
		}
	}
}

// value fills a field of any kind.
func (d *decoder) value(path string, v any, to reflect.Value, tag reflect.StructTag) {
	if to.Type() == hiddenType {
		d.scalar(path, v, to, tag)
		return
	}
	switch to.Kind() {
	case reflect.Struct:
		if t, ok := v.(map[string]any); ok {
			d.table(path, t, to)
			return
		}
		d.mismatch(path, "a table", v)
	case reflect.Slice:
		d.array(path, v, to)
	case reflect.Map:
		t, ok := v.(map[string]any)
		if !ok {
			d.mismatch(path, "a table", v)
			return
		}
		m := reflect.MakeMap(to.Type())
		for _, key := range slices.Sorted(maps.Keys(t)) {
			e := reflect.New(to.Type().Elem()).Elem()
			d.value(join(path, key), t[key], e, "")
			m.SetMapIndex(reflect.ValueOf(key), e)
		}
		to.Set(m)
	default:
		d.scalar(path, v, to, tag)
	}
}

func (d *decoder) array(path string, v any, to reflect.Value) {
	if to.Type().Elem().Kind() == reflect.Struct {
		all := tables(v)
		if all == nil {
			d.mismatch(path, "[[stream]] tables", v)
			return
		}
		to.Set(reflect.MakeSlice(to.Type(), len(all), len(all)))
		for i, t := range all {
			d.table(index(path, i), t, to.Index(i))
		}
		return
	}
	all, ok := v.([]any)
	if !ok {
		d.mismatch(path, `an array of strings such as ["…"]`, v)
		return
	}
	to.Set(reflect.MakeSlice(to.Type(), len(all), len(all)))
	for i, e := range all {
		d.scalar(index(path, i), e, to.Index(i), "")
	}
}

// scalar fills a string, number, duration, size or share, and holds it against
// the tags oneof, min and max.
func (d *decoder) scalar(path string, v any, to reflect.Value, tag reflect.StructTag) {
	s, isString := v.(string)
	if isString {
		if s, isString = d.expand(path, s); !isString {
			return
		}
		v = s
	}
	number, isNumber := v.(int64)
	set := func(n int64) {
		to.SetInt(n)
		d.bounds(path, n, to.Type(), tag)
	}
	switch to.Type() {
	case durationType:
		n, err := time.ParseDuration(s)
		if !isString || err != nil {
			d.mismatch(path, `a duration such as "30s"`, v)
			return
		}
		set(int64(n))
	case bytesType:
		var err error
		if isString {
			var n Bytes
			n, err = parseBytes(s)
			number = int64(n)
		}
		if !isString && !isNumber || err != nil {
			d.mismatch(path, `a size such as 4096 or "2MiB"`, v)
			return
		}
		set(number)
	case percentType:
		p, err := parsePercent(s)
		if !isString || err != nil {
			d.mismatch(path, `a share such as "5%"`, v)
			return
		}
		to.SetFloat(float64(p))
		if low, high := tag.Get("min"), tag.Get("max"); p < must(parsePercent(low)) || p > must(parsePercent(high)) {
			d.fault(path, "use "+low+" to "+high, "%s is out of range", p)
		}
	default:
		if to.Kind() == reflect.Bool {
			switch v {
			case true, "true":
				to.SetBool(true)
			case false, "false":
			default:
				d.mismatch(path, "true or false", v)
			}
			return
		}
		if to.Kind() == reflect.Int64 {
			if isString {
				n, err := strconv.ParseInt(s, 10, 64)
				number, isNumber = n, err == nil
			}
			if !isNumber {
				d.mismatch(path, "a whole number", v)
				return
			}
			set(number)
			return
		}
		if !isString {
			d.mismatch(path, "a string", v)
			return
		}
		if to.Type() == hiddenType {
			to.Set(reflect.ValueOf(hidden.New(s)))
			return
		}
		to.SetString(s)
		d.word(path, s, tag)
	}
}

func (d *decoder) word(path, s string, tag reflect.StructTag) {
	if tag.Get("required") != "" && s == "" {
		d.fault(path, "write a name or value", "is empty")
		return
	}
	allowed := strings.Fields(tag.Get("oneof"))
	if len(allowed) == 0 || slices.Contains(allowed, s) {
		return
	}
	fix := "use " + orList(allowed)
	if near := nearest(s, allowed); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	}
	if hides(path) {
		d.fault(path, fix, "is not known")
		return
	}
	d.fault(path, fix, "%q is not known", s)
}

func (d *decoder) bounds(path string, n int64, t reflect.Type, tag reflect.StructTag) {
	low, high := tag.Get("min"), tag.Get("max")
	if low == "" && high == "" {
		return
	}
	parse := func(s string) int64 {
		switch t {
		case durationType:
			return int64(must(time.ParseDuration(s)))
		case bytesType:
			return int64(must(parseBytes(s)))
		}
		return must(strconv.ParseInt(s, 10, 64))
	}
	if n >= parse(low) && n <= parse(high) {
		return
	}
	shown := strconv.FormatInt(n, 10)
	switch t {
	case durationType:
		shown = formatDuration(time.Duration(n))
	case bytesType:
		if n >= 0 {
			shown = Bytes(n).String()
		}
	}
	d.fault(path, "use "+low+" to "+high, "%s is out of range", shown)
}

// hides reports whether the value at path is a secret, or may be one by a slip:
// it is not repeated.
func hides(path string) bool {
	return strings.Contains(path, "credentials.") || strings.HasSuffix(path, ".proxy")
}

// must is for the bounds in the tags above, which the tests have seen.
func must[T any](v T, err error) T {
	if err != nil {
		panic("conf: bad tag: " + err.Error())
	}
	return v
}

// mismatch reports a value of a wrong kind. A string in the place of a table is
// not repeated: it may be what belongs into one, an access key or a proxy's URL.
func (d *decoder) mismatch(path, want string, got any) {
	shown, hidden := "", hides(path)
	switch got := got.(type) {
	case string:
		shown = strconv.Quote(got)
		hidden = hidden || strings.Contains(want, "table")
	case int64, float64, bool:
		shown = fmt.Sprint(got)
	case map[string]any, []map[string]any:
		shown = "a table"
	case []any:
		shown = "an array"
	default:
		shown = "a date or time"
	}
	fix := "write " + want
	if strings.Contains(want, "size") && (strings.HasSuffix(shown, `B"`) || strings.HasSuffix(shown, `b"`)) {
		fix += "; units are B, KiB, MiB, GiB, TiB"
	}
	if hidden {
		d.fault(path, fix, "is not %s", want)
		return
	}
	d.fault(path, fix, "cannot be %s", shown)
}
