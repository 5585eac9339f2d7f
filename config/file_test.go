package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilesThatAreNoConfiguration checks what is said of a file before its first
// key is looked at.
func TestFilesThatAreNoConfiguration(t *testing.T) {
	f := func(data, want string) {
		t.Helper()
		_, err := Parse("f", []byte(data), nil)
		if got := messages(t, err); got != want {
			t.Errorf("%q\ngot:  %s\nwant: %s", data, got, want)
		}
	}
	const (
		nothing = "f: there is no setting in this file; begin with tls, origins and sites"
		noKeys  = "a configuration is made of keys, and there is none here; write KEY: VALUE, with a space behind the colon; keys are listen, "
	)
	f("", nothing)
	f("# a comment\n", nothing)
	f("\ufeff", nothing)
	f("\xff\xfeh\x00t\x00", "f: this file is UTF-16; save it as UTF-8")
	f("http: off\n# fär, f\xe4r", "f:2:9: this character is not UTF-8; save the file as UTF-8")

	noMapping := func(data string) {
		t.Helper()
		_, err := Parse("f", []byte(data), nil)
		if got := messages(t, err); !strings.HasPrefix(got, "f:1:1: "+noKeys) {
			t.Errorf("%q gives %s", data, got)
		}
	}
	noMapping("http:off")
	noMapping("http = off\nlisten = :443")
	noMapping("- http")
}

// TestEditorsMayDiffer checks that the marks which editors leave in a file
// change nothing, nor the places of problems.
func TestEditorsMayDiffer(t *testing.T) {
	text := whole("http: off\ncache:\n  memory: 1")
	const want = "f:3:11: cache.memory: 1 has no unit; write 1MiB; units are B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"
	for name, data := range map[string]string{
		"plain": text, "byte order mark": "\ufeff" + text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n"),
	} {
		_, err := Parse("f", []byte(data), nil)
		if got := messages(t, err); got != want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	f := func(path, want string) {
		t.Helper()
		_, err := Load(path, nil)
		if got := messages(t, err); got != path+": "+want {
			t.Errorf("got:  %s\nwant: %s", got, want)
		}
	}
	f(filepath.Join(dir, "none.yaml"), "there is no such file; write one, or name another")
	f(dir, "this is a folder; name the file in it, such as "+filepath.Join(dir, "spillway.yaml"))

	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, []byte(strings.Repeat("# \n", maxFile/3+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	f(large, "this file is larger than 1 MiB; name a configuration; one of a thousand sites is smaller")

	if bad := missingFile("key.pem", os.ErrPermission); !strings.Contains(bad.Error(), "may not read key.pem; let it") {
		t.Error(bad)
	}
}

// TestManyProblems checks that a file of something else does not fill the
// screen.
func TestManyProblems(t *testing.T) {
	_, err := Parse("f", []byte(whole("trusted_proxies:\n"+strings.Repeat("- x\n", 1000))), nil)
	lines := strings.Split(messages(t, err), "\n")
	if len(lines) != maxProblems+1 || lines[maxProblems] != "f: there are 900 more; mend those above first" {
		t.Errorf("%d problems, the last is %s", len(lines), lines[len(lines)-1])
	}
}

// TestOneMistakeIsOneProblem checks that what follows from a mistake is not
// reported beside it, and that another mistake is.
func TestOneMistakeIsOneProblem(t *testing.T) {
	f := func(part string, want ...string) {
		t.Helper()
		_, err := Parse("f", []byte(whole(part)), nil)
		if got := messages(t, err); got != strings.Join(want, "\n") {
			t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
	}
	f("tls: {self_signed: maybe}", `f:1:20: tls.self_signed: "maybe" is neither true nor false; write true or false`)
	f("budgets: {b: {per_day: 20}}", "f:1:24: budgets.b.per_day: 20 has no unit; write $20")
	f("expose: all\ntls: {}",
		`f:1:9: expose: "all" is not one of full, outcome, off; write full, outcome or off`,
		"f:2:1: tls: there is no certificate; set cert and key, or self_signed: true for tests")
}
