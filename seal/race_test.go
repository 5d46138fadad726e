//go:build race

package seal_test

// waysToEnd are those of a data key. The race detector makes each take ten
// times as long.
var waysToEnd = []string{"rotate"}
