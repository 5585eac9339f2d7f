package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var sample = &catalogue{
	Tests: []group{
		{ID: "first", Tests: []test{
			{ID: "basis", Kind: check},
			{ID: "stores", DependsOn: []string{"basis"}},
			{ID: "reuses", Kind: optimal, DependsOn: []string{"stores"}},
			{ID: "private", BrowserOnly: true},
		}},
		{ID: "second", Tests: []test{{ID: "ages", DependsOn: []string{"reuses"}}, {ID: "asks", Kind: check}}},
	},
	Draft: group{ID: "draft", Tests: []test{{ID: "surrogate"}}},
}

func parsed(t *testing.T, text string) results {
	t.Helper()
	r, err := parseResults([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestScore(t *testing.T) {
	f := func(text string, want ...verdict) {
		t.Helper()
		scores := sample.score(parsed(t, text))
		if len(scores) != len(want) {
			t.Fatalf("%d tests count, want %d", len(scores), len(want))
		}
		for i, s := range scores {
			if s.verdict != want[i] {
				t.Errorf("%s: %s, want %s", s.ID, s.verdict, want[i])
			}
		}
	}
	f(`{}`, untested, untested, untested)
	f(`{"basis": true, "stores": true, "reuses": true, "ages": true}`, passed, passed, passed)
	f(`{"basis": true, "stores": ["Assertion", "x"], "reuses": true, "ages": true}`, failed, dependency, dependency)
	f(`{"basis": true, "stores": ["Setup", "x"], "reuses": true, "ages": ["Setup", "retry"]}`, setup, dependency, dependency)
	f(`{"basis": ["Assertion", "x"], "stores": true, "reuses": true, "ages": true}`, dependency, dependency, dependency)
	f(`{"basis": true, "stores": true, "reuses": true, "ages": ["TypeError", "x"]}`, passed, passed, failed)
	f("noise\n"+`{"basis": true, "stores": true, "reuses": true}`, passed, passed, untested)
}

func TestTable(t *testing.T) {
	var out strings.Builder
	sample.write(&out, parsed(t, `{"basis": true, "stores": true, "reuses": ["Assertion", "x"], "asks": true, "private": true, "surrogate": true}`))
	want := `suite    required  optimal  yes
first    1/1       0/1      1/1
second   0/1       0/0      1/1
(draft)  1/1       0/0      0/0
required 1/2 optimal 0/1
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestSurprises(t *testing.T) {
	f := func(text string, known []string, want ...string) {
		t.Helper()
		listed := map[string]failure{}
		for _, id := range known {
			listed[id] = failure{}
		}
		got := compare(sample.score(parsed(t, text)), listed)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s with %q: %q, want %q", text, known, got, want)
		}
	}
	const all = `{"basis": true, "stores": true, "reuses": true, "ages": true}`
	f(all, nil)
	f(all, []string{"ages"}, "passes now, and is to be taken out of testdata/failures.txt: ages")
	f(all, []string{"asks"}, "is in testdata/failures.txt, and no test that counts: asks")
	const broken = `{"basis": true, "stores": true, "reuses": ["Assertion", "came late"], "ages": true}`
	f(broken, []string{"reuses", "ages"})
	f(broken, []string{"reuses"}, "dependency failure (required): ages ")
	f(broken, []string{"ages"}, "failed (optimal): reuses came late")
}

// A second run mends what the first has lost to a busy machine, and breaks nothing.
func TestSecondRun(t *testing.T) {
	first := parsed(t, `{"basis": true, "stores": ["Setup", "x"], "reuses": true, "ages": true}`)
	first.passAlso(parsed(t, `{"basis": true, "stores": true, "reuses": ["Assertion", "x"]}`))
	for _, s := range sample.score(first) {
		if s.verdict != passed {
			t.Errorf("%s: %s", s.ID, s.verdict)
		}
	}
}

// TestFailuresAreShown asks that what a known failure stands for is shown by a test
// that there is.
func TestFailuresAreShown(t *testing.T) {
	known, err := readFailures("testdata/failures.txt")
	if err != nil {
		t.Fatal(err)
	}
	for id, f := range known {
		pkg, name, _ := strings.Cut(f.shown, ".")
		files, err := filepath.Glob(filepath.Join("../..", pkg, "*_test.go"))
		if err != nil || f.reason == "" {
			t.Errorf("%s: reason %q, %v", id, f.reason, err)
		}
		found := false
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || regexp.MustCompile(`(?m)^func `+regexp.QuoteMeta(name)+`\(`).Match(text)
		}
		if !found {
			t.Errorf("%s is shown by %s, which is not there", id, f.shown)
		}
	}
}

func TestFailuresThatCannotBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "failures.txt")
	if err := os.WriteFile(file, []byte("# prose\n\na\tb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readFailures(file); err == nil || !strings.Contains(err.Error(), "not three fields") {
		t.Errorf("got %v", err)
	}
	if _, err := readFailures(file + ".gone"); err == nil {
		t.Error("a list that is not there is read")
	}
}
