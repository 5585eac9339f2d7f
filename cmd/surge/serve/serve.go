// Package serve runs the HTTP front of a test-bench program: listen, say where,
// serve until told to stop, let requests in flight finish.
//
// It speaks HTTP/1.1 without TLS and is meant for loopback. What has not
// finished within the grace period is cut off.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// grace is how long requests in flight may take to finish: long enough for any
// sensible service time, short enough for a person at a terminal.
const grace = 2 * time.Second

// HTTP serves h on the address until ctx is done. Once the socket is open it
// calls ready with the address, which tells the port when the address had none.
func HTTP(ctx context.Context, address string, h http.Handler, ready func(net.Addr)) error {
	return listenAndServe(ctx, address, h, grace, ready)
}

func listenAndServe(ctx context.Context, address string, h http.Handler, grace time.Duration, ready func(net.Addr)) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		// Clients that break off are part of the experiment, not news.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	ready(l.Addr())

	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", address, err)
	case <-ctx.Done():
	}

	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err = server.Shutdown(late)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-served
	return err
}

// Announce writes the one line that tells where a program listens: text, or a
// JSON object for a program that reads it.
func Announce(w io.Writer, asJSON bool, url string) {
	if asJSON {
		_ = json.NewEncoder(w).Encode(map[string]string{"listening": url})
		return
	}
	fmt.Fprintf(w, "listening on %s\n", url)
}

// JSON answers with v.
func JSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // the client has left
}

// Proxied reports whether r came through a proxy. The control endpoints refuse
// such requests: they share a port with the visitors' paths, and a proxy that
// routes everything would otherwise hand the test bench to its visitors.
func Proxied(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}
