package seal_test

import (
	"testing"

	"sealtail/seal"
)

func TestSelfTest(t *testing.T) {
	if err := seal.SelfTest(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkSelfTest(b *testing.B) {
	for b.Loop() {
		if err := seal.SelfTest(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSelfTestBites(t *testing.T) {
	for name, err := range seal.BrokenSelfTests() {
		if err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
