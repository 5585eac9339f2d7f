// Package lambda calls functions on AWS Lambda by its Invoke API, which tells the
// platform's failures from the function's, and needs no gateway and no public URL
// in front of the function.
//
// A call is signed with the machine's own credentials (see [sign]) and sent once.
// Credentials that are missing or refused, a throttle, and a function that is just
// being changed are known not to have run anything, so that the request may go
// elsewhere. A function that fails by itself is told by its header alone, never by
// what its answer looks like.
//
// When AWS refuses calls because the account makes too many in a region, all
// functions of the node that use the account there pause together. A clock that is
// wrong is corrected by AWS's own; that is logged.
//
// It does not stream, does not call asynchronously, and obeys no proxy from the
// environment.
package lambda

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"spillway/origin/faas"
	"spillway/origin/faas/sign"
)

// A Provider calls one function. It implements faas.Provider.
type Provider struct {
	url    *url.URL
	region *region
	encode func(*faas.Request, time.Time) ([]byte, error)
	decode faas.Decoder
	client *http.Client
}

// New returns a provider for the function of c, which shares its account with the
// others. It asks nobody: missing credentials are found out by the first call.
func New(c Config, account *Account) (*Provider, error) {
	t, err := parseTarget(c.Function)
	if err != nil {
		return nil, err
	}
	if t.region != "" && c.Region != "" && t.region != c.Region {
		return nil, fmt.Errorf("function is in %s and region is %s: remove region", t.region, c.Region)
	}
	if t.region == "" {
		t.region = c.Region
	}
	r, err := account.region(sign.Source{Region: t.region, Profile: c.Profile, RoleARN: c.RoleARN}, c.Endpoint)
	if err != nil {
		return nil, err
	}
	p := &Provider{url: t.url(r.endpoint), region: r, encode: faas.EncodeEvent, decode: faas.DecodeAnswer}
	if c.Payload == "1.0" {
		p.encode, p.decode = faas.EncodeEventV1, faas.DecodeAnswerV1
	}
	p.client = &http.Client{
		Transport: newTransport(),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a signature goes nowhere else
		},
	}
	return p, nil
}

// newTransport has no Proxy: the environment must not redirect the calls.
func newTransport() *http.Transport {
	dialer := net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		TLSHandshakeTimeout:    3 * time.Second,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    128,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Invoke calls the function.
func (p *Provider) Invoke(ctx context.Context, r *faas.Request) (*http.Response, error) {
	now := time.Now()
	if e := p.region.paused(now); e != nil {
		return nil, e
	}
	event, err := p.encode(r, now)
	if err != nil {
		return nil, err
	}
	ctx, sent := faas.SendOnce(ctx)
	req := p.request(ctx, event, r.Header, now)
	if err := p.region.signer.Sign(ctx, req, "lambda", event); err != nil {
		return nil, &faas.Error{Class: faas.Auth, Err: fmt.Errorf("sign call: %w", err)}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, &faas.Error{Class: faas.Unavailable, Executed: sent(), Err: fmt.Errorf("call Lambda: %w", err)}
	}
	answer, err := faas.DecodeInvocation(resp, r, p.decode)
	p.region.learn(time.Now(), resp, err)
	return answer, err
}

// request has no GetBody: it is sent once.
func (p *Provider) request(ctx context.Context, event []byte, visitor http.Header, now time.Time) *http.Request {
	req := &http.Request{
		Method: http.MethodPost, URL: new(*p.url), Host: p.url.Host,
		Header: http.Header{
			"Content-Type":          {"application/json"},
			"User-Agent":            {"spillway"},
			"X-Amz-Invocation-Type": {"RequestResponse"},
			"X-Amzn-Trace-Id":       {traceID(visitor, now)},
		},
		Body: closable{bytes.NewReader(event)}, ContentLength: int64(len(event)),
	}
	return req.WithContext(ctx)
}

type closable struct{ *bytes.Reader }

func (closable) Close() error { return nil }

// Close closes the idle connections to Lambda.
func (p *Provider) Close() { p.client.CloseIdleConnections() }
