package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"spillway/origin/faas"
)

// classify tells a failure of the platform or the function from an answer for
// the visitor, for which it returns nil. A 4xx without a platform's mark is the
// function's own.
func (p *Provider) classify(resp *http.Response) *faas.Error {
	class, executed := p.class(resp)
	if class == "" {
		return nil
	}
	e := &faas.Error{Class: class, Executed: executed, Answered: true, Err: fmt.Errorf("function answered %d", resp.StatusCode)}
	if class == faas.Throttled {
		// Elsewhere it may be the function's own word, to one visitor. Cloud Run and
		// Azure put no mark on theirs, so that it cannot be told.
		e.RetryAfter = faas.RetryAfter(resp.Header, time.Now())
	}
	return e
}

func (p *Provider) class(resp *http.Response) (class faas.Class, executed bool) {
	h, status := resp.Header, resp.StatusCode
	switch {
	case status < 400:
		return "", false
	case h.Get("X-Google-Status") != "", h.Get("X-Fc-Error-Type") != "":
		// Google's frameworks and Alibaba say so when the function's code failed.
		return faas.FunctionError, true
	case h.Get("X-Fc-Error-Code") == "ResourceThrottled":
		return faas.Throttled, false
	case h.Get("X-Amzn-Errortype") != "":
		return amazon(status)
	case p.denied(resp):
		return faas.Auth, false
	case status == http.StatusTooManyRequests, status >= 500:
		return faas.Ambiguous, true
	}
	return "", false
}

// amazon is what a status means that AWS itself answered, not the function.
func amazon(status int) (class faas.Class, executed bool) {
	switch status {
	case http.StatusTooManyRequests:
		return faas.Throttled, false
	case http.StatusUnauthorized, http.StatusForbidden:
		return faas.Auth, false
	case http.StatusRequestEntityTooLarge:
		return faas.TooLarge, false
	case http.StatusBadGateway:
		return faas.FunctionError, true // crashed, or answered garbage
	case http.StatusGatewayTimeout:
		return faas.Timeout, true
	}
	return faas.Unavailable, status >= 500
}

// denied reports whether the platform refused our key, as far as the platforms
// can be told apart from functions that ask visitors for theirs.
func (p *Provider) denied(resp *http.Response) bool {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return false
	}
	host := p.base.Hostname()
	switch {
	case strings.HasSuffix(host, ".run.app"), strings.HasSuffix(host, ".cloudfunctions.net"):
		return strings.HasPrefix(resp.Header.Get("Www-Authenticate"), "Bearer error=")
	case strings.HasSuffix(host, ".azurewebsites.net"):
		return p.secrets["X-Functions-Key"] != nil && resp.ContentLength == 0
	}
	return false
}
