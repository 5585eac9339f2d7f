package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"spillway/cmd/thumbnail/picture"
	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func event(method, path, query string) events.APIGatewayV2HTTPRequest {
	e := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: path, RawQueryString: query}
	e.RequestContext.HTTP.Method = method
	e.RequestContext.DomainName = "img.example.com"
	return e
}

// As a function and as a server, it gives the same answer.
func TestBothShapesAnswerAlike(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	address := make(chan string, 1)
	log := slog.New(slog.NewTextHandler(writerFunc(func(line []byte) {
		if m := regexp.MustCompile(`listening on (http://[^"]+)`).FindSubmatch(line); m != nil {
			address <- string(m[1])
		}
	}), nil))
	handler := picture.Handler(picture.Options{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve(ctx, "127.0.0.1:0", handler, log); err != nil {
			t.Error(err)
		}
	})
	base := <-address
	f := func(path, query string, status int) {
		t.Helper()
		resp, err := http.Get(base + path + "?" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		served, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		e, err := adapter{handler}.invoke(t.Context(), event("GET", path, query))
		if err != nil {
			t.Fatal(err)
		}
		w, err := request(t.Context(), events.APIGatewayV2HTTPRequest{Body: e.Body, IsBase64Encoded: e.IsBase64Encoded, RawPath: "/"})
		if err != nil {
			t.Fatal(err)
		}
		returned, err := io.ReadAll(w.Body)
		if err != nil || !bytes.Equal(served, returned) || resp.StatusCode != status || e.StatusCode != status {
			t.Errorf("%s?%s: %d with %d bytes, and %d with %d, %v", path, query, resp.StatusCode, len(served), e.StatusCode, len(returned), err)
		}
		for _, name := range []string{"Content-Type", "Cache-Control", "Etag"} {
			if resp.Header.Get(name) != e.Headers[name] {
				t.Errorf("%s: %q and %q", name, resp.Header.Get(name), e.Headers[name])
			}
		}
	}
	f("/picture/market.jpg", "w=64", 200)
	f("/overlay/market.jpg", "w=128&text=a%26b", 200)
	f("/overlay/a%2Fb.jpg", "", 404)
	f("/picture/market.jpg", "w=%zz", 400)
	http.DefaultClient.CloseIdleConnections()
	cancel()
	wg.Wait()
}

func TestEventsThatMakeNoSense(t *testing.T) {
	f := func(e events.APIGatewayV2HTTPRequest) {
		t.Helper()
		resp, err := adapter{http.NotFoundHandler()}.invoke(t.Context(), e)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%+v: %d, %v", e, resp.StatusCode, err)
		}
	}
	f(event("NO SUCH METHOD", "/", ""))
	f(event("GET", "/%zz", ""))
	bad := event("POST", "/", "")
	bad.Body, bad.IsBase64Encoded = "!", true
	f(bad)
}

func TestEventReachesTheHandler(t *testing.T) {
	e := event("POST", "/a%2Fb", "c=%2F&d")
	e.Headers = map[string]string{"x-test": "1"}
	e.Cookies = []string{"a=1", "b=2"}
	e.Body, e.IsBase64Encoded = "AP8=", true
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "\x00\xff" || r.RequestURI != "" || r.URL.EscapedPath() != "/a%2Fb" || r.URL.RawQuery != "c=%2F&d" {
			t.Errorf("%v, body %q, %v", r.URL, body, err)
		}
		if r.Header.Get("X-Test") != "1" || r.Header.Get("Cookie") != "a=1; b=2" || r.Host != "img.example.com" {
			t.Errorf("host %s, header %v", r.Host, r.Header)
		}
		http.SetCookie(w, &http.Cookie{Name: "c", Value: "3"})
		http.SetCookie(w, &http.Cookie{Name: "d", Value: "4"})
	})
	resp, err := adapter{handler}.invoke(t.Context(), e)
	if err != nil || resp.StatusCode != 200 || len(resp.Cookies) != 2 {
		t.Errorf("%+v, %v", resp, err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
