package exercise

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// A Kind is in what an answer differs.
type Kind string

// The kinds of differences, by which is looked for first.
const (
	Failed Kind = "failed" // the function gave no answer
	Status Kind = "status"
	Header Kind = "header"
	Body   Kind = "body"
)

// Kinds are all there are.
var Kinds = []Kind{Failed, Status, Header, Body}

// A Difference is the first that was found between two answers. The zero value is
// none.
type Difference struct {
	Kind Kind `json:"kind,omitempty"`
	// What says more of it: both statuses, the names of fields, a class of failures.
	// Values of fields are not told, since they may hold secrets.
	What string `json:"what,omitempty"`
}

// ErrUnreadable is why an answer of the origin could not be compared.
var ErrUnreadable = errors.New("the origin's answer cannot be read")

// Compare reads a function's answer to a request that the origin has answered. The
// error is that of reading it, or ErrUnreadable.
func (r *Rules) Compare(origin *Answer, function *http.Response) (Difference, error) {
	if origin.Status != function.StatusCode {
		return Difference{Status, fmt.Sprintf("%d and %d", origin.Status, function.StatusCode)}, nil
	}
	var differ []string
	for _, name := range r.fields {
		if !equalField(name, origin.Header[name], function.Header[name]) {
			differ = append(differ, name)
		}
	}
	if len(differ) > 0 {
		return Difference{Header, strings.Join(differ, ", ")}, nil
	}
	if !r.NeedsBody(origin.Status) {
		return Difference{}, nil
	}
	return r.compareBody(origin, function)
}

// equalField compares what a field says and not how it is written, where that is
// known.
func equalField(name string, a, b []string) bool {
	switch name {
	case "Content-Type":
		kind, parameters, err := mime.ParseMediaType(strings.Join(a, ","))
		other, others, failed := mime.ParseMediaType(strings.Join(b, ","))
		if err == nil && failed == nil {
			return kind == other && equalParameters(parameters, others)
		}
	case "Cache-Control", "Vary", "Allow", "Content-Language", "Accept-Ranges":
		return slices.Equal(list(a), list(b))
	}
	return strings.TrimSpace(strings.Join(a, ", ")) == strings.TrimSpace(strings.Join(b, ", "))
}

// equalParameters knows that a charset may be written in capitals (RFC 9110 section
// 8.3.2).
func equalParameters(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		other, ok := b[name]
		if !ok || value != other && !(name == "charset" && strings.EqualFold(value, other)) {
			return false
		}
	}
	return true
}

// compareBody decides by the origin's body how the two are read, so that one text is
// never taken for a value and the other for bytes.
func (r *Rules) compareBody(origin *Answer, function *http.Response) (Difference, error) {
	how := r.body
	want, err := digest(bytes.NewReader(origin.Body), origin.Header, how)
	if how == JSON && errors.Is(err, errNotJSON) {
		how = Exact
		want, err = digest(bytes.NewReader(origin.Body), origin.Header, how)
	}
	if err != nil {
		return Difference{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	switch got, err := digest(function.Body, function.Header, how); {
	case err == nil && got == want:
		return Difference{}, nil
	case err == nil:
		return Difference{Kind: Body}, nil
	case errors.Is(err, errNotJSON), errors.Is(err, errTooLong), errors.Is(err, errEncoding):
		return Difference{Body, err.Error()}, nil
	default:
		return Difference{}, err
	}
}
