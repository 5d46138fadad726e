package conf

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. In the file it is a number, or a string with one of the
// units B, KiB, MiB, GiB, TiB.
type Bytes int64

// Percent is a share, from 0 to 1. In the file it is a string such as "5%".
type Percent float64

var units = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// parseBytes reads "4096", "64KiB", "1.5GiB".
func parseBytes(s string) (Bytes, error) {
	digits := strings.TrimRight(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ")
	unit := strings.TrimSpace(s[len(digits):])
	scale := int64(1)
	if unit != "" {
		scale = 0
		for _, u := range units {
			if u.name == unit {
				scale = u.bytes
			}
		}
	}
	if scale == 0 {
		return 0, fmt.Errorf("unknown unit %q", unit)
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/scale {
			return 0, errors.New("out of range")
		}
		return Bytes(n * scale), nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.ContainsAny(digits, "eExXpP_") {
		return 0, errors.New("not a size")
	}
	f *= float64(scale)
	if !(f >= 0 && f < math.MaxInt64) || f != math.Trunc(f) {
		return 0, errors.New("not a whole number of bytes")
	}
	return Bytes(f), nil
}

// String returns the size with the largest unit that fits without a fraction.
func (b Bytes) String() string {
	for _, u := range units {
		if b != 0 && int64(b)%u.bytes == 0 {
			return strconv.FormatInt(int64(b)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// parsePercent reads "5%" and "0.5%".
func parsePercent(s string) (Percent, error) {
	digits, ok := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if !ok || err != nil || strings.ContainsAny(digits, "eExXpP_") || !(f >= 0 && f <= 100) {
		return 0, errors.New("not a share")
	}
	return Percent(f / 100), nil
}

// String returns the share as it is written in the file.
func (p Percent) String() string { return strconv.FormatFloat(float64(p)*100, 'g', 12, 64) + "%" }

// formatDuration writes d without parts that are zero: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
