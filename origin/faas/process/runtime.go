package process

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"spillway/origin/faas"
)

// An invocation is one call on its way to an instance and back.
type invocation struct {
	id      string
	payload []byte
	done    chan result // takes one result
}

// A result is what a function returned, or the report of its failure.
type result struct {
	payload []byte
	failed  bool
}

func newInvocation(payload []byte) *invocation {
	return &invocation{id: newID(), payload: payload, done: make(chan result, 1)}
}

// newID is a random UUID of version 4, RFC 9562 section 5.4: runtimes print it.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// finish takes the first result and drops any other.
func (inv *invocation) finish(r result) {
	select {
	case inv.done <- r:
	default:
	}
}

// A report is how a runtime tells of a failure. A stack trace is left out: the
// function has printed it, and it is nobody else's business.
type report struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func failure(kind, message string) result {
	payload, err := json.Marshal(report{Type: kind, Message: message})
	if err != nil {
		panic("BUG: two strings cannot be encoded: " + err.Error())
	}
	return result{payload: payload, failed: true}
}

const (
	runtimePath = "/2018-06-01/runtime/"
	functionARN = "arn:aws:lambda:local:000000000000:function:"
)

// runtimeAPI is the Lambda Runtime API of one instance. What it does not know,
// such as the extensions API, answers 404, which runtimes accept.
func (p *pool) runtimeAPI(i *instance) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+runtimePath+"invocation/next", func(w http.ResponseWriter, r *http.Request) {
		if inv := i.wait(r); inv != nil {
			p.deliver(w, inv)
		}
	})
	mux.HandleFunc("POST "+runtimePath+"invocation/{id}/response", i.takeResponse)
	mux.HandleFunc("POST "+runtimePath+"invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) {
		report := readReport(r)
		i.answer(w, r, failure(report.Type, report.Message))
	})
	mux.HandleFunc("POST "+runtimePath+"init/error", func(w http.ResponseWriter, r *http.Request) {
		report := readReport(r)
		i.mu.Lock()
		i.failure = &report
		i.mu.Unlock()
		accepted(w)
	})
	return mux
}

// wait blocks until there is work. A runtime that asks for more without having
// answered has given up on what it had.
func (i *instance) wait(r *http.Request) *invocation {
	i.mu.Lock()
	abandoned := i.current
	i.current = nil
	i.mu.Unlock()
	if abandoned != nil {
		abandoned.finish(failure("Runtime.Unknown", "the runtime asked for more work without an answer"))
	}
	select {
	case inv := <-i.next:
		i.mu.Lock()
		i.current = inv
		i.mu.Unlock()
		return inv
	case <-r.Context().Done():
		return nil
	}
}

func (p *pool) deliver(w http.ResponseWriter, inv *invocation) {
	h := w.Header()
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(p.config.Timeout).UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", functionARN+p.name)
	h.Set("Lambda-Runtime-Trace-Id", "Root=1-"+strconv.FormatInt(time.Now().Unix(), 16)+"-"+inv.id[:8]+inv.id[24:]+"0000;Sampled=0")
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(inv.payload)))
	_, _ = w.Write(inv.payload) // a runtime that is gone is noticed by its exit
}

// takeResponse takes the function's answer; one that is too large fails.
func (i *instance) takeResponse(w http.ResponseWriter, r *http.Request) {
	payload, err := readAll(r.Body, faas.MaxAnswerLength)
	switch {
	case errors.Is(err, errTooLarge):
		message := fmt.Sprintf("response is over %d bytes", faas.MaxAnswerLength)
		if i.finish(r.PathValue("id"), failure("Function.ResponseSizeTooLarge", message)) {
			writeJSON(w, http.StatusRequestEntityTooLarge, report{Type: "RequestEntityTooLarge", Message: message})
			return
		}
		invalidID(w)
	case err != nil: // the runtime is gone; its exit tells
	default:
		i.answer(w, r, result{payload: payload})
	}
}

var errTooLarge = errors.New("body is too large")

// readAll reads a body of at most limit bytes. Of one that is larger it takes the
// rest, too, within reason, so that the sender gets to read the refusal.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	const reason = 64 << 20
	payload, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(payload)) <= limit {
		return payload, nil
	}
	_, _ = io.CopyN(io.Discard, r, reason) // a sender that breaks off needs no answer
	return nil, errTooLarge
}

// answer ends the current invocation.
func (i *instance) answer(w http.ResponseWriter, r *http.Request, res result) {
	if i.finish(r.PathValue("id"), res) {
		accepted(w)
		return
	}
	invalidID(w)
}

func (i *instance) finish(id string, r result) bool {
	i.mu.Lock()
	inv := i.current
	if inv == nil || inv.id != id {
		i.mu.Unlock()
		return false
	}
	i.current = nil
	i.mu.Unlock()
	inv.finish(r)
	return true
}

func accepted(w http.ResponseWriter) {
	writeJSON(w, http.StatusAccepted, map[string]string{"status": "OK"})
}

func invalidID(w http.ResponseWriter) {
	writeJSON(w, http.StatusBadRequest, report{Type: "InvalidRequestID", Message: "this invocation is not running"})
}

// readReport reads a runtime's report of a failure. What cannot be read is told
// by the header alone.
func readReport(r *http.Request) report {
	var rep report
	body, err := io.ReadAll(io.LimitReader(r.Body, faas.MaxAnswerLength))
	if err != nil || json.Unmarshal(body, &rep) != nil || rep.Type == "" {
		rep.Type = r.Header.Get("Lambda-Runtime-Function-Error-Type")
	}
	const longest = 1000
	rep.Message = rep.Message[:min(len(rep.Message), longest)]
	return rep
}
