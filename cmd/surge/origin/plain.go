package origin

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// An ask is what the query of a request wants of its answer.
type ask struct {
	bytes  int64
	cache  int64 // seconds of max-age; negative is no Cache-Control
	status int
	slow   float64       // times the service time
	draw   int64         // which of the seed's service times it gets; negative is the next
	stream int64         // events to send; negative is without end, 0 is no stream
	every  time.Duration // between two events
}

// parseAsk reads the query. A request for Config.Work has a query of its own, of
// which only slow and draw are read here.
func (o *Origin) parseAsk(r *http.Request, plain bool) (ask, error) {
	a := ask{bytes: o.c.Body, cache: -1, status: http.StatusOK, slow: 1, draw: -1, every: time.Second}
	if r.URL.Path == "/events" {
		a.stream = -1
	}
	query := r.URL.Query()
	if f, err := strconv.ParseFloat(query.Get("slow"), 64); err == nil && f > 0 && f <= 1000 {
		a.slow = f
	} else if query.Has("slow") {
		return a, fmt.Errorf("slow=%s: want a number above 0, up to 1000", query.Get("slow"))
	}
	if err := parseNumbers(query, []number{{"draw", &a.draw, 0, math.MaxInt64}}); err != nil || !plain {
		return a, err
	}
	status := int64(a.status)
	err := parseNumbers(query, []number{
		{"bytes", &a.bytes, 0, maxBody},
		{"cache", &a.cache, 0, 1 << 31},
		{"status", &status, 200, 599},
		{"stream", &a.stream, 1, 1 << 31},
	})
	if err != nil {
		return a, err
	}
	a.status = int(status)
	if query.Has("every") {
		a.every, err = time.ParseDuration(query.Get("every"))
		if err != nil || a.every <= 0 {
			return a, fmt.Errorf("every=%s: want a time such as 1s", query.Get("every"))
		}
	}
	return a, nil
}

type number struct {
	key      string
	into     *int64
	min, max int64
}

func parseNumbers(query url.Values, numbers []number) error {
	for _, n := range numbers {
		if !query.Has(n.key) {
			continue
		}
		v, err := strconv.ParseInt(query.Get(n.key), 10, 64)
		if err != nil || v < n.min || v > n.max {
			return fmt.Errorf("%s=%s: want a number from %d to %d", n.key, query.Get(n.key), n.min, n.max)
		}
		*n.into = v
	}
	return nil
}

// filler is what plain answers are made of.
var filler = func() []byte {
	b := make([]byte, 32<<10)
	for i := range b {
		b[i] = "spillway reference origin\n"[i%26]
	}
	return b
}()

func (o *Origin) sendPlain(w http.ResponseWriter, r *http.Request, a ask, gone <-chan struct{}) {
	h := w.Header()
	if a.cache >= 0 {
		h.Set("Cache-Control", "max-age="+strconv.FormatInt(a.cache, 10))
	}
	if a.stream != 0 {
		o.sendEvents(w, r, a, gone)
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	// RFC 9110 section 8.6: no Content-Length in a 204; a 304 has no content.
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		w.WriteHeader(a.status)
		return
	}
	h.Set("Content-Length", strconv.FormatInt(a.bytes, 10))
	w.WriteHeader(a.status)
	if r.Method == http.MethodHead {
		return
	}
	for rest := a.bytes; rest > 0; {
		n, err := w.Write(filler[:min(rest, int64(len(filler)))])
		if err != nil {
			return // the client has left
		}
		rest -= int64(n)
	}
}

// sendEvents streams events until there were enough, the client leaves or the
// origin dies. It holds no slot: an idle stream costs an origin memory, not work.
func (o *Origin) sendEvents(w http.ResponseWriter, r *http.Request, a ask, gone <-chan struct{}) {
	w.Header().Set("Content-Type", "text/event-stream")
	if a.cache < 0 {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.WriteHeader(a.status)
	flusher := http.NewResponseController(w)
	if r.Method == http.MethodHead || flusher.Flush() != nil {
		return
	}
	o.countStream(1)
	defer o.countStream(-1)
	ticker := time.NewTicker(a.every)
	defer ticker.Stop()
	for i := int64(1); ; i++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %d\n\n", i, time.Now().UnixMilli()); err != nil {
			return
		}
		if flusher.Flush() != nil || i == a.stream {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-gone:
			panic(http.ErrAbortHandler)
		}
	}
}

func (o *Origin) countStream(n int) {
	o.mu.Lock()
	o.count.Streams += n
	o.mu.Unlock()
}
