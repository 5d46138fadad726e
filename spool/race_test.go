//go:build race

package spool_test

// stride is how many operations lie between two at which a run is crashed. The
// race detector makes each ten times as long, and finds no more with more.
const stride = 5
