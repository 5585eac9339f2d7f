// Package web calls functions by plain HTTP: Cloud Run, Azure, Knative, OpenFaaS,
// Workers, Lambda function URLs, and anything else that has a URL.
//
// The request goes out as it came in, path and query byte for byte, with the
// configured headers put over the visitor's. The client follows no redirects and
// obeys no proxy from the environment, and never connects to the addresses where
// clouds hand out credentials.
//
// A platform's failure is told from the function's own by what platforms are
// known to say; a bare 429 or 5xx is ambiguous: the function may have run, and a
// Retry-After is not obeyed, which may be meant for one visitor only. A request
// is sent once: what a connection that ends without an answer leaves open is
// the caller's to decide. A secret that cannot be read keeps the provider from being made; one that
// becomes unreadable later keeps its last value. It signs nothing and fetches no
// tokens.
package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"spillway/origin/faas"
	"spillway/origin/remote"
)

// A Provider calls one function. It implements faas.Provider.
type Provider struct {
	base    *url.URL
	prefix  string // the escaped path of base, without a slash at its end
	host    string
	secrets map[string]*remote.Secret // by canonical header name
	client  *http.Client
}

// New returns a provider for the function of c.
func New(c Config) (*Provider, error) {
	base, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("parse url: %w", err)
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		return nil, fmt.Errorf("url %q must begin with http:// or https:// and name a host", base.Redacted())
	case base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		return nil, errors.New("url must not hold a query, a fragment or a password: put keys into headers")
	}
	secrets, err := newSecrets(c.Headers)
	if err != nil {
		return nil, err
	}
	p := &Provider{base: base, prefix: strings.TrimSuffix(base.EscapedPath(), "/"), host: c.Host, secrets: secrets}
	if p.host == "" {
		p.host = base.Host
	}
	p.client = &http.Client{
		Transport: newTransport(),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a redirect is the visitor's business
		},
	}
	return p, nil
}

// newTransport has no Proxy: the environment must not redirect the calls.
func newTransport() *http.Transport {
	dialer := net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second, Control: remote.Deny}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a visitor gets the encoding that it asked for
		TLSHandshakeTimeout:    3 * time.Second,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    128,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Invoke calls the function.
func (p *Provider) Invoke(ctx context.Context, r *faas.Request) (*http.Response, error) {
	ctx, sent := faas.SendOnce(ctx)
	req := p.request(ctx, r)
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, &faas.Error{Class: faas.Unavailable, Executed: sent(), Err: fmt.Errorf("call function: %w", withoutURL(err))}
	}
	if e := p.classify(resp); e != nil {
		resp.Body.Close()
		return nil, e
	}
	return resp, nil
}

// withoutURL drops the URL that the client adds, with the visitor's query in it.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// request is the visitor's request as the function gets it.
func (p *Provider) request(ctx context.Context, r *faas.Request) *http.Request {
	header := r.Fields()
	if header.Get("X-Forwarded-Host") == "" {
		header.Set("X-Forwarded-Host", r.Host)
	}
	if header["User-Agent"] == nil {
		header.Set("User-Agent", "") // else the client adds its own
	}
	for name, s := range p.secrets {
		header.Set(name, s.Value(time.Now()))
	}
	req := &http.Request{Method: r.Method, URL: p.target(r), Host: p.host, Header: header}
	if len(r.Body) > 0 {
		req.ContentLength = int64(len(r.Body))
		req.Body = io.NopCloser(bytes.NewReader(r.Body)) // without GetBody: it is sent once
	}
	return req.WithContext(ctx)
}

// target appends the path of the request, as it was sent, to that of the base.
func (p *Provider) target(r *faas.Request) *url.URL {
	u := &url.URL{Scheme: p.base.Scheme, Host: p.base.Host, RawQuery: r.Query, RawPath: p.prefix + r.Path}
	u.Path, _ = url.PathUnescape(u.RawPath)
	if u.EscapedPath() != u.RawPath && !strings.HasPrefix(u.RawPath, "//") {
		// net/url would encode such a path anew. Opaque goes out as it is, unless it
		// begins with two slashes.
		u.Opaque = u.RawPath
	}
	return u
}

// Close closes the idle connections to the function.
func (p *Provider) Close() { p.client.CloseIdleConnections() }
