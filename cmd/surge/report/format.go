package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// count writes an integer with thin groups of three: 12 345.
func count[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// percent writes n of total. What is not zero never reads as zero, and what is not
// all never as all.
func percent(n, total int64) string {
	if total == 0 {
		return "–"
	}
	p := 100 * float64(n) / float64(total)
	switch {
	case n == 0:
		return "0 %"
	case n == total:
		return "100 %"
	case p < .01:
		return "< 0.01 %"
	case p > 99.99:
		return "> 99.99 %"
	case p < 1 || p > 99:
		return fmt.Sprintf("%.2f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

// millis writes a latency with three digits and a fitting unit.
func millis(ms float64) string {
	switch {
	case ms == 0:
		return "–"
	case ms < 1:
		return fmt.Sprintf("%.0f µs", ms*1000)
	case ms < 1000:
		return digits(ms) + " ms"
	}
	return digits(ms/1000) + " s"
}

// digits writes v with three significant digits, or all of those before the point.
func digits(v float64) string {
	if v == 0 {
		return "0"
	}
	decimals := max(2-int(math.Floor(math.Log10(math.Abs(v)))), 0)
	s := strconv.FormatFloat(v, 'f', min(decimals, 6), 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// perSecond writes a rate of a phase: one number, or a ramp.
func perSecond(from, to float64) string {
	if from == to {
		return digits(from) + "/s"
	}
	return digits(from) + "–" + digits(to) + "/s"
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func byteCount(n int64) string {
	const units = "KMGTP"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return digits(v) + " " + units[i:i+1] + "iB"
}
