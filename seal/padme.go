package seal

import "math/bits"

// padme returns the Padmé length for n: the smallest number of at least n
// whose bits below the leading few are zero, so that lengths tell only
// O(log log n) bits (PURBs, 2019, https://arxiv.org/abs/1806.03160, section 4).
func padme(n int) int {
	if n < 2 {
		return n
	}
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e))
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}
