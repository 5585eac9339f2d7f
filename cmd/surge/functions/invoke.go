package functions

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"unicode/utf8"

	"spillway/cmd/surge/serve"
)

const (
	invokePrefix = "/2015-03-31/functions/"
	invokeSuffix = "/invocations"
)

// serveInvoke is Lambda's Invoke API. Its errors are of two kinds: what the
// platform refuses has a status of 400 and more and an X-Amzn-Errortype; what the
// function failed has status 200 and an X-Amz-Function-Error.
func (e *Emulator) serveInvoke(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", fmt.Sprintf("00000000-0000-4000-8000-%012x", e.Stats().Arrived))
	name, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.EscapedPath(), invokePrefix), invokeSuffix)
	switch {
	case !ok || name == "" || strings.Contains(name, "/"):
		platformError(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found", nil)
		return
	case r.Method != http.MethodPost:
		platformError(w, http.StatusMethodNotAllowed, "MethodNotAllowedException", "want POST", nil)
		return
	}
	switch kind := r.Header.Get("X-Amz-Invocation-Type"); kind {
	case "", "RequestResponse":
	case "DryRun":
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		platformError(w, http.StatusBadRequest, "InvalidParameterValueException", "invocation type "+kind+" is not emulated", nil)
		return
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		platformError(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", "Request must be smaller than 6291456 bytes for the InvokeFunction operation", nil)
		return
	}
	if len(payload) > 0 && !json.Valid(payload) {
		platformError(w, http.StatusBadRequest, "InvalidRequestContentException", "Could not parse request body into json", nil)
		return
	}
	c := e.begin()
	if c.verdict != cold && c.verdict != warm {
		e.refuseInvoke(w, c.verdict)
		return
	}
	var badEvent error
	a := e.run(c, func() *serve.Answer {
		request, err := httpRequest(r, payload)
		if err != nil {
			badEvent = err
			return nil
		}
		return e.work(request)
	})
	e.sendResult(w, a, badEvent)
}

// refuseInvoke answers a call that got no instance.
func (e *Emulator) refuseInvoke(w http.ResponseWriter, v verdict) {
	reason := "ConcurrentInvocationLimitExceeded"
	switch v {
	case overRamp:
		reason = "FunctionInvocationRateLimitExceeded"
	case overThrottle:
		reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
	}
	platformError(w, http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.",
		map[string]string{"Reason": reason, "retryAfterSeconds": "1"})
}

func platformError(w http.ResponseWriter, status int, kind, message string, more map[string]string) {
	body := map[string]string{"Type": "User", "message": message}
	maps.Copy(body, more)
	w.Header().Set("X-Amzn-Errortype", kind)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has left
}

// sendResult writes the function's result. Data out is the encoded result, which
// base64 makes a third larger than the body in it.
func (e *Emulator) sendResult(w http.ResponseWriter, a *serve.Answer, badEvent error) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amz-Executed-Version", "$LATEST")
	var result []byte
	if a != nil {
		result = encodeResult(a)
	}
	switch {
	case badEvent != nil:
		h.Set("X-Amz-Function-Error", "Unhandled")
		result = functionError("Runtime.BadEvent", badEvent.Error())
	case a == nil:
		h.Set("X-Amz-Function-Error", "Unhandled")
		result = functionError("Runtime.ExitError", "RequestId: 0 Error: Runtime exited with error: exit status 1")
	case len(result) > maxPayload:
		h.Set("X-Amz-Function-Error", "Unhandled")
		result = functionError("Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes).")
	}
	n, _ := w.Write(result) // the client has left
	e.sent(n)
}

func functionError(kind, message string) []byte {
	b, err := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message})
	if err != nil {
		panic("BUG: encode function error: " + err.Error())
	}
	return b
}

// An event is payload format 2.0 as far as an HTTP handler needs it.
type event struct {
	Version         string            `json:"version"`
	RawPath         string            `json:"rawPath"`
	RawQueryString  string            `json:"rawQueryString"`
	Cookies         []string          `json:"cookies"`
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	RequestContext  struct {
		HTTP struct {
			Method string `json:"method"`
		} `json:"http"`
	} `json:"requestContext"`
}

// httpRequest is the request that an event describes, with the context of r.
func httpRequest(r *http.Request, payload []byte) (*http.Request, error) {
	var ev event
	if err := json.Unmarshal(payload, &ev); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	if ev.Version != "2.0" || !strings.HasPrefix(ev.RawPath, "/") || ev.RequestContext.HTTP.Method == "" {
		return nil, errors.New("event is not of payload format 2.0")
	}
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(ev.Body); err != nil {
			return nil, fmt.Errorf("decode event body: %w", err)
		}
	}
	target := "http://" + ev.Headers["host"] + ev.RawPath
	if ev.RawQueryString != "" {
		target += "?" + ev.RawQueryString
	}
	out, err := http.NewRequestWithContext(r.Context(), ev.RequestContext.HTTP.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	for name, value := range ev.Headers {
		out.Header.Set(name, value)
	}
	if len(ev.Cookies) > 0 {
		out.Header.Set("Cookie", strings.Join(ev.Cookies, "; "))
	}
	return out, nil
}

// encodeResult is the answer as a result of payload format 2.0.
func encodeResult(a *serve.Answer) []byte {
	result := struct {
		StatusCode      int               `json:"statusCode"`
		Headers         map[string]string `json:"headers"`
		Cookies         []string          `json:"cookies,omitempty"`
		Body            string            `json:"body"`
		IsBase64Encoded bool              `json:"isBase64Encoded"`
	}{StatusCode: a.Status, Headers: map[string]string{}}
	for name, values := range a.Header() {
		if name == "Set-Cookie" {
			result.Cookies = values
			continue
		}
		result.Headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	body := a.Body.Bytes()
	if result.IsBase64Encoded = !utf8.Valid(body); result.IsBase64Encoded {
		result.Body = base64.StdEncoding.EncodeToString(body)
	} else {
		result.Body = string(body)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // & as \u0026 would inflate what is billed
	if err := encoder.Encode(result); err != nil {
		panic("BUG: encode result: " + err.Error())
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}
