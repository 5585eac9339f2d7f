package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of what the parser is given: its time grows with the square of the
// lines, and faster with the depth. Not knobs; a node with a thousand sites stays
// below them, and no setting stands deeper than ten levels.
const (
	maxLines = 20_000
	maxMarks = 40_000 // commas and opening brackets, whatever they mean
	maxDepth = 32
)

// An excess is what is too large to be parsed.
type excess struct {
	at              place
	message, remedy string
}

// Error implements error.
func (e *excess) Error() string { return e.message }

// bound returns an excess, or nil when the text can be parsed in little time.
func bound(data []byte) error {
	var d depth
	for start := 0; start < len(data); {
		length := bytes.IndexByte(data[start:], '\n') + 1
		if length == 0 {
			length = len(data) - start
		}
		if at := d.line(data[start : start+length]); at >= 0 {
			return &excess{
				placeAt(data, start+at), fmt.Sprintf("values are nested more than %d deep here", maxDepth),
				"no setting is that deep: look for brackets or dashes that are too many",
			}
		}
		start += length
	}
	for _, b := range []struct {
		set, what string
		most      int
	}{{"\r\n", "lines", maxLines}, {",[{", "commas and brackets", maxMarks}} {
		if at := nth(data, b.set, b.most); at >= 0 {
			return &excess{
				placeAt(data, at), fmt.Sprintf("there are more than %d %s up to here", b.most, b.what),
				"name a configuration; one of a thousand sites is smaller",
			}
		}
	}
	return nil
}

// nth returns where the byte after n others of the set stands, or -1. A line
// that ends in CR and LF has one end.
func nth(data []byte, set string, n int) int {
	for i, c := range data {
		if strings.IndexByte(set, c) < 0 || c == '\r' && i+1 < len(data) && data[i+1] == '\n' {
			continue
		}
		if n--; n < 0 {
			return i
		}
	}
	return -1
}

func placeAt(data []byte, offset int) place {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return place{line: bytes.Count(before, []byte("\n")) + 1, column: utf8.RuneCount(before[start:]) + 1}
}

// A depth follows how deep the values of a text are nested. It knows as much of
// YAML as is needed for that, and is right for what the parser takes.
type depth struct {
	indents []int // of the groups and lists around the line
	flow    int   // brackets that are open
	quote   byte  // that is open, or 0
	fresh   bool  // a value may begin here
}

// line takes one line in, and returns where it is too deep, or -1.
func (d *depth) line(text []byte) int {
	start := 0
	if d.flow == 0 && d.quote == 0 {
		if start = d.indent(text); len(d.indents) > maxDepth {
			return start
		}
		d.fresh = true
	}
	for i := start; i < len(text); i++ {
		switch c := text[i]; {
		case d.quote != 0:
			i += d.quoted(text[i:])
		case c == '#' && (i == 0 || blank(text[i-1])):
			return -1
		case blank(c):
		case d.fresh && (c == '"' || c == '\''):
			d.quote = c
		case (d.fresh || d.flow > 0) && (c == '[' || c == '{'):
			if d.flow++; len(d.indents)+d.flow > maxDepth {
				return i
			}
			d.fresh = true
		default:
			i += d.plain(text[i:])
		}
	}
	return -1
}

// indent notes how far the line is indented; each dash begins a list in the line
// itself. It returns where the first value begins.
func (d *depth) indent(text []byte) int {
	for i := range text {
		if text[i] == ' ' {
			continue
		}
		if blank(text[i]) || text[i] == '#' {
			return i // nothing stands in this line
		}
		for len(d.indents) > 0 && d.indents[len(d.indents)-1] >= i {
			d.indents = d.indents[:len(d.indents)-1]
		}
		d.indents = append(d.indents, i)
		isItem := (text[i] == '-' || text[i] == '?') && (i+1 == len(text) || blank(text[i+1]))
		if !isItem || len(d.indents) > maxDepth {
			return i
		}
	}
	return len(text)
}

// quoted goes on in a quoted text, and returns how many bytes it took beside the
// first.
func (d *depth) quoted(text []byte) int {
	pair := len(text) > 1 && text[0] == '\'' && text[1] == '\''
	switch {
	case d.quote == '"' && text[0] == '\\', d.quote == '\'' && pair:
		return 1
	case text[0] == d.quote:
		d.quote, d.fresh = 0, false
	}
	return 0
}

// plain goes on in a text without quotes, and returns how many bytes it took
// beside the first.
func (d *depth) plain(text []byte) int {
	switch c := text[0]; {
	case d.fresh && (c == '&' || c == '!'): // marks a value, which follows
		if end := bytes.IndexAny(text, " \t\r\n"); end >= 0 {
			return end
		}
		return len(text) - 1
	case d.flow > 0 && (c == ']' || c == '}'):
		d.flow--
		d.fresh = false
	case c == ':':
		d.fresh = d.flow > 0 || len(text) == 1 || blank(text[1])
	default:
		d.fresh = d.flow > 0 && c == ','
	}
	return 0
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
