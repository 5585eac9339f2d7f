package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// A failure is a test that is known not to pass.
type failure struct {
	reason string
	shown  string // the test of ours that shows the rule instead: package.TestName
}

// readFailures reads the known failures: lines of a test's id, the reason and our
// own test, parted by tabs.
func readFailures(file string) (map[string]failure, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	known := map[string]failure{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: not three fields: %q", file, line)
		}
		known[fields[0]] = failure{reason: fields[1], shown: fields[2]}
	}
	return known, nil
}

// compare returns a line for each difference between what is known to fail and
// what does.
func compare(scores []score, known map[string]failure) (surprises []string) {
	there := map[string]bool{}
	for _, s := range scores {
		there[s.ID] = true
		switch _, listed := known[s.ID]; {
		case s.verdict != passed && !listed:
			surprises = append(surprises, fmt.Sprintf("%s (%s): %s %s", s.verdict, s.kind(), s.ID, s.message))
		case s.verdict == passed && listed:
			surprises = append(surprises, "passes now, and is to be taken out of testdata/failures.txt: "+s.ID)
		}
	}
	for id := range known {
		if !there[id] {
			surprises = append(surprises, "is in testdata/failures.txt, and no test that counts: "+id)
		}
	}
	slices.Sort(surprises)
	return surprises
}
