package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A protocol is one of the three that visitors speak.
type protocol string

const (
	h1 protocol = "HTTP/1.1"
	h2 protocol = "HTTP/2"
	h3 protocol = "HTTP/3"
)

var protocols = []protocol{h1, h2, h3}

// A visitor asks one server over one connection.
type visitor struct {
	client *http.Client
	base   string
	close  func()
}

// visit prepares a visitor of a server. The connection is made by the first request.
// Without TLS, HTTP/2 is spoken from the first byte (RFC 9113 section 3.3).
func (p protocol) visit(addr string, plain bool) *visitor {
	v := &visitor{base: "https://localhost"}
	if p == h3 {
		t := &http3.Transport{
			TLSClientConfig: clientTLS(), DisableCompression: true,
			Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, c *quic.Config) (*quic.Conn, error) {
				return quic.DialAddr(ctx, addr, tlsConfig, c)
			},
		}
		v.client, v.close = &http.Client{Transport: t}, func() { t.Close() }
		return v
	}
	t := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}, DisableCompression: true,
		MaxConnsPerHost: 1, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	t.Protocols.SetHTTP1(p == h1)
	t.Protocols.SetHTTP2(p == h2 && !plain)
	t.Protocols.SetUnencryptedHTTP2(p == h2 && plain)
	if plain {
		v.base = "http://localhost"
	}
	v.client, v.close = &http.Client{Transport: t}, t.CloseIdleConnections
	return v
}

// An answer is what a visitor saw of one.
type answer struct {
	proto string
	bytes int64
	first time.Duration // until the first byte of the body
	total time.Duration
}

// ask gets a path and reads the answer to its end.
func (v *visitor) ask(ctx context.Context, path string) (answer, error) {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path, nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return answer{}, fmt.Errorf("%s: %s %s", path, resp.Status, strings.TrimSpace(string(text)))
	}
	a := answer{proto: resp.Proto}
	var one [1]byte
	if _, err := io.ReadFull(resp.Body, one[:]); err != nil {
		return answer{}, fmt.Errorf("%s: %w", path, err)
	}
	a.first = time.Since(began)
	rest, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", path, err)
	}
	a.bytes, a.total = rest+1, time.Since(began)
	return a, nil
}
