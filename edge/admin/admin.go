// Package admin is the node's listener for its operator: metrics, health,
// state, profiles, and the few controls that the wiring adds. It listens on a
// unix socket or on a loopback address and nowhere else, because it has no
// login: who may open the socket may use it.
//
// It does not share a listener, a limit or a queue with visitors, so that the
// operator sees what happens while the node is drowning. When it cannot listen,
// the node does not start; when it fails later, the node ends. Requests that a
// browser sends on behalf of a foreign page are refused.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where the listener is.
type Config struct {
	// Address is unix:PATH or a loopback address with a port.
	Address string
	// Inherited is the listener of the process before, which is used if it has the
	// address, and closed if not. Nil: there is none.
	Inherited net.Listener
}

// Options are what the listener shows.
type Options struct {
	// Metrics writes all metrics in Prometheus' text format.
	Metrics func(io.Writer)
	// Ready says why the node should get no traffic, or nil.
	Ready func() error
	// Status returns the node's state, to be shown as JSON.
	Status func() any
	// Handlers are controls by their path; a path that ends in a slash stands for
	// all below it. They are reached by POST only.
	Handlers map[string]http.Handler
}

// Limits of one admin connection; not knobs. Profiles may take two minutes.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 150 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 16 << 10
	closeTimeout   = time.Second
)

// A Server is the admin listener.
type Server struct {
	socket *socket
	server *http.Server
	left   chan struct{}
}

// New opens the listener. It serves nothing before Run.
func New(c Config, o Options, log *slog.Logger) (*Server, error) {
	s, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("open admin listener: %w", err)
	}
	handler := routes(o)
	if !s.unix() {
		handler = localOnly(handler)
	}
	server := &Server{socket: s, left: make(chan struct{}), server: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
	server.server.RegisterOnShutdown(func() { close(server.left) })
	return server, nil
}

// open takes over the listener that is there, or opens one.
func open(c Config) (*socket, error) {
	if c.Inherited != nil {
		if s, ok := adopt(c.Address, c.Inherited); ok {
			return s, nil
		}
		c.Inherited.Close()
	}
	return listen(c.Address)
}

// FileName is the name of the file that File returns.
const FileName = "admin"

// File returns a duplicate of the listener, which a successor is given as
// Config.Inherited. The caller closes it.
func (s *Server) File() (*os.File, error) {
	l, ok := s.socket.Listener.(syscall.Conn)
	if !ok {
		return nil, errors.New("duplicate admin listener: not a socket of the operating system")
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("duplicate admin listener: %w", err)
	}
	descriptor, failed := 0, error(nil)
	if err := raw.Control(func(fd uintptr) { descriptor, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, fmt.Errorf("duplicate admin listener: %w", err)
	}
	if failed != nil {
		return nil, fmt.Errorf("duplicate admin listener: %w", os.NewSyscallError("fcntl", failed))
	}
	return os.NewFile(uintptr(descriptor), FileName), nil
}

// Addr returns the address in the notation of Config, with the actual port.
func (s *Server) Addr() string { return s.socket.address() }

// Run serves until ctx ends, and then removes the socket, unless another process has
// the listener too.
func (s *Server) Run(ctx context.Context) error {
	defer s.socket.remove()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if s.server.Shutdown(closing) != nil {
			s.server.Close() // a profile that is still being taken
		}
	})
	err := s.server.Serve(s.socket.Listener)
	if !stop() {
		<-closed
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

// Left is closed when Run has left the listener to a successor, or to nobody. Requests
// that have come may still be under way.
func (s *Server) Left() <-chan struct{} { return s.left }

// Close closes a listener that was never run.
func (s *Server) Close() error {
	defer s.socket.remove()
	return s.socket.Close()
}

func routes(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		o.Metrics(w)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeStatus(w, o.Status()) })
	for path, handler := range o.Handlers {
		mux.Handle("POST "+path, handler)
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

func writeStatus(w http.ResponseWriter, state any) {
	body, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(append(body, '\n'))
}

// localOnly refuses what a browser on this machine sends for a page from
// elsewhere: a name of the page's owner that resolves to loopback (DNS
// rebinding) shows in Host, a request across origins in Origin.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			plain(w, http.StatusForbidden, "the admin listener is asked for by its loopback address only")
			return
		}
		site := r.Header.Get("Sec-Fetch-Site")
		origin := r.Header.Get("Origin")
		if origin != "" && origin != "http://"+r.Host || site != "" && site != "same-origin" && site != "none" {
			plain(w, http.StatusForbidden, "the admin listener answers no other pages")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
