package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// fault is what is wrong with a value, before it is known where the value
// stands.
type fault struct{ message, remedy string }

func faultf(remedy, format string, args ...any) *fault {
	return &fault{fmt.Sprintf(format, args...), remedy}
}

func (f *fault) Error() string {
	if f.remedy == "" {
		return f.message
	}
	return f.message + "; " + f.remedy
}

// ParseBytes reads a size as the configuration writes it, such as 512MiB.
func ParseBytes(text string) (int64, error) {
	n, bad := parseBytes(text)
	if bad != nil {
		return 0, bad
	}
	return n, nil
}

// ParseDuration reads a time as the configuration writes it, such as 1h30m or
// 7d.
func ParseDuration(text string) (time.Duration, error) {
	d, bad := parseDuration(text)
	if bad != nil {
		return 0, bad
	}
	return d, nil
}

// ParseMoney reads US dollars as the configuration writes them, such as $2.
func ParseMoney(text string) (float64, error) {
	amount, bad := parseMoney(text)
	if bad != nil {
		return 0, bad
	}
	return amount, nil
}

var byteUnits = map[string]float64{
	"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

const byteUnitList = "B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"

// parseBytes reads a size such as 512MiB. Zero needs no unit.
func parseBytes(text string) (int64, *fault) {
	digits, unit := text, ""
	if i := strings.IndexFunc(text, func(c rune) bool { return c != '.' && (c < '0' || c > '9') }); i >= 0 {
		digits, unit = text[:i], strings.TrimSpace(text[i:])
	}
	value, ok := number(digits)
	switch {
	case !ok:
		return 0, faultf("write a number and a unit, such as 512MiB", "%q is not a size", text)
	case unit == "" && value == 0:
		return 0, nil
	case unit == "":
		return 0, faultf(fmt.Sprintf("write %sMiB; units are %s", digits, byteUnitList), "%s has no unit", digits)
	}
	factor, ok := byteUnits[unit]
	if !ok {
		return 0, faultf("units are "+byteUnitList, "%q is not a unit of size", unit)
	}
	if value *= factor; value >= math.MaxInt64 {
		return 0, faultf("write a size such as 512MiB", "%s is more than any machine holds", text)
	}
	return int64(math.Round(value)), nil
}

const durationUnitList = "ms, s, m, h or d"

// parseDuration reads a time such as 5s, 1h30m or 7d. Zero needs no unit.
func parseDuration(text string) (time.Duration, *fault) {
	if value, ok := number(text); ok && value != 0 {
		return 0, faultf(fmt.Sprintf("write %ss; units are %s", text, durationUnitList), "%s has no unit", text)
	}
	if strings.HasPrefix(text, "-") {
		return 0, faultf("write a time such as 5s", "%q is negative", text)
	}
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "", text
	}
	var total time.Duration
	if found {
		value, ok := number(days)
		if !ok || value > 36500 {
			return 0, faultf("write a time such as 5s; units are "+durationUnitList, "%q is not a time", text)
		}
		total = time.Duration(value * 24 * float64(time.Hour))
	}
	if rest != "" || !found {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || total > math.MaxInt64-d {
			return 0, faultf("write a time such as 5s; units are "+durationUnitList, "%q is not a time", text)
		}
		total += d
	}
	return total, nil
}

// parseRatio reads a share such as 80%. Zero needs no unit.
func parseRatio(text string) (float64, *fault) {
	digits, found := strings.CutSuffix(text, "%")
	digits = strings.TrimSpace(digits)
	value, ok := number(digits)
	switch {
	case !ok:
		return 0, faultf("write a percentage such as 80%", "%q is not a share", text)
	case !found && value != 0:
		percent := digits
		if value <= 1 {
			percent = strconv.FormatFloat(value*100, 'f', -1, 64)
		}
		return 0, faultf(fmt.Sprintf("write %s%%", percent), "%s has no unit", digits)
	}
	return value / 100, nil
}

// mostMoney keeps sums of amounts finite, which the ledger writes down. Not a knob.
const mostMoney = 1e12

// parseMoney reads US dollars such as $2 or $0.0000166667. Zero needs no unit.
func parseMoney(text string) (float64, *fault) {
	digits, found := strings.CutPrefix(text, "$")
	digits = strings.TrimSpace(digits)
	value, ok := number(digits)
	switch {
	case !ok:
		return 0, faultf("write US dollars such as $2", "%q is not an amount of money", text)
	case !found && value != 0:
		return 0, faultf("write $"+digits, "%s has no unit", digits)
	case value > mostMoney:
		return 0, faultf("write US dollars such as $2", "%.20s is more than anybody has", text)
	}
	return value, nil
}

// number reads a plain decimal number that is not negative: no exponent, no
// infinity, nothing that means different things in different languages.
func number(text string) (float64, bool) {
	if text == "" || strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	value, err := strconv.ParseFloat(text, 64)
	return value, err == nil && !math.IsInf(value, 0)
}
