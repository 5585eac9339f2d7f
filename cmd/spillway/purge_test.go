package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"spillway/edge"
)

// A long list of URLs goes to the node in parts that its headers have room for.
func TestPurgeQueriesHaveRoom(t *testing.T) {
	var urls, got []string
	for i := range 1000 {
		urls = append(urls, fmt.Sprintf("https://img.example.com/%s/%d?a=b", strings.Repeat("ä", i%50), i))
	}
	parts := splitQuery(url.Values{"url": urls, "origin": nil})
	for _, part := range parts {
		if n := len(part.Encode()); n > queryRoom {
			t.Errorf("a query of %d bytes", n)
		}
		got = append(got, part["url"]...)
	}
	if !slices.Equal(got, urls) || len(parts) > 40 {
		t.Errorf("%d of %d URLs in %d parts", len(got), len(urls), len(parts))
	}
	for _, part := range splitQuery(url.Values{"group": {"a", strings.Repeat("b", queryRoom), "c"}, "origin": {"https://a", "https://b"}}) {
		if len(part["origin"]) != 2 || len(part["group"]) != 1 {
			t.Errorf("%q", part)
		}
	}
}

// A purge names things, by one kind. What is empty names nothing.
func TestCheckPurge(t *testing.T) {
	f := func(query, want string) {
		t.Helper()
		q, _ := url.ParseQuery(query)
		if err := checkPurge(q); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
	f("tag=a&tag=b", "")
	f("group=a&origin=https://a", "")
	f("", "name URLs")
	f("tag=a&all=1", "one of")
	f("group=a", "name the origins")
	f("tag=", "--tag: this tag is empty")
	f("tag=a&tag=", "--tag: this tag is empty")
	f("group=&origin=https://a", "--group: this group is empty")
}

func TestWarmReport(t *testing.T) {
	r := warmReport{NotStorable: map[string]int{}}
	for i := range 3 * failuresTold {
		r.add(edge.Warming{Result: []string{edge.WarmStored, edge.WarmNotStorable, edge.WarmFailed}[i%3], Why: "private"})
	}
	r.add(edge.Warming{Result: edge.WarmFresh})
	r.add(edge.Warming{Result: edge.WarmFailed})
	var text strings.Builder
	r.write(&text)
	want := "302 URLs: 100 stored, 1 fresh already, 100 not storable (100 private), 101 failed\n"
	if text.String() != want || len(r.Failures) != failuresTold {
		t.Errorf("%s and %d failures, want %s", text.String(), len(r.Failures), want)
	}
}

func TestBar(t *testing.T) {
	f := func(done, total int, want string) {
		t.Helper()
		if got := barText(done, total); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f(0, 0, "["+strings.Repeat(".", 40)+"] 0 of 0")
	f(1, 2, "["+strings.Repeat("#", 20)+strings.Repeat(".", 20)+"] 1 of 2")
	f(7, 7, "["+strings.Repeat("#", 40)+"] 7 of 7")
}
