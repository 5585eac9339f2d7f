package functions

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

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
	case !ok || !e.knows(name):
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
	if denied := e.authenticate(r, payload); denied != nil {
		platformError(w, http.StatusForbidden, denied.kind, denied.message, nil)
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
	var ev event
	a := e.run(c, func() *serve.Answer {
		var request *http.Request
		if ev, badEvent = parseEvent(payload); badEvent == nil {
			request, badEvent = ev.request(r.Context())
		}
		if badEvent != nil {
			return nil
		}
		return e.work(request)
	})
	var result []byte
	if a != nil {
		result = ev.encodeResult(a)
	}
	e.sendResult(w, result, badEvent)
}

// knows reports whether there is a function of that name, which may be an ARN and
// have an alias or a version behind it.
func (e *Emulator) knows(segment string) bool {
	name, err := url.PathUnescape(segment)
	if err != nil || name == "" || strings.Contains(segment, "/") {
		return false
	}
	if _, rest, ok := strings.Cut(name, ":function:"); ok {
		name = rest
	}
	name, _, _ = strings.Cut(name, ":")
	return e.c.Function == "" || e.c.Function == name
}

// refuseInvoke answers a call that got no instance.
func (e *Emulator) refuseInvoke(w http.ResponseWriter, v verdict) {
	reason := "ConcurrentInvocationLimitExceeded"
	switch v {
	case overRamp:
		reason = "FunctionInvocationRateLimitExceeded"
	case overThrottle:
		e.mu.Lock()
		reason = e.reason
		e.mu.Unlock()
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

// sendResult writes the function's result, or its failure if there is none. Data out is the encoded result, which
// base64 makes a third larger than the body in it.
func (e *Emulator) sendResult(w http.ResponseWriter, result []byte, badEvent error) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amz-Executed-Version", "$LATEST")
	switch {
	case badEvent != nil:
		h.Set("X-Amz-Function-Error", "Unhandled")
		result = functionError("Runtime.BadEvent", badEvent.Error())
	case result == nil:
		h.Set("X-Amz-Function-Error", "Unhandled")
		result = functionError("Runtime.ExitError", "RequestId: 0 Error: Runtime exited with error: exit status 1")
	case len(result) > maxPayload:
		h.Set("X-Amz-Function-Error", "Unhandled")
		result = functionError("Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes).")
	}
	n, _ := w.Write(result) // the client has left
	e.sent(h, n)
}

func functionError(kind, message string) []byte {
	b, err := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message})
	if err != nil {
		panic("BUG: encode function error: " + err.Error())
	}
	return b
}
