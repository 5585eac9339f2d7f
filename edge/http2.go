package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	_ "unsafe" // for go:linkname

	"golang.org/x/net/http2"
)

// HTTP/2 is served by golang.org/x/net/http2 and not by the copy of it in
// net/http: that one knows neither priorities nor how to switch extended CONNECT
// on. Both wait behind switches of the package, which only its own variables
// and the environment at the start of the process reach, until net/http gets
// settings for them. A test asks on the wire for what each of them does, so that
// an update that moves one does not go unnoticed.

// disableExtendedConnect switches off WebSockets over HTTP/2 (RFC 8441), unless
// GODEBUG=http2xconnect=1 stood in the environment of the process.
//
//go:linkname disableExtendedConnect golang.org/x/net/http2.disableExtendedConnectProtocol
var disableExtendedConnect bool

// newPriorityScheduler makes what sends the frames of a connection in the order
// of their priorities (RFC 9218). The package uses it by itself from Go 1.27 on.
//
//go:linkname newPriorityScheduler golang.org/x/net/http2.newPriorityWriteSchedulerRFC9218
//lint:ignore SA1019 the one way to priorities before Go 1.27
func newPriorityScheduler() http2.WriteScheduler

func init() { disableExtendedConnect = false }

// serveHTTP2 lets a server speak HTTP/2. The settings are those of the server. It
// calls take with each connection, and the server writes its frames to what take
// returns.
func serveHTTP2(s *http.Server, take func(*tls.Conn) *frameConn) error {
	//lint:ignore SA1019 the one way to priorities before Go 1.27
	h2 := &http2.Server{NewWriteScheduler: newPriorityScheduler}
	//lint:ignore SA1019 the one way to priorities before Go 1.27
	if err := http2.ConfigureServer(s, h2); err != nil {
		return fmt.Errorf("configure HTTP/2: %w", err)
	}
	s.TLSNextProto[http2.NextProtoTLS] = func(s *http.Server, conn *tls.Conn, h http.Handler) {
		//lint:ignore SA1019 the one way to priorities before Go 1.27
		opts := http2.ServeConnOpts{BaseConfig: s, Handler: h}
		if b, ok := h.(interface{ BaseContext() context.Context }); ok { // of the connection, so says net/http
			opts.Context = b.BaseContext()
		}
		//lint:ignore SA1019 the one way to priorities before Go 1.27
		h2.ServeConn(take(conn), &opts)
	}
	return nil
}
