package program

import (
	"errors"
	"testing"
)

func TestFind(t *testing.T) {
	if _, err := Find("no-such-program"); !errors.Is(err, ErrMissing) {
		t.Errorf("a program that is not there: %v", err)
	}
	if path, err := Find("sh"); err != nil || path == "" {
		t.Errorf("the shell is at %q, %v", path, err)
	}
}

func TestNumberIn(t *testing.T) {
	f := func(want, text string) {
		t.Helper()
		if got := numberIn(text); got != want {
			t.Errorf("the number in %q is %q, want %q", text, got, want)
		}
	}
	f("1.22.1", "nginx version: nginx/1.22.1\n")
	f("7.1.1", "varnishd (varnish-7.1.1 revision 7cee1c5)\nCopyright (c) 2006 Verdens Gang AS.")
	f("", "Copyright 2006.")
	f("", "")
}
