// The test in a real cluster of one node: a module apart, of the standard
// library alone. node is a module of its own again.
module sealtail/test/k8s

go 1.26.0
