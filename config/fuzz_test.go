package config

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParse checks that any file and any variable give a configuration, or
// problems that say where they are.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole("")), "CACHE__MEMORY=1GiB")
	f.Add([]byte(envBase), "SITES__0__HOSTS=[a]")
	f.Add([]byte(smallest), "ORIGINS__APP__LIMIT={min: 1}")
	f.Add([]byte("a: &a [*a]\nb: {<<: *a}"), "FUNCTIONS__F__URL=x")
	f.Add([]byte("sites: [[{}], {hosts: {}}]\norigins: []"), "LISTEN=")
	f.Add([]byte("{{{: - ? | >"), "=")
	f.Add([]byte("a: "+strings.Repeat("[", 100)), "SITES="+strings.Repeat("- ", 100))
	f.Add([]byte("a: 'it''s\n  b: \"\\\"\n- - - &x {c: [d\r\n, e"), "SITES=[{'")
	f.Fuzz(func(t *testing.T, data []byte, variable string) {
		c, err := Parse("f", data, []string{Prefix + variable})
		if err == nil {
			if c.Hash() == "" || Diff(c, c) != nil {
				t.Error("a configuration without a hash, or unlike itself")
			}
			for _, p := range c.Warnings() {
				if p.Severity != Warning || p.Message == "" || p.Remedy == "" {
					t.Errorf("a warning without words: %+v", p)
				}
			}
			return
		}
		problems, ok := errors.AsType[Problems](err)
		if !ok || len(problems) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		for _, p := range problems {
			if p.Message == "" || p.Remedy == "" || p.Line > 0 && p.Column < 1 {
				t.Errorf("a problem without a place or words: %+v", p)
			}
		}
	})
}

// FuzzBound checks that any text is let through, or refused with a place and words.
func FuzzBound(f *testing.F) {
	f.Add([]byte("a: 'it''s\n  b: \"\\\"\n- - - &x {c: [d\r\n, e"))
	f.Add([]byte(strings.Repeat("[", 40)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := bound(data); err == nil {
			return
		} else if e, ok := errors.AsType[*excess](err); !ok || e.at.line < 1 || e.at.column < 1 || e.remedy == "" {
			t.Errorf("%v", err)
		}
	})
}

func FuzzUnits(f *testing.F) {
	for _, seed := range []string{"512MiB", "1h30m", "7d", "80%", "$0.0000166667", "auto", "0", "-1", "1e9", "٣MiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseBytes(text); err == nil && n < 0 {
			t.Errorf("%q is %d bytes", text, n)
		}
		if d, err := ParseDuration(text); err == nil && d < 0 {
			t.Errorf("%q is %s", text, d)
		}
		if r, bad := parseRatio(text); bad == nil && !(r >= 0) {
			t.Errorf("%q is the share %g", text, r)
		}
		if m, bad := parseMoney(text); bad == nil && !(m >= 0) {
			t.Errorf("%q is $%g", text, m)
		}
	})
}
