// The power-loss test: a module apart, of the standard library alone.
module sealtail/test/power

go 1.26.0
