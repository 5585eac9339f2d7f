package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Severity says whether a problem keeps a configuration from being used.
type Severity string

// A configuration with an Error is refused; one with a Warning works, and is
// probably not meant.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Problem is one thing that is wrong with a configuration. Its keys in JSON do
// not change from version to version.
type Problem struct {
	Severity Severity `json:"severity"`
	// File, Line and Column say where; Line is 0 when the file as a whole or an
	// environment variable is wrong. Column counts characters from 1.
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Key is the full name of the setting, such as sites[0].routes[1].origin.
	Key string `json:"key"`
	// Variable is the environment variable that holds the value, if one does.
	Variable string `json:"variable"`
	// Message says what is wrong, Remedy what to do. Neither is empty.
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
	// Excerpt is the source line with a caret under the column.
	Excerpt string `json:"excerpt"`
}

// String writes the problem on one line, as compilers do, and the excerpt below
// it.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Variable != "":
		b.WriteString(p.Variable)
	case p.Line == 0:
		b.WriteString(p.File)
	default:
		fmt.Fprintf(&b, "%s:%d:%d", p.File, p.Line, p.Column)
	}
	if p.Severity == Warning {
		b.WriteString(": warning")
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	b.WriteString(": " + p.Message + "; " + p.Remedy)
	if p.Excerpt != "" {
		b.WriteString("\n" + p.Excerpt)
	}
	return b.String()
}

// Problems is the error of a configuration that does not pass: everything that
// is wrong with it, in the order of the file. Warnings come as Problems too.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// place is where a node of the configuration stands: in the file, or in an
// environment variable.
type place struct {
	line, column int
	variable     string
}

// report collects problems, and knows where each key stands.
type report struct {
	file     string
	lines    []string
	places   map[string]place
	hidden   map[int]bool // lines that hold a secret
	problems Problems
	settled  int // problems that were known when the settings were looked at together
}

func newReport(file string, data []byte) *report {
	return &report{file: file, lines: strings.Split(string(data), "\n"), places: map[string]place{}, hidden: map[int]bool{}}
}

// add notes an error in the setting.
func (r *report) add(key, message, remedy string) {
	if !r.follows(key) {
		r.addAt(r.place(key), key, message, remedy)
	}
}

// warn notes a setting that works, and is probably not meant.
func (r *report) warn(key, message, remedy string) {
	r.problems = append(r.problems, r.problem(Warning, r.place(key), key, message, remedy))
}

func (r *report) addAt(at place, key, message, remedy string) {
	r.problems = append(r.problems, r.problem(Error, at, key, message, remedy))
}

func (r *report) problem(s Severity, at place, key, message, remedy string) Problem {
	return Problem{
		Severity: s, File: r.file, Line: at.line, Column: at.column, Variable: at.variable,
		Key: key, Message: message, Remedy: remedy, Excerpt: r.excerpt(at),
	}
}

// hide keeps a line out of all excerpts: problems are shown, logged and copied
// into reports of others.
func (r *report) hide(line int) {
	r.hidden[line] = true
	for i := range r.problems {
		if r.problems[i].Line == line {
			r.problems[i].Excerpt = ""
		}
	}
}

// place returns where the key stands, or else where what surrounds it does.
func (r *report) place(key string) place {
	at, ok := r.places[key]
	for !ok && key != "" {
		key = outer(key)
		at, ok = r.places[key]
	}
	return at
}

// settle ends the look at single settings. What they lack is left out from now
// on, and an error that would follow from the lack is not reported.
func (r *report) settle() { r.settled = len(r.problems) }

func (r *report) follows(key string) bool {
	group := cmp.Or(outer(key), key)
	return slices.ContainsFunc(r.problems[:r.settled], func(p Problem) bool {
		return within(p.Key, group) || within(key, p.Key)
	})
}

// outer returns the name of what surrounds the key.
func outer(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

func within(key, group string) bool {
	rest, found := strings.CutPrefix(key, group)
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// maxProblems bounds how many problems are shown; not a knob. Who has more
// named the wrong file.
const maxProblems = 100

// err returns all problems in the order of the file, those of the environment
// last, or nil.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	r.sort()
	return r.problems
}

func (r *report) sort() {
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Variable, b.Variable), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(r.problems) - maxProblems; more > 0 {
		r.problems = r.problems[:maxProblems]
		r.problems = append(r.problems, r.problem(r.problems[0].Severity, place{}, "",
			fmt.Sprintf("there are %d more", more), "mend those above first"))
	}
}

// excerptWidth is how much of a long line an excerpt shows; not a knob.
const excerptWidth = 100

// excerpt shows the line with a caret below the column. Characters that a
// terminal would act on are replaced.
func (r *report) excerpt(at place) string {
	if at.line < 1 || at.line > len(r.lines) || r.hidden[at.line] {
		return ""
	}
	text := []rune(strings.TrimRight(r.lines[at.line-1], "\r"))
	caret := min(max(at.column-1, 0), len(text))
	if start := max(0, caret-excerptWidth/2); len(text) > excerptWidth {
		text, caret = text[start:min(start+excerptWidth, len(text))], caret-start
	}
	for i, c := range text {
		if c == '\t' {
			text[i] = ' '
		} else if !unicode.IsPrint(c) {
			text[i] = '?'
		}
	}
	number := strconv.Itoa(at.line)
	return fmt.Sprintf("  %s | %s\n  %s | %s^",
		number, string(text), strings.Repeat(" ", len(number)), strings.Repeat(" ", caret))
}

// meant returns the candidate that the word is most likely a misspelling of, as
// a remedy, or an empty string when none is near.
func meant(word string, candidates []string) string {
	near := nearest(word, candidates)
	if near == "" {
		return ""
	}
	return "did you mean " + near + "?"
}

// nearest returns the candidate that is few edits away from the word, or an
// empty string.
func nearest(word string, candidates []string) string {
	best, least := "", min(3, len(word)/2)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// meantOr is meant, with all candidates when none is near.
func meantOr(word string, candidates []string, list string) string {
	return cmp.Or(meant(word, candidates), list+strings.Join(candidates, ", "))
}

// distance counts the edits that turn a into b: insertions, deletions,
// replacements and swaps of neighbours.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			replace := prev[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			cur[j] = min(replace, prev[j]+1, cur[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
