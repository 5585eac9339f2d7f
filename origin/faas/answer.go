package faas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// whole is the body of an answer that is in memory already.
type whole struct {
	*bytes.Reader
	// received is how many bytes came for it, if that is known: encoded, an answer is
	// larger than its body.
	received int64
}

func (whole) Close() error { return nil }

// DecodeAnswer reads what a function returned to a request of the given method,
// in AWS Lambda's payload format 2.0. JSON without a statusCode is the body of a
// 200, as HTTP APIs and function URLs read it. An answer that makes no sense is
// the function's failure, an *[Error].
func DecodeAnswer(payload []byte, method string) (*http.Response, error) {
	// A map keeps the names exact: struct fields would match statuscode, too.
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); errors.As(err, new(*json.SyntaxError)) {
		return nil, garbage(err)
	} else if err != nil || fields["statusCode"] == nil {
		h := http.Header{"Content-Type": {"application/json"}}
		return respond(http.StatusOK, h, bytes.TrimSpace(payload), method), nil
	}
	resp, err := answer(fields, answerHeader, method)
	if err != nil {
		return nil, garbage(err)
	}
	return resp, nil
}

// garbage is the failure of a function whose answer makes no sense.
func garbage(err error) *Error {
	return &Error{Class: FunctionError, Executed: true, Err: fmt.Errorf("decode answer: %w", err)}
}

// answer makes a response of what a function returned, whose header is read as its
// format has it.
func answer(
	fields map[string]json.RawMessage, readHeader func(map[string]json.RawMessage) (http.Header, error), method string,
) (*http.Response, error) {
	status, err := answerStatus(fields["statusCode"])
	if err != nil {
		return nil, err
	}
	header, err := readHeader(fields)
	if err != nil {
		return nil, err
	}
	body, err := answerBody(fields)
	if err != nil {
		return nil, err
	}
	return respond(status, header, body, method), nil
}

// answerStatus takes a whole number or, as some functions write it, its digits in
// quotes. What only comes to one, such as 200.0 or +200, is taken for a mistake.
func answerStatus(raw json.RawMessage) (int, error) {
	digits := strings.Trim(string(raw), `"`)
	status, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("statusCode %.40s is not a whole number", raw)
	}
	if status < 200 || status > 599 {
		return 0, fmt.Errorf("statusCode %d is not a final status", status)
	}
	return int(status), nil
}

func answerHeader(fields map[string]json.RawMessage) (http.Header, error) {
	header, err := singleValues(fields)
	if err != nil {
		return nil, err
	}
	// Format 1.0 has these; functions that were written for it go on working.
	multi, err := multiValues(fields)
	if err != nil {
		return nil, err
	}
	for name, values := range multi {
		if name == "Set-Cookie" {
			values = merged(header[name], values) // two cookies are no contradiction
		}
		header[name] = values
	}
	var cookies []string
	if err := unmarshal(fields, "cookies", &cookies); err != nil {
		return nil, err
	}
	for _, cookie := range cookies {
		header.Add("Set-Cookie", cookie)
	}
	return header, nil
}

// merged returns values and, behind them, those of more that are not among them.
func merged(values, more []string) []string {
	seen := map[string]bool{}
	for _, value := range values {
		seen[value] = true
	}
	for _, value := range more {
		if !seen[value] {
			seen[value], values = true, append(values, value)
		}
	}
	return values
}

// singleValues reads the headers that have one value each. Of names that differ in
// case only always the same one wins; but functions write Set-Cookie in several
// ways to set several cookies, and all of those count.
func singleValues(fields map[string]json.RawMessage) (http.Header, error) {
	var single map[string]json.RawMessage
	if err := unmarshal(fields, "headers", &single); err != nil {
		return nil, err
	}
	header := http.Header{}
	for _, name := range slices.Sorted(maps.Keys(single)) {
		value, err := fieldValue(single[name])
		switch {
		case err != nil:
			return nil, fmt.Errorf("header field %.40q: %w", name, err)
		case value == nil:
		case http.CanonicalHeaderKey(name) == "Set-Cookie":
			header.Add(name, *value)
		default:
			header.Set(name, *value)
		}
	}
	return header, nil
}

// multiValues reads the headers that have lists of values.
func multiValues(fields map[string]json.RawMessage) (http.Header, error) {
	var multi map[string][]json.RawMessage
	if err := unmarshal(fields, "multiValueHeaders", &multi); err != nil {
		return nil, err
	}
	header := http.Header{}
	for _, name := range slices.Sorted(maps.Keys(multi)) {
		for _, raw := range multi[name] {
			value, err := fieldValue(raw)
			if err != nil {
				return nil, fmt.Errorf("header field %.40q: %w", name, err)
			}
			if value != nil {
				header.Add(name, *value)
			}
		}
	}
	return header, nil
}

// fieldValue is a header's value, or nil for null. A number stays as the function
// wrote it: as a float, a length of eight digits would get an exponent.
func fieldValue(raw json.RawMessage) (*string, error) {
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return &text, err
	case '{', '[':
		return nil, errors.New("neither text nor a number")
	case 'n':
		return nil, nil
	}
	return new(string(raw)), nil
}

func answerBody(fields map[string]json.RawMessage) ([]byte, error) {
	var encoded bool
	if err := unmarshal(fields, "isBase64Encoded", &encoded); err != nil {
		return nil, err
	}
	raw := fields["body"]
	if encoded && len(raw) > 1 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		// A picture is large and has nothing to unescape: it is read once, not thrice.
		return decodeBase64(raw[1 : len(raw)-1])
	}
	var text string
	if err := unmarshal(fields, "body", &text); err != nil {
		return nil, err
	}
	if encoded {
		return decodeBase64([]byte(text))
	}
	return []byte(text), nil
}

// decodeBase64 forgives missing padding and nothing else.
func decodeBase64(text []byte) ([]byte, error) {
	encoding := base64.RawStdEncoding
	if bytes.HasSuffix(text, []byte("=")) {
		encoding = base64.StdEncoding
	}
	if i := max(bytes.IndexByte(text, '\r'), bytes.IndexByte(text, '\n')); i >= 0 { // the decoder passes over these
		return nil, fmt.Errorf("body is not base64: %w", base64.CorruptInputError(i))
	}
	body := make([]byte, encoding.DecodedLen(len(text)))
	n, err := encoding.Strict().Decode(body, text)
	if err != nil {
		return nil, fmt.Errorf("body is not base64: %w", err)
	}
	return body[:n], nil
}

// unmarshal reads one field; a missing one and null leave v as it is.
func unmarshal(fields map[string]json.RawMessage, name string, v any) error {
	if fields[name] == nil {
		return nil
	}
	if err := json.Unmarshal(fields[name], v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// respond makes a response of an answer that is in memory.
func respond(status int, h http.Header, body []byte, method string) *http.Response {
	length := int64(len(body))
	switch {
	case status == http.StatusNoContent, status == http.StatusNotModified:
		// RFC 9110 section 6.4.1: no body, whatever the function says.
		body, length = nil, -1
	case method == http.MethodHead:
		if length == 0 {
			length = declaredLength(h)
		}
		body = nil
	}
	return &http.Response{
		Status:     strconv.Itoa(status) + " " + http.StatusText(status),
		StatusCode: status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        h,
		Body:          whole{Reader: bytes.NewReader(body)},
		ContentLength: length,
	}
}

// declaredLength is the length that a HEAD answer tells, or -1 if it tells none
// that can be believed.
func declaredLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
