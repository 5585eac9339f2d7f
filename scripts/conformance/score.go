package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A catalogue holds the tests, and what each of them asks for.
type catalogue struct {
	Tests []group `json:"tests"`
	// Draft is about Surrogate-Control, which has become RFC 9213. It is counted
	// apart.
	Draft group `json:"draft"`
}

// A group is one of the suite's suites.
type group struct {
	ID    string `json:"id"`
	Tests []test `json:"tests"`
}

type test struct {
	ID        string   `json:"id"`
	Kind      string   `json:"kind"` // required without one
	DependsOn []string `json:"depends_on"`
	// BrowserOnly tests are about caches of one user.
	BrowserOnly bool `json:"browser_only"`
}

// The kinds of tests. A check has no right answer.
const (
	required = "required"
	optimal  = "optimal"
	check    = "check"
)

func (t *test) kind() string {
	if t.Kind == "" {
		return required
	}
	return t.Kind
}

// A verdict is what a test came to.
type verdict string

const (
	passed     verdict = "passed"
	failed     verdict = "failed"
	untested   verdict = "untested"           // it has no result
	setup      verdict = "setup failure"      // the node did not get to where the test begins
	dependency verdict = "dependency failure" // a test that it builds upon did not pass
)

// results are what the suite's client says, by test.
type results map[string]result

// A result is true, or the kind of a failure and what failed.
type result struct {
	passed        bool
	kind, message string
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *result) UnmarshalJSON(text []byte) error {
	var failure [2]string
	if err := json.Unmarshal(text, &r.passed); err == nil {
		return nil
	}
	if err := json.Unmarshal(text, &failure); err != nil {
		return fmt.Errorf("result of a test: %w", err)
	}
	r.kind, r.message = failure[0], failure[1]
	return nil
}

// parseResults reads the client's output, which ends with the results.
func parseResults(out []byte) (results, error) {
	start := 0
	if !bytes.HasPrefix(out, []byte("{")) {
		start = bytes.Index(out, []byte("\n{")) + 1
	}
	r := results{}
	if err := json.Unmarshal(out[start:], &r); err != nil {
		return nil, fmt.Errorf("results of the tests: %w", err)
	}
	return r, nil
}

// passAlso takes the passes of a second run over.
func (r results) passAlso(second results) {
	for id, again := range second {
		if again.passed {
			r[id] = again
		}
	}
}

// A score is one test with its verdict.
type score struct {
	test
	verdict verdict
	message string
}

// score judges all tests that count: those that are not for browsers, and have a
// right answer.
func (c *catalogue) score(r results) []score {
	var scores []score
	for _, g := range c.Tests {
		for _, t := range g.Tests {
			if !t.BrowserOnly && t.kind() != check {
				scores = append(scores, score{t, c.judge(t.ID, r), r[t.ID].message})
			}
		}
	}
	return scores
}

// judge applies the suite's own rules, in their order: without a result, a test was
// not tried; one that depends on what did not pass says nothing; then counts what
// it says itself.
func (c *catalogue) judge(id string, r results) verdict {
	result, tried := r[id]
	if !tried {
		return untested
	}
	if t := c.find(id); t != nil {
		for _, other := range t.DependsOn {
			if c.judge(other, r) != passed {
				return dependency
			}
		}
	}
	switch {
	case result.passed:
		return passed
	case result.kind == "Setup":
		return setup
	}
	return failed
}

func (c *catalogue) find(id string) *test {
	for _, g := range append(c.Tests, c.Draft) {
		for i := range g.Tests {
			if g.Tests[i].ID == id {
				return &g.Tests[i]
			}
		}
	}
	return nil
}

// A tally counts the passes of one kind of tests.
type tally struct{ passed, total int }

// String returns both numbers.
func (t tally) String() string { return fmt.Sprintf("%d/%d", t.passed, t.total) }

// count counts the passes of a group by kind.
func (c *catalogue) count(g *group, r results) map[string]tally {
	tallies := map[string]tally{}
	for _, t := range g.Tests {
		if t.BrowserOnly {
			continue
		}
		n := tallies[t.kind()]
		n.total++
		if c.judge(t.ID, r) == passed {
			n.passed++
		}
		tallies[t.kind()] = n
	}
	return tallies
}

// write prints the passes of each group, and the sums in the last line.
func (c *catalogue) write(out io.Writer, r results) {
	sums := map[string]tally{}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join([]string{"suite", required, optimal, "yes"}, "\t"))
	for i := range c.Tests {
		n := c.count(&c.Tests[i], r)
		fmt.Fprintf(w, "%s\t%v\t%v\t%v\n", c.Tests[i].ID, n[required], n[optimal], n[check])
		for kind, t := range n {
			sum := sums[kind]
			sums[kind] = tally{sum.passed + t.passed, sum.total + t.total}
		}
	}
	n := c.count(&c.Draft, r)
	fmt.Fprintf(w, "(%s)\t%v\t%v\t%v\n", c.Draft.ID, n[required], n[optimal], n[check])
	w.Flush()
	fmt.Fprintf(out, "%s %v %s %v\n", required, sums[required], optimal, sums[optimal])
}
