// Thumbnail is the example function of Spillway: thumbnails with a watermark and
// QR overlays, from one source for every platform. Started by a Lambda runtime,
// which sets AWS_LAMBDA_RUNTIME_API, it is a Lambda function; build it with
// GOOS=linux and the name bootstrap. Otherwise it is a plain HTTP server, as
// Cloud Run and its like expect, on --listen or the port in PORT.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"spillway/cmd/thumbnail/picture"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	handler := picture.Handler(picture.Options{Log: log})
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		lambda.Start(adapter{handler}.invoke)
		return
	}
	listen := flag.String("listen", defaultListen(), "address to serve HTTP on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, handler, log); err != nil {
		log.Error("thumbnail", "error", err)
		os.Exit(1)
	}
}

// defaultListen obeys PORT, which platforms set for containers; there, all
// interfaces are meant.
func defaultListen() string {
	if port := os.Getenv("PORT"); port != "" {
		return ":" + port
	}
	return "127.0.0.1:8080"
}

// serve answers until ctx ends, then finishes what is in flight.
func serve(ctx context.Context, address string, handler http.Handler, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	log.Info("listening on http://" + listener.Addr().String())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
