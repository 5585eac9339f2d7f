package main

import (
	"testing"

	"spillway/edge/cache"
)

func TestBodyText(t *testing.T) {
	f := func(l cache.Look, want string) {
		t.Helper()
		if got := bodyText(&l); got != want {
			t.Errorf("%+v: %s, want %s", l, got, want)
		}
	}
	f(cache.Look{Bytes: 2 << 20}, "2 MiB")
	f(cache.Look{Bytes: 2 << 20, Coding: "br"}, "2 MiB br")
	f(cache.Look{Bytes: 2 << 20, Coding: "x\x1by"}, "2 MiB x?y")
	f(cache.Look{Bytes: 1 << 20, Whole: 2 << 20}, "1 MiB of 2 MiB")
	f(cache.Look{Bytes: 1 << 20, Whole: -1}, "1 MiB of more")
}
