package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// An adapter answers Lambda events of payload format 2.0 with an HTTP handler.
type adapter struct{ handler http.Handler }

func (a adapter) invoke(ctx context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	req, err := request(ctx, e)
	if err != nil {
		return events.APIGatewayV2HTTPResponse{StatusCode: http.StatusBadRequest, Body: err.Error()}, nil
	}
	w := &recorder{header: http.Header{}}
	a.handler.ServeHTTP(w, req)
	return w.response(), nil
}

func request(ctx context.Context, e events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return nil, fmt.Errorf("decode body: %w", err)
		}
	}
	target := e.RawPath
	if e.RawQueryString != "" {
		target += "?" + e.RawQueryString
	}
	req, err := http.NewRequestWithContext(ctx, e.RequestContext.HTTP.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	for name, value := range e.Headers {
		req.Header.Set(name, value)
	}
	if len(e.Cookies) > 0 {
		req.Header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	req.Host, req.RemoteAddr = e.RequestContext.DomainName, e.RequestContext.HTTP.SourceIP
	return req, nil
}

// A recorder keeps what a handler writes.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// response is base64 throughout: what is written here is pictures.
func (w *recorder) response() events.APIGatewayV2HTTPResponse {
	w.WriteHeader(http.StatusOK)
	resp := events.APIGatewayV2HTTPResponse{
		StatusCode: w.status, Headers: map[string]string{},
		Body: base64.StdEncoding.EncodeToString(w.body.Bytes()), IsBase64Encoded: true,
		Cookies: w.header["Set-Cookie"],
	}
	for name, values := range w.header {
		if name != "Set-Cookie" {
			resp.Headers[name] = strings.Join(values, ", ")
		}
	}
	return resp
}
