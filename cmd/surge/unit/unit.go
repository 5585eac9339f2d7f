// Package unit holds the command-line values that carry a unit: sizes such as
// 16KiB and shares such as 5%.
//
// Each type is a pflag.Value, so that a wrong value is refused by the command
// line itself, with the remedy in the message. A size without a unit is
// refused: 16 bytes and 16 kibibytes a second are different experiments.
package unit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size, or with "per second" understood a rate.
type Bytes int64

// sizes is ordered so that a longer suffix is tried before its own ending: KiB
// before B.
var sizes = []struct {
	suffix string
	bytes  int64
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
}

// Set parses s, such as 16KiB or 1.5MB.
func (b *Bytes) Set(s string) error {
	if s == "0" {
		*b = 0
		return nil
	}
	for _, size := range sizes {
		number, ok := strings.CutSuffix(s, size.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(f >= 0) || f*float64(size.bytes) >= math.MaxInt64 {
			break
		}
		*b = Bytes(f * float64(size.bytes))
		return nil
	}
	return fmt.Errorf("size %q: want a number and one of B, kB, KiB, MB, MiB, GB, GiB, such as 16KiB", s)
}

// String writes the size with the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, size := range sizes[:3] {
		if b != 0 && int64(b)%size.bytes == 0 {
			return strconv.FormatInt(int64(b)/size.bytes, 10) + size.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// Type names the value in the usage text.
func (b *Bytes) Type() string { return "size" }

// Share is a part of a whole, 0 to 1.
type Share float64

// Set parses s, such as 5% or 0.05.
func (v *Share) Set(s string) error {
	number, percent := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(number, 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		return fmt.Errorf("share %q: want 0%% to 100%%, such as 5%%", s)
	}
	*v = Share(f)
	return nil
}

// String writes the share in percent.
func (v Share) String() string {
	return strconv.FormatFloat(float64(v)*100, 'g', -1, 64) + "%"
}

// Type names the value in the usage text.
func (v *Share) Type() string { return "share" }
