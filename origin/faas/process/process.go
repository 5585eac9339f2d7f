// Package process runs functions on the node itself: unchanged AWS Lambda
// bootstrap programs, as child processes of a function host.
//
// The [Host] is a process of its own, so that the edge never runs a customer's
// code: it serves the Lambda Runtime API to each child on a loopback listener,
// gives it one invocation at a time, and takes calls over a unix socket that
// speaks Lambda's Invoke API. The [Provider] is the edge's side of that socket.
//
// Children are capped in number and time, have a clean environment and their own
// process group, run as nobody when the host is root, and die with the host. One
// that hangs is killed and one that exits is replaced, with a growing pause when
// it keeps crashing. When all are busy a call waits a little and is then
// throttled, so that the edge looks elsewhere.
//
// It is no sandbox. It does not bound memory or CPU in the kernel, and does not
// confine what a function may see of the file system or the network. All
// functions run as one user and share the loopback: another function, or any
// local user, that finds an instance's Runtime API port can take its invocations
// and answer them. A process that leaves its group, as a daemon does, outlives its
// instance and the host. So run only functions that trust each other, on a node
// whose users you trust, and the host in a service manager that ends its whole
// control group. It does not stream.
package process

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"spillway/origin/faas"
)

// invokePath is where Lambda's Invoke API takes calls of a function.
const invokePath = "/2015-03-31/functions/%s/invocations"

// A Provider calls one function of a function host. It implements faas.Provider.
type Provider struct {
	url    string
	client *http.Client
}

// New returns a provider for the function of c. The host need not run yet.
func New(c Config) *Provider {
	dialer := net.Dialer{Timeout: time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", c.Socket)
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second,
	}
	return &Provider{
		// The host of the URL goes nowhere: the dialer knows the socket.
		url:    "http://functions" + fmt.Sprintf(invokePath, url.PathEscape(c.Function)),
		client: &http.Client{Transport: transport},
	}
}

// Invoke calls the function.
func (p *Provider) Invoke(ctx context.Context, r *faas.Request) (*http.Response, error) {
	event, err := faas.EncodeEvent(r, time.Now())
	if err != nil {
		return nil, err
	}
	ctx, sent := faas.SendOnce(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(event))
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	req.GetBody = nil // it is sent once
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, &faas.Error{Class: faas.Unavailable, Executed: sent(), Err: fmt.Errorf("call function host: %w", err)}
	}
	return faas.DecodeInvocation(resp, r, faas.DecodeAnswer)
}

// Close closes the idle connections to the host.
func (p *Provider) Close() { p.client.CloseIdleConnections() }
