package conf

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// unknownFix says what an unknown key may have been meant as.
func unknownFix(key string, known map[string]bool) string {
	if secretive(key) {
		return "secrets are not written here: a key for one names the file that holds it"
	}
	names := slices.Sorted(maps.Keys(known))
	if near := nearest(key, names); near != "" {
		return "did you mean " + near + "?"
	}
	if homes := homesOf(key); len(homes) > 0 {
		return "it belongs in " + strings.Join(homes, " or ")
	}
	if near := nearest(key, slices.Sorted(maps.Keys(allKeys()))); near != "" {
		return "did you mean " + near + ", in " + strings.Join(homesOf(near), " or ") + "?"
	}
	return "known here: " + strings.Join(names, ", ")
}

// secretive tells whether a key looks as if it held a secret.
func secretive(key string) bool {
	key = strings.ToLower(key)
	if strings.HasSuffix(key, "_file") {
		return false
	}
	for _, word := range []string{"secret", "password", "passwd", "token", "access_key", "accesskey", "private_key"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// homesOf returns the tables that have the key.
func homesOf(key string) []string { return allKeys()[key] }

// allKeys returns every key below the top, and its tables as they are written.
var allKeys = sync.OnceValue(func() map[string][]string {
	homes := make(map[string][]string)
	var walk func(table string, t reflect.Type)
	walk = func(table string, t reflect.Type) {
		for f, tag := range fields(t) {
			if table != "" {
				homes[tag] = append(homes[tag], table)
			}
			below := f.Type
			name := "[" + tag + "]"
			switch f.Type.Kind() {
			case reflect.Slice:
				below, name = f.Type.Elem(), "[["+tag+"]]"
			case reflect.Map:
				below, name = f.Type.Elem(), "["+tag+".NAME]"
			}
			if table != "" {
				name = "[" + strings.Trim(table, "[]") + "." + tag + "]"
			}
			if below.Kind() == reflect.Struct {
				walk(name, below)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	return homes
})

// nearest returns the one of the words that s is likely a slip of, or "".
func nearest(s string, words []string) string {
	if len(s) > maxName {
		return ""
	}
	best, bestDistance := "", 1+max(1, len(s)/3)
	for _, w := range words {
		if n := distance(strings.ToLower(s), w); n < bestDistance {
			best, bestDistance = w, n
		}
	}
	if best == "" && len(s) > 2 {
		for _, w := range words {
			if strings.HasPrefix(w, s) || strings.HasPrefix(s, w) {
				return w
			}
		}
	}
	return best
}

// distance is the number of edits (insert, delete, replace, swap neighbours)
// between two strings.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			n := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				n = min(n, rows[i-2][j-2]+1)
			}
			rows[i][j] = n
		}
	}
	return rows[len(a)][len(b)]
}

func orList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return strings.Join(quoted, " or ")
}
