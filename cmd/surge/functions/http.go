package functions

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"spillway/cmd/surge/serve"
)

// ServeHTTP answers a request:
//
//	/stats, /bill, /control        counters, the bill, and POST ?throttle=1&cap=5&fail=0.1
//	/2015-03-31/functions/NAME/invocations   Lambda's Invoke API (on that platform)
//	/function/NAME/*               the function, called with the rest (on OpenFaaS)
//	/*                             the function
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/stats":
		serve.JSON(w, e.Stats())
	case r.URL.Path == "/bill":
		serve.JSON(w, e.Bill())
	case r.URL.Path == "/control":
		e.serveControl(w, r)
	case e.c.Platform == Lambda && strings.HasPrefix(r.URL.Path, invokePrefix):
		e.serveInvoke(w, r)
	default:
		e.serveCall(w, r)
	}
}

func (e *Emulator) serveControl(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || serve.Proxied(r) {
		http.Error(w, "control wants a POST from this machine, not through a proxy", http.StatusForbidden)
		return
	}
	change, err := parseChange(r.URL.Query())
	if err == nil {
		err = e.Control(change)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	serve.JSON(w, e.Stats())
}

// parseChange reads the query of a control request. Unknown keys are errors: a
// misspelt key that changes nothing would spoil a measurement.
func parseChange(query url.Values) (Change, error) {
	var c Change
	for key := range query {
		value := query.Get(key)
		var err error
		switch key {
		case "throttle":
			c.Throttle = new(value == "1")
			if value != "0" && value != "1" {
				err = errors.New("want 0 or 1")
			}
		case "reason":
			c.Reason = &value
		case "cap":
			c.Cap = new(0)
			*c.Cap, err = strconv.Atoi(value)
		case "fail":
			c.Fail = new(0.0)
			*c.Fail, err = strconv.ParseFloat(value, 64)
		default:
			err = errors.New("unknown key: want throttle, reason, cap or fail")
		}
		if err != nil {
			return c, fmt.Errorf("%s=%s: %w", key, value, err)
		}
	}
	return c, nil
}

// serveCall is the plain HTTP front.
func (e *Emulator) serveCall(w http.ResponseWriter, r *http.Request) {
	// A server sees that its client left only once it has read the request.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	if err != nil {
		http.Error(w, "payload too large", http.StatusRequestEntityTooLarge)
		return
	}
	if e.c.Platform == OpenFaaS {
		r = withoutFunctionName(r)
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	c := e.begin()
	if c.verdict != cold && c.verdict != warm {
		e.refuse(w)
		return
	}
	a := e.run(c, func() *serve.Answer { return e.work(r) })
	if a == nil {
		e.sendCrash(w)
		return
	}
	e.sent(w.Header(), a.Send(w))
}

// withoutFunctionName strips the gateway's prefix, as the gateway does.
func withoutFunctionName(r *http.Request) *http.Request {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/function/")
	if !ok {
		return r
	}
	_, path, _ := strings.Cut(rest, "/")
	u, err := url.ParseRequestURI("/" + path)
	if err != nil {
		return r
	}
	u.RawQuery = r.URL.RawQuery
	out := *r
	out.URL = u
	return &out
}

// refuse answers a call that got no instance, in the shape of the platform.
func (e *Emulator) refuse(w http.ResponseWriter) {
	h := w.Header()
	switch e.c.Platform {
	case CloudRun:
		h.Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, "Rate exceeded.")
	case Azure:
		// No body and no marker: a caller cannot tell it from the function's own 429.
		w.WriteHeader(http.StatusTooManyRequests)
	case OpenFaaS:
		// The watchdog answers chunked, without a length.
		h.Set("X-Duration-Seconds", "0.000000")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "Concurrent request limit exceeded\n")
	default: // a Lambda function URL gives no reason, unlike the Invoke API
		h.Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"Message":"Too Many Requests"}`)
	}
}

// sendCrash answers for a function that failed, in the shape of the platform.
func (e *Emulator) sendCrash(w http.ResponseWriter) {
	switch e.c.Platform {
	case CloudRun:
		w.Header().Set("X-Google-Status", "crash")
		w.WriteHeader(http.StatusInternalServerError)
	case Azure:
		w.WriteHeader(http.StatusInternalServerError)
	case OpenFaaS:
		http.Error(w, "exit status 1", http.StatusInternalServerError)
	default:
		http.Error(w, "Internal Server Error", http.StatusBadGateway)
	}
}
