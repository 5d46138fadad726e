package conf

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sealtail/internal/hidden"
)

// effective returns all values as they are in force, one "key = value" a line,
// sorted: the same for two files that mean the same. It holds no secret: of a
// proxy's URL not the password.
func (c *Config) effective() string {
	var lines []string
	flatten("", reflect.ValueOf(c).Elem(), &lines)
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func flatten(path string, v reflect.Value, lines *[]string) {
	if t, ok := v.Interface().(hidden.Text); ok {
		u, err := url.Parse(t.Reveal())
		if err != nil {
			u = new(url.URL) // a fault was told of it
		}
		*lines = append(*lines, path+" = "+strconv.Quote(u.Redacted()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for f, tag := range fields(v.Type()) {
			flatten(join(path, tag), v.FieldByIndex(f.Index), lines)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			flatten(join(path, key.String()), v.MapIndex(key), lines)
		}
	case reflect.Slice:
		for i := range v.Len() {
			at := index(path, i)
			if s, ok := v.Index(i).Interface().(Stream); ok {
				at = join(path, s.Name)
			}
			flatten(at, v.Index(i), lines)
		}
	case reflect.String:
		*lines = append(*lines, path+" = "+strconv.Quote(v.String()))
	default:
		*lines = append(*lines, fmt.Sprintf("%s = %v", path, v.Interface()))
	}
}
