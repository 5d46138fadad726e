//go:build !race

package seal_test

var waysToEnd = []string{"rotate", "revoke", "stop"}
