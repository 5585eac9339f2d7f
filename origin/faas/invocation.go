package faas

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What Lambda takes and lets through, encoding included: 6 MB each way. Its own
// emulator allows an answer 100 bytes more.
const (
	MaxPayload      = 6 << 20
	MaxAnswerLength = MaxPayload + 100
)

// A Decoder reads what a function returned to a request of the given method.
type Decoder func(payload []byte, method string) (*http.Response, error)

// DecodeInvocation reads the answer of AWS Lambda's Invoke API, which the
// function host speaks, too, to the request r. It closes the answer. What the
// function returned is read by decode: [DecodeAnswer] or [DecodeAnswerV1].
// Whatever is not the function's proper answer is an *[Error].
//
// What leaves the platform is what is paid for, so that an answer is held to
// [Request.MaxAnswer] as it is encoded, with what its header may have.
func DecodeInvocation(resp *http.Response, r *Request, decode Decoder) (*http.Response, error) {
	defer resp.Body.Close()
	limit := int64(MaxAnswerLength)
	if r.MaxAnswer > 0 {
		limit = min(limit, r.MaxAnswer+maxHeaderBytes)
	}
	payload, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	received := headerSize(resp.Header) + int64(len(payload))
	switch {
	case err != nil:
		received = max(received, resp.ContentLength) // the rest was under way
		err = &Error{Class: Unavailable, Executed: true, Err: fmt.Errorf("receive answer: %w", err)}
	case int64(len(payload)) > limit:
		err = &Error{Class: TooLarge, Executed: true, Err: fmt.Errorf("answer of more than %d bytes", limit)}
	default:
		var answer *http.Response
		if answer, err = decodeInvocation(resp, payload, r.Method, decode); err == nil {
			if w, ok := answer.Body.(whole); ok {
				w.received = received
				answer.Body = w
			}
			return answer, nil
		}
	}
	e := AsError(err)
	// The platform answers when the function has ended.
	e.Received, e.Answered = received, true
	return nil, e
}

func decodeInvocation(resp *http.Response, payload []byte, method string, decode Decoder) (*http.Response, error) {
	if resp.StatusCode/100 != 2 {
		return nil, platformError(resp, payload)
	}
	if resp.Header.Get("X-Amz-Function-Error") != "" {
		return nil, functionError(payload)
	}
	return decode(payload, method)
}

// functionError is what a function that failed left behind. Only the type and
// the message are kept, for the log: a stack trace is nobody's business here.
func functionError(payload []byte) *Error {
	var report struct{ ErrorType, ErrorMessage string }
	if json.Unmarshal(payload, &report) != nil {
		report.ErrorType = "unknown"
	}
	class := FunctionError
	switch {
	case report.ErrorType == "Function.ResponseSizeTooLarge":
		class = TooLarge
	case report.ErrorType == "Sandbox.Timedout", strings.Contains(report.ErrorMessage, "Task timed out after"):
		class = Timeout
	}
	return &Error{Class: class, Executed: true, Err: fmt.Errorf("function failed: %.80s: %.200s", report.ErrorType, report.ErrorMessage)}
}

// callerRate is the reason of a throttle that holds for a whole account in its
// region. The others are the function's own: it has no free instance, or may start
// no more of them just now.
const callerRate = "CallerRateLimitExceeded"

// refusals are the error types by which AWS says that it does not accept the
// caller, whatever status goes with them.
var refusals = map[string]bool{
	"AccessDeniedException": true, "ExpiredToken": true, "ExpiredTokenException": true,
	"IncompleteSignature": true, "IncompleteSignatureException": true, "InvalidClientTokenId": true,
	"InvalidSignatureException": true, "MissingAuthenticationToken": true, "MissingAuthenticationTokenException": true,
	"NotAuthorized": true, "OptInRequired": true, "RequestExpired": true, "SignatureDoesNotMatch": true,
	"UnrecognizedClientException": true,
}

// platformError is an answer that the platform gave in the function's stead, by
// its status and its error type.
func platformError(resp *http.Response, payload []byte) *Error {
	var report struct {
		Type, Message, Reason string
		RetryAfterSeconds     any // a number in the API's model, a string on the wire
	}
	_ = json.Unmarshal(payload, &report) // an answer without a report is told by its status
	kind, _, _ := strings.Cut(resp.Header.Get("X-Amzn-ErrorType"), ":")
	words := []string{"platform answered", strconv.Itoa(resp.StatusCode), fmt.Sprintf("%.80s", kind), fmt.Sprintf("%.80s", report.Reason)}
	said := strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
	e := &Error{
		RetryAfter: RetryAfter(resp.Header, time.Now()),
		Err:        fmt.Errorf("%s: %.200s", said, report.Message),
	}
	if seconds, err := strconv.ParseFloat(fmt.Sprint(report.RetryAfterSeconds), 64); err == nil && seconds > 0 && seconds < 3600 {
		e.RetryAfter = max(e.RetryAfter, time.Duration(seconds*float64(time.Second)))
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests, kind == "EC2ThrottledException":
		e.Class, e.AccountWide = Throttled, report.Reason == callerRate
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden, refusals[kind]:
		e.Class = Auth
	case resp.StatusCode == http.StatusRequestEntityTooLarge:
		e.Class = TooLarge
	case kind == "ServiceException", kind == "" && resp.StatusCode >= 500:
		// It does not say whether the function had begun.
		e.Class, e.Executed = Ambiguous, true
	default:
		e.Class = Unavailable
	}
	return e
}

// RetryAfter reads the field of RFC 9110 section 10.2.3, seconds or a date; zero
// if there is none.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}
