package config

import (
	"testing"
	"time"
)

func TestParseBytes(t *testing.T) {
	f := func(text string, want int64, wantErr string) {
		t.Helper()
		got, err := ParseBytes(text)
		if got != want || errorText(err) != wantErr {
			t.Errorf("ParseBytes(%q) = %d, %q; want %d, %q", text, got, errorText(err), want, wantErr)
		}
	}
	const units = "units are B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"
	const remedy = "; write a number and a unit, such as 512MiB"
	f("0", 0, "")
	f("1B", 1, "")
	f("4KiB", 4096, "")
	f("4 KiB", 4096, "")
	f("1.5MiB", 3<<19, "")
	f("4kB", 4000, "")
	f("2TB", 2e12, "")
	f("4k", 0, `"k" is not a unit of size; `+units)
	f("4096", 0, "4096 has no unit; write 4096MiB; "+units)
	f("", 0, `"" is not a size`+remedy)
	f("-1B", 0, `"-1B" is not a size`+remedy)
	f("1e3B", 0, `"e3B" is not a unit of size; `+units)
	f("99999999TiB", 0, "99999999TiB is more than any machine holds; write a size such as 512MiB")
	f("1.2.3B", 0, `"1.2.3B" is not a size`+remedy)
}

func TestParseDuration(t *testing.T) {
	f := func(text string, want time.Duration, wantErr string) {
		t.Helper()
		got, err := ParseDuration(text)
		if got != want || errorText(err) != wantErr {
			t.Errorf("ParseDuration(%q) = %s, %q; want %s, %q", text, got, errorText(err), want, wantErr)
		}
	}
	const remedy = "; write a time such as 5s; units are ms, s, m, h or d"
	f("0", 0, "")
	f("0s", 0, "")
	f("250ms", 250*time.Millisecond, "")
	f("1h30m", 90*time.Minute, "")
	f("1.5s", 1500*time.Millisecond, "")
	f("7d", 7*24*time.Hour, "")
	f("1d12h", 36*time.Hour, "")
	f("5", 0, "5 has no unit; write 5s; units are ms, s, m, h or d")
	f("-5s", 0, `"-5s" is negative; write a time such as 5s`)
	f("5d-1h", 0, `"5d-1h" is not a time`+remedy)
	f("d", 0, `"d" is not a time`+remedy)
	f("", 0, `"" is not a time`+remedy)
	f("99999d", 0, `"99999d" is not a time`+remedy)
	f("36500d2000000h", 0, `"36500d2000000h" is not a time`+remedy)
}

func TestParseRatioAndMoney(t *testing.T) {
	f := func(parse func(string) (float64, *fault), text string, want float64, wantErr string) {
		t.Helper()
		got, bad := parse(text)
		message := ""
		if bad != nil {
			message = bad.Error()
		}
		if got != want || message != wantErr {
			t.Errorf("%q is %g, %q; want %g, %q", text, got, message, want, wantErr)
		}
	}
	f(parseRatio, "80%", 0.8, "")
	f(parseRatio, "0.1%", 0.001, "")
	f(parseRatio, "0", 0, "")
	f(parseRatio, "0.8", 0, "0.8 has no unit; write 80%")
	f(parseRatio, "80", 0, "80 has no unit; write 80%")
	f(parseRatio, "-5%", 0, `"-5%" is not a share; write a percentage such as 80%`)
	f(parseRatio, "%", 0, `"%" is not a share; write a percentage such as 80%`)
	f(parseMoney, "$2", 2, "")
	f(parseMoney, "$1000000000000", 1e12, "")
	f(parseMoney, "$1000000000000000000000000", 0, "$1000000000000000000 is more than anybody has; write US dollars such as $2")
	f(parseMoney, "$ 2", 2, "")
	f(parseMoney, "$0.0000166667", 0.0000166667, "")
	f(parseMoney, "0", 0, "")
	f(parseMoney, "2", 0, "2 has no unit; write $2")
	f(parseMoney, "2$", 0, `"2$" is not an amount of money; write US dollars such as $2`)
	f(parseMoney, "$-2", 0, `"$-2" is not an amount of money; write US dollars such as $2`)
	f(parseMoney, "$Inf", 0, `"$Inf" is not an amount of money; write US dollars such as $2`)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestMeant(t *testing.T) {
	f := func(word, want string) {
		t.Helper()
		if got := meant(word, []string{"memory", "max_object", "to"}); got != want {
			t.Errorf("meant(%q) = %q, want %q", word, got, want)
		}
	}
	f("memroy", "did you mean memory?")
	f("Memory", "did you mean memory?")
	f("mem", "")
	f("maxobject", "did you mean max_object?")
	f("ot", "did you mean to?")
	f("x", "")
	f("", "")
}
