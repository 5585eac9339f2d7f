package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"

	quichttp "github.com/quic-go/quic-go/http3"
)

// startFront starts what the suite's client, which speaks HTTP/1.1 only, needs to
// meet the node over HTTP/2 or HTTP/3: a forwarder that adds nothing. It passes interim
// responses on, and cuts off what is cut off.
func startFront(node string, http3 bool) (*part, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("open the front: %w", err)
	}
	transport, leave := newTransport(http3)
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", node, ""
		},
	}}
	go server.Serve(listener)
	stop := func() {
		server.Close()
		leave()
	}
	return &part{stop}, "http://" + listener.Addr().String(), nil
}

// newTransport returns what speaks HTTP/3, or HTTP/2, to a node that makes its
// certificate itself.
func newTransport(http3 bool) (transport http.RoundTripper, leave func()) {
	config := &tls.Config{InsecureSkipVerify: true}
	if http3 {
		tr := &quichttp.Transport{TLSClientConfig: config, DisableCompression: true}
		return tr, func() { tr.Close() }
	}
	tr := &http.Transport{TLSClientConfig: config, DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP2(true)
	return tr, tr.CloseIdleConnections
}
