package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"spillway/origin/faas"
)

// Bounds of the host. Not knobs: an invocation that outlives the first is cut off
// when the host stops.
const (
	drainTimeout  = 5 * time.Second
	headerTimeout = 5 * time.Second
)

// HostConfig describes the function host: what it listens on and which functions
// it runs.
type HostConfig struct {
	// Socket is the path of the unix socket, which the host creates with mode 0660.
	Socket    string
	Functions map[string]FunctionConfig
	Log       *slog.Logger
}

// A Host runs functions and takes calls for them.
type Host struct {
	log       *slog.Logger
	socket    string
	listener  net.Listener
	inode     fs.FileInfo // of the socket
	functions map[string]*pool
	spawner   *spawner
	throttle  atomic.Bool
}

// NewHost checks the functions and opens the socket. It starts nothing; Run must
// be called, which closes the socket.
func NewHost(c HostConfig) (*Host, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := &Host{log: c.Log, socket: c.Socket, functions: map[string]*pool{}, spawner: newSpawner()}
	for name, fc := range c.Functions {
		fc, err := fc.complete()
		if err != nil {
			return nil, fmt.Errorf("function %s: %w", name, err)
		}
		h.functions[name] = newPool(name, fc, h.spawner, c.Log.With("function", name))
	}
	var err error
	if h.listener, h.inode, err = listen(c.Socket); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.Socket, err)
	}
	return h, nil
}

// Run takes calls until ctx ends, then lets those in flight finish for a short
// while, kills all functions and returns.
func (h *Host) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(h.spawner.run)
	stop := make(chan struct{})
	for _, p := range h.functions {
		background.Go(func() { p.retireIdle(stop) })
	}
	server := &http.Server{Handler: h.handler(), ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	background.Go(func() { served <- server.Serve(h.listener) })
	h.log.Info("function host listening on unix:" + h.socket)

	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve %s: %w", h.socket, err)
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		if server.Shutdown(drain) != nil {
			server.Close()
		}
		cancel()
	}
	close(stop)
	for _, p := range h.functions {
		p.close()
	}
	h.spawner.close()
	background.Wait()
	return errors.Join(err, unlisten(h.socket, h.inode))
}

func (h *Host) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+fmt.Sprintf(invokePath, "{name}"), h.invoke)
	mux.HandleFunc("POST /throttle", h.setThrottle)
	mux.HandleFunc("GET /stats", h.serveStats)
	return mux
}

// invoke is Lambda's Invoke API, as far as a provider needs it.
func (h *Host) invoke(w http.ResponseWriter, r *http.Request) {
	p := h.functions[r.PathValue("name")]
	if p == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "there is no function "+r.PathValue("name"))
		return
	}
	if h.throttle.Load() {
		p.stats.throttled.Add(1)
		refuse(w, http.StatusTooManyRequests, tooManyRequests, "throttled by the operator")
		return
	}
	payload, err := readAll(r.Body, faas.MaxPayload)
	if errors.Is(err, errTooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", fmt.Sprintf("payload is over %d bytes", faas.MaxPayload))
		return
	}
	if err != nil {
		return // the caller is gone
	}
	result, err := p.invoke(r.Context(), payload)
	if err != nil {
		var e *platformError
		if errors.As(err, &e) {
			refuse(w, e.status, e.kind, e.message)
		}
		return
	}
	if result.failed {
		w.Header().Set("X-Amz-Function-Error", "Unhandled")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amz-Executed-Version", "$LATEST")
	w.Header().Set("Content-Length", strconv.Itoa(len(result.payload)))
	_, _ = w.Write(result.payload) // a caller that is gone needs no answer
}

const tooManyRequests = "TooManyRequestsException"

// refuse answers as Lambda does when the platform, not the function, fails.
func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-ErrorType", kind)
	writeJSON(w, status, map[string]string{"Type": "User", "Message": message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that is gone needs no answer
}

// setThrottle makes the host turn all calls away, as a platform at its limit
// would: POST /throttle?on=1 or ?on=0.
func (h *Host) setThrottle(w http.ResponseWriter, r *http.Request) {
	on, err := strconv.ParseBool(r.URL.Query().Get("on"))
	if err != nil {
		http.Error(w, "say ?on=1 or ?on=0", http.StatusBadRequest)
		return
	}
	if h.throttle.Swap(on) != on {
		h.log.Info("throttle set by the operator", "on", on)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Host) serveStats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, h.Stats())
}

// Stats is what the host did since it started.
type Stats struct {
	Throttle  bool                     `json:"throttle"`
	Functions map[string]FunctionStats `json:"functions"`
}

// Stats returns a snapshot.
func (h *Host) Stats() Stats {
	s := Stats{Throttle: h.throttle.Load(), Functions: map[string]FunctionStats{}}
	for name, p := range h.functions {
		s.Functions[name] = p.snapshot()
	}
	return s
}

// kill ends a whole process group. A group that is gone already is no error.
func kill(group int) { _ = syscall.Kill(-group, syscall.SIGKILL) }
