package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"

	"github.com/quic-go/quic-go/http3"
)

// startFront starts what the suite's client, which speaks HTTP/1.1 only, needs to
// meet the node over HTTP/3: a forwarder that adds nothing. It passes interim
// responses on, and cuts off what is cut off.
func startFront(node string) (*part, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("open the front: %w", err)
	}
	transport := &http3.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // the node makes its certificate itself
		DisableCompression: true,
	}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", node, ""
		},
	}}
	go server.Serve(listener)
	stop := func() {
		server.Close()
		transport.Close()
	}
	return &part{stop}, "http://" + listener.Addr().String(), nil
}
