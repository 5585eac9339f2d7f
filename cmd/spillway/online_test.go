package main

import (
	"strings"
	"testing"
)

// TestOnlineReportIsATable: whatever a function says of why it failed, which is often a
// stack of lines, stays in its place and moves no terminal.
func TestOnlineReportIsATable(t *testing.T) {
	var b strings.Builder
	r := &onlineReport{Checks: []onlineCheck{
		{What: "function", Name: "thumb", OK: true, Result: "runs, and fails at a warm-up: Cannot find module 'x'\nRequire stack:\n- a\tb\x1b[2J\xff"},
		{What: "function", Name: "größer", Result: "does not answer"},
	}}
	r.write(&b)
	want := "  ok      function thumb   runs, and fails at a warm-up: Cannot find module 'x' Require stack: - a b?[2J?\n" +
		"  FAILED  function größer  does not answer\n"
	if got := b.String(); got != want {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
}
