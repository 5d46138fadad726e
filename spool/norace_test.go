//go:build !race

package spool_test

const stride = 1
