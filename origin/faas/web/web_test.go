package web

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/origin/faas"
	"spillway/origin/remote"
)

func invoke(t *testing.T, p *Provider, r *faas.Request) (*http.Response, string) {
	t.Helper()
	resp, err := p.Invoke(t.Context(), r)
	if err != nil {
		t.Fatalf("%s %s?%s: %v", r.Method, r.Path, r.Query, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// shakeHands has a provider shake hands by a configuration, and take its time: a busy
// machine may take seconds.
func shakeHands(p *Provider, c *tls.Config) {
	transport := p.client.Transport.(*http.Transport)
	transport.TLSClientConfig, transport.TLSHandshakeTimeout = c, time.Minute
}

func failure(t *testing.T, p *Provider, r *faas.Request) *faas.Error {
	t.Helper()
	resp, err := p.Invoke(t.Context(), r)
	if err == nil {
		resp.Body.Close()
		t.Fatalf("%s?%s: answered %d", r.Path, r.Query, resp.StatusCode)
	}
	return faas.AsError(err)
}

// Google's framework, unchanged, behind the provider.
func TestFunctionsFramework(t *testing.T) {
	base := framework(t)
	p := provider(t, Config{URL: base + "/base/", Headers: map[string]string{"x-functions-key": "ours"}})

	t.Run("request is sent as it came", func(t *testing.T) {
		r := request("GET", "/a%2Fb/%E2%82%AC", "a=1&a=2&b=%20&c=+&;&=&d=%zz")
		r.Header = http.Header{
			"Accept-Encoding": {"br"}, "X-Spillway-Debug": {"1"}, "X-Functions-Key": {"theirs"},
			"X-Serverless-Authorization": {"theirs"}, "X-Amzn-Trace-Id": {"theirs"}, "Connection": {"X-Private"},
			"X-Private": {"1"}, "Te": {"trailers"}, "Cookie": {"a=1; b=2"},
		}
		_, got := invoke(t, p, r)
		want := "GET /base/a%2Fb/%E2%82%AC?a=1&a=2&b=%20&c=+&;&=&d=%zz " + strings.TrimPrefix(base, "http://") + "\n" +
			"Accept-Encoding: br\r\nCookie: a=1; b=2\r\nX-Forwarded-Host: img.example.com\r\nX-Functions-Key: ours\r\n"
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("bytes and cookies", func(t *testing.T) {
		r := request("POST", "/", "do=echo")
		r.Body = make([]byte, 100_000)
		rand.Read(r.Body)
		resp, body := invoke(t, p, r)
		if body != string(r.Body) {
			t.Errorf("%d bytes differ", len(body))
		}
		if cookies := resp.Header["Set-Cookie"]; len(cookies) != 2 || !strings.HasSuffix(cookies[1], "07:28:00 GMT") {
			t.Errorf("cookies %q", cookies)
		}
		if resp.Header.Get("Content-Encoding") != "gzip" {
			t.Error("the content encoding is lost")
		}
	})
	t.Run("stream", func(t *testing.T) {
		if resp, body := invoke(t, p, request("GET", "/", "do=stream")); body != "partpartpart" || resp.ContentLength != -1 {
			t.Errorf("body %q, length %d", body, resp.ContentLength)
		}
	})
	t.Run("head", func(t *testing.T) {
		if _, body := invoke(t, p, request("HEAD", "/", "")); body != "" {
			t.Errorf("body %q", body)
		}
	})
	t.Run("redirects and client errors pass", func(t *testing.T) {
		for query, status := range map[string]int{"do=redirect": 302, "do=status": 418} {
			if resp, _ := invoke(t, p, request("GET", "/", query)); resp.StatusCode != status {
				t.Errorf("%s: %d", query, resp.StatusCode)
			}
		}
	})
	t.Run("panic", func(t *testing.T) {
		e := failure(t, p, request("GET", "/", "do=panic"))
		if e.Class != faas.FunctionError || !e.Executed || strings.Contains(e.Error(), "secret") {
			t.Errorf("%s, executed %t: %v", e.Class, e.Executed, e)
		}
	})
	t.Run("a bare 429 is ambiguous", func(t *testing.T) {
		e := failure(t, p, request("GET", "/", "do=refuse"))
		if e.Class != faas.Ambiguous || !e.Executed || e.RetryAfter != 0 {
			t.Errorf("%+v", e)
		}
	})
	t.Run("caller leaves", func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { leave() }})
		if _, err := p.Invoke(ctx, request("GET", "/", "do=hang")); !errors.Is(err, context.Canceled) || !faas.AsError(err).Executed {
			t.Errorf("error %v", err)
		}
	})
}

// nowhere is a port that the system gives to nobody.
const nowhere = "http://127.0.0.1:1"

func TestUnreachableFunctionDidNotRun(t *testing.T) {
	e := failure(t, provider(t, Config{URL: nowhere}), request("POST", "/", ""))
	if e.Class != faas.Unavailable || e.Executed {
		t.Errorf("%+v", e)
	}
}

func TestErrorsDoNotTellTheQuery(t *testing.T) {
	e := failure(t, provider(t, Config{URL: nowhere}), request("GET", "/", "token=canary"))
	if strings.Contains(e.Error(), "canary") {
		t.Errorf("%v", e)
	}
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:9")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	defer server.Close()
	if _, body := invoke(t, provider(t, Config{URL: server.URL, Host: "thumb.example"}), request("GET", "/", "")); body != "thumb.example" {
		t.Errorf("host %q", body)
	}
	if transport := newTransport(); transport.Proxy != nil {
		t.Error("the transport asks the environment for a proxy")
	}
}

func TestHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto+" "+r.RequestURI) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	p := provider(t, Config{URL: server.URL})
	shakeHands(p, server.Client().Transport.(*http.Transport).TLSClientConfig)
	if _, body := invoke(t, p, request("GET", "/a%2Fb", "c=%2F")); body != "HTTP/2.0 /a%2Fb?c=%2F" {
		t.Errorf("body %q", body)
	}
}

func TestCredentialAddressesAreDenied(t *testing.T) {
	e := failure(t, provider(t, Config{URL: "http://169.254.169.254"}), request("GET", "/latest/meta-data", ""))
	if !errors.Is(e, remote.ErrMetadata) || e.Executed {
		t.Errorf("%+v", e)
	}
}

func TestNewRefuses(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%+v: error %v, want %q", c, err, want)
		}
	}
	f(Config{URL: "ftp://example.com"}, "must begin with http")
	f(Config{URL: "https://"}, "name a host")
	f(Config{URL: "https://example.com/?code=canary"}, "put keys into headers")
	f(Config{URL: "https://user:canary@example.com/"}, "put keys into headers")
	f(Config{URL: "https://example.com", Headers: map[string]string{"host": "x"}}, "key host")
	f(Config{URL: "https://example.com", Headers: map[string]string{"connection": "x"}}, "client's own")
	f(Config{URL: "https://example.com", Headers: map[string]string{"key": "env:NO_SUCH_VARIABLE"}}, "NO_SUCH_VARIABLE is not set")
	f(Config{URL: "https://example.com", Headers: map[string]string{"key": "file:/no/such/file"}}, "no such file")
	f(Config{URL: "https://example.com", Headers: map[string]string{"key": "canary\r\nx: y"}}, "control character")
}

func TestClassify(t *testing.T) {
	f := func(host string, status int, header string, class faas.Class, executed bool) {
		t.Helper()
		p := provider(t, Config{URL: "https://" + host, Headers: map[string]string{"x-functions-key": "k"}})
		h := http.Header{}
		if name, value, ok := strings.Cut(header, ": "); ok {
			h.Set(name, value)
		}
		got, ran := p.class(&http.Response{StatusCode: status, Header: h})
		if got != class || ran != executed {
			t.Errorf("%s %d %s: %q, executed %t; want %q, %t", host, status, header, got, ran, class, executed)
		}
	}
	const any, aws, run, azure = "example.com", "x.lambda-url.eu-central-1.on.aws", "thumb-x.a.run.app", "thumb.azurewebsites.net"
	f(any, 200, "", "", false)
	f(any, 304, "", "", false)
	f(any, 404, "", "", false)
	f(any, 401, "", "", false)
	f(any, 413, "", "", false)
	f(any, 429, "", faas.Ambiguous, true)
	f(any, 500, "", faas.Ambiguous, true)
	f(any, 503, "", faas.Ambiguous, true)
	f(run, 500, "X-Google-Status: crash", faas.FunctionError, true)
	f(run, 429, "", faas.Ambiguous, true)
	f(run, 403, "Www-Authenticate: Bearer error=\"insufficient_scope\"", faas.Auth, false)
	f(run, 401, "Www-Authenticate: Basic", "", false)
	f(azure, 401, "", faas.Auth, false)
	f(azure, 503, "", faas.Ambiguous, true)
	f(aws, 429, "X-Amzn-ErrorType: TooManyRequestsException", faas.Throttled, false)
	f(aws, 403, "X-Amzn-ErrorType: AccessDeniedException", faas.Auth, false)
	f(aws, 413, "X-Amzn-ErrorType: RequestTooLargeException", faas.TooLarge, false)
	f(aws, 502, "X-Amzn-ErrorType: InternalServerErrorException", faas.FunctionError, true)
	f(aws, 504, "X-Amzn-ErrorType: Timeout", faas.Timeout, true)
	f(aws, 404, "X-Amzn-ErrorType: ResourceNotFoundException", faas.Unavailable, false)
	f(aws, 500, "X-Amzn-ErrorType: ServiceException", faas.Unavailable, true)
	f("x.fcapp.run", 404, "X-Fc-Error-Type: UnhandledInvocationError", faas.FunctionError, true)
	f("x.fcapp.run", 429, "X-Fc-Error-Code: ResourceThrottled", faas.Throttled, false)
}

// Only the platform's own word pauses the calls of all visitors.
func TestRetryAfterNeedsThePlatformsMark(t *testing.T) {
	f := func(status int, mark string, want time.Duration) {
		t.Helper()
		h := http.Header{"Retry-After": {"3600"}}
		if name, value, ok := strings.Cut(mark, ": "); ok {
			h.Set(name, value)
		}
		e := provider(t, Config{URL: "https://example.com"}).classify(&http.Response{StatusCode: status, Header: h})
		if e == nil || e.RetryAfter != want {
			t.Errorf("%d %s: %+v", status, mark, e)
		}
	}
	f(429, "", 0)
	f(503, "", 0)
	f(500, "X-Google-Status: error", 0)
	f(429, "X-Amzn-ErrorType: TooManyRequestsException", time.Hour)
	f(429, "X-Fc-Error-Code: ResourceThrottled", time.Hour)
}

func TestTargetKeepsThePath(t *testing.T) {
	f := func(base, path, want string) {
		t.Helper()
		p := provider(t, Config{URL: base})
		if got := p.target(&faas.Request{Path: path, Query: "q=%2f"}).RequestURI(); got != want+"?q=%2f" {
			t.Errorf("%s + %s = %s, want %s", base, path, got, want)
		}
	}
	f("http://h", "/", "/")
	f("http://h/", "/a", "/a")
	f("http://h/api%2Fx/", "/a%2fb", "/api%2Fx/a%2fb")
	f("http://h", "//a", "//a")
	f("http://h", `/a"b^c`, `/a"b^c`)
	f("http://h", "/a%00/../%7Eb", "/a%00/../%7Eb")
}

func TestHeadersAreNotShared(t *testing.T) {
	p := provider(t, Config{URL: "http://h", Headers: map[string]string{"authorization": "ours"}})
	r := request("GET", "/", "")
	r.Header = http.Header{"Authorization": {"theirs"}, "Accept": {"image/avif", "image/webp"}}
	req := p.request(t.Context(), r)
	if r.Header.Get("Authorization") != "theirs" || req.Header.Get("Authorization") != "ours" {
		t.Error("the visitor's header was changed in place")
	}
	if !slices.Equal(req.Header["Accept"], r.Header["Accept"]) {
		t.Errorf("Accept %q", req.Header["Accept"])
	}
}
