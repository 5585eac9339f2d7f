package serve

import (
	"bytes"
	"context"
	"maps"
	"net/http"
)

// An Answer is a response held back until its time has come.
type Answer struct {
	Status int
	Body   bytes.Buffer
	header http.Header
}

// Record runs h. Its request does not end with the client: what a test bench
// emulates works on when its client has left.
func Record(h http.Handler, r *http.Request) *Answer {
	a := &Answer{header: http.Header{}}
	h.ServeHTTP(a, r.WithContext(context.WithoutCancel(r.Context())))
	a.WriteHeader(http.StatusOK)
	return a
}

// Header is the header of the response, as in http.ResponseWriter.
func (a *Answer) Header() http.Header { return a.header }

// WriteHeader takes the first status and ignores the others.
func (a *Answer) WriteHeader(status int) {
	if a.Status == 0 {
		a.Status = status
	}
}

// Write appends to the body.
func (a *Answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.Body.Write(p)
}

// Send writes the response and returns how much of its body went out.
func (a *Answer) Send(w http.ResponseWriter) int {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.Status)
	n, _ := w.Write(a.Body.Bytes()) // the client has left
	return n
}
