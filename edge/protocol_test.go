package edge_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"spillway/edge"
)

func TestInformationalResponsesReachTheVisitor(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Link", "</style.css>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			rw.Header().Del("Link")
			cacheable(60, "page")(rw, r)
		})
		var mu sync.Mutex
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			hints = append(hints, fmt.Sprint(code, " ", h.Get("Link"), " ", h.Get("Spillway")))
			return nil
		}}
		ask := func() (*http.Response, string) {
			req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", w.visitor.URL+"/plain/a", nil)
			resp, err := w.visitor.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return resp, string(body)
		}
		resp, body := ask()
		if len(hints) != 1 || hints[0] != "103 </style.css>; rel=preload " {
			t.Errorf("got %q", hints)
		}
		if body != "page" || resp.Header.Get("Link") != "" || resp.Header.Get("Spillway") != "origin" {
			t.Errorf("the final response is %q, %v", body, resp.Header)
		}
		// A hit has asked nobody.
		if ask(); len(hints) != 1 {
			t.Errorf("got %q", hints)
		}
	})
}

func TestTrailersBothWays(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			rw.Header().Set("Trailer", "X-Sum")
			io.WriteString(rw, string(body)+" "+r.Trailer.Get("X-Digest"))
			rw.Header().Set("X-Sum", "sum of "+r.Trailer.Get("X-Digest"))
			rw.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
		})
		f := func(body string) {
			t.Helper()
			// A reader of no known kind makes a body of unknown length.
			req, _ := http.NewRequest("POST", w.visitor.URL+"/plain/a", io.MultiReader(strings.NewReader(body)))
			req.Trailer = http.Header{"X-Digest": {"abc"}}
			resp, err := w.visitor.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body+" abc" {
				t.Errorf("a body of %d bytes: got %d bytes (%v)", len(body), len(got), err)
			}
			if resp.Trailer.Get("X-Sum") != "sum of abc" || resp.Trailer.Get("X-Late") != "unannounced" {
				t.Errorf("a body of %d bytes: trailers %v", len(body), resp.Trailer)
			}
		}
		f("kept")
		f(strings.Repeat("streamed", 1<<18)) // more than is kept
	})
}

func TestTrailersThatWereNotAnnounced(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			io.WriteString(rw, "body")
			http.NewResponseController(rw).Flush()
			rw.Header().Set(http.TrailerPrefix+"Grpc-Status", "5")
		})
		resp := w.visitor.Get(t, "/plain/a")
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); string(body) != "body" || err != nil || resp.Trailer.Get("Grpc-Status") != "5" {
			t.Errorf("got %q (%v), trailers %v", body, err, resp.Trailer)
		}
	})
}

// A conversation needs the answer to begin before the request has ended.
func TestRequestAndResponseStreamAtOnce(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(rw)
			control.EnableFullDuplex()
			rw.Header().Set("Content-Type", "application/grpc")
			rw.WriteHeader(200)
			control.Flush()
			buf := make([]byte, 100)
			for {
				n, err := r.Body.Read(buf)
				rw.Write(buf[:n])
				control.Flush()
				if err != nil {
					return
				}
			}
		})
		body, out := io.Pipe()
		req, _ := http.NewRequestWithContext(t.Context(), "POST", w.visitor.URL+"/plain/a", body)
		req.Header.Set("Content-Type", "application/grpc")
		resp, err := w.visitor.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for i := range 3 {
			said := fmt.Sprint("message ", i)
			io.WriteString(out, said)
			heard := make([]byte, len(said))
			if _, err := io.ReadFull(resp.Body, heard); err != nil || string(heard) != said {
				t.Fatalf("said %q, heard %q (%v)", said, heard, err)
			}
		}
		out.Close()
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("got %q (%v) after the end", rest, err)
		}
		w.settled(t)
	})
}

func TestExpectContinue(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(rw, "%s %q", body, r.Header.Get("Expect"))
		})
		continued := make(chan struct{}, 1)
		trace := &httptrace.ClientTrace{Got100Continue: func() { continued <- struct{}{} }}
		// The body waits for the word. Without it this would wait for ever.
		body, out := io.Pipe()
		go func() {
			<-continued
			io.WriteString(out, "upload")
			out.Close()
		}()
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", w.visitor.URL+"/plain/a", body)
		req.Header.Set("Expect", "100-continue")
		resp, err := w.visitor.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); string(got) != `upload ""` {
			t.Errorf("got %q (%v)", got, err)
		}
	})
}

func TestRefusedBeforeTheOrigin(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.ask("POST", "/plain/a", "x", "Early-Data", "1").check(t, 425, "refused; reason=too-early", "")
		via := strings.Repeat("1.1 spillway, ", 8) + "1.1 other"
		w.ask("GET", "/plain/a", "", "Via", via).check(t, 508, "refused; reason=loop", "")
		if n := w.origin.requests.Load(); n != 0 {
			t.Errorf("the origin got %d requests", n)
		}
		w.ask("GET", "/plain/a", "", "Early-Data", "1", "Via", "1.1 spillway").check(t, 200, "origin", "")
	})
}

func TestMethodsThatARouteDoesNotTake(t *testing.T) {
	for _, proto := range []string{"h1", "h2", "h3"} {
		w := newWorldWith(t, proto, 1, func(_ *edge.Config, routes []edge.RouteConfig) {
			routes[0].Match.Methods = []string{"HEAD", "GET"}
		})
		f := func(method, path, allow string) {
			t.Helper()
			a := w.ask(method, path, "")
			if a.status != 405 || a.header.Get("Allow") != allow {
				t.Errorf("%s: %s %s: got %d, Allow %q", proto, method, path, a.status, a.header.Get("Allow"))
			}
		}
		f("DELETE", "/plain/a", "GET, HEAD")
		f("TRACE", "/spill/a", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
}

// The hints of a visitor who leaves while they are written are not touched any
// more; the race detector sees if they are.
func TestHintsForVisitorsWhoLeave(t *testing.T) {
	w := newWorld(t, "h2", 1000)
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		for i := range 20 {
			rw.Header().Set(fmt.Sprint("X-", i), "hint")
		}
		for range 6 {
			rw.WriteHeader(http.StatusEarlyHints)
		}
	})
	var visitors sync.WaitGroup
	for i := range 8 {
		visitors.Go(func() {
			for j := range 150 {
				ctx, leave := context.WithCancel(t.Context())
				trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { leave(); return nil }}
				path := fmt.Sprintf("/plain/%d-%d", i, j)
				req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), "GET", w.visitor.URL+path, nil)
				if resp, err := w.visitor.Client.Do(req); err == nil {
					resp.Body.Close()
				}
				leave()
			}
		})
	}
	visitors.Wait()
	w.settled(t)
}

func TestErrorsNameTheirCauseAndRequest(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.dies(t)
		a := w.ask("GET", "/plain/a", "", "X-Request-Id", "mine-7")
		a.check(t, 503, "shed; reason=origin-down", "503 Service Unavailable\n")
		if got := a.header.Get("Proxy-Status"); got != "spillway; error=destination_unavailable" {
			t.Errorf("Proxy-Status %q", got)
		}
		if got := a.header.Get("X-Request-Id"); got != "mine-7" {
			t.Errorf("X-Request-Id %q", got)
		}
	})
}

func TestErrorPages(t *testing.T) {
	dir := t.TempDir()
	page := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pages := map[string]string{
		"5xx": page("5xx.html", "<h1>{{status}}</h1>{{request_id}} {{other}}"),
		"404": page("404.json", `{"error":"{{status}}"}`),
	}
	for _, proto := range []string{"h1", "h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorldWith(t, proto, 1, func(c *edge.Config, routes []edge.RouteConfig) {
				c.ErrorPages = pages
				routes[0].ErrorPages = map[string]string{"5xx": page("own.txt", "own words")}
			})
			f := func(path string, status int, contentType, body string) {
				t.Helper()
				a := w.ask("GET", path, "", "X-Request-Id", "r1")
				if a.status != status || a.body != body || a.header.Get("Content-Type") != contentType {
					t.Errorf("%s: got %d %q %q", path, a.status, a.header.Get("Content-Type"), a.body)
				}
			}
			// What an origin says is its own.
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) { http.Error(rw, "mine", http.StatusInternalServerError) })
			f("/plain/a", 500, "text/plain; charset=utf-8", "mine\n")
			f("/nowhere", 404, "application/json", `{"error":"404 Not Found"}`)
			w.origin.dies(t)
			// 502 while a connection dies, 503 afterwards.
			if a := w.ask("GET", "/plain/a", ""); a.status < 502 || a.body != "own words" {
				t.Errorf("got %d %q", a.status, a.body)
			}
			w.first.dies(t)
			w.second.dies(t)
			f("/spill/a", 503, "text/html; charset=utf-8", "<h1>503 Service Unavailable</h1>r1 {{other}}")
		})
	}
}

func TestErrorPagesThatCannotBe(t *testing.T) {
	f := func(status string, ok bool) {
		t.Helper()
		if err := edge.CheckErrorStatus(status); (err == nil) != ok {
			t.Errorf("%q: %v", status, err)
		}
	}
	f("404", true)
	f("599", true)
	f("4xx", true)
	f("5XX", true)
	f("3xx", false)
	f("200", false)
	f("600", false)
	f("all", false)
	f("", false)
}
