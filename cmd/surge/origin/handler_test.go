package origin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

func TestPlainAnswers(t *testing.T) {
	f := func(method, target string, status int, body int, header, value string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			w := httptest.NewRecorder()
			o.ServeHTTP(w, httptest.NewRequest(method, target, nil))
			if w.Code != status || w.Body.Len() != body || w.Header().Get(header) != value {
				t.Errorf("%s %s = %d, %d bytes, %s: %s", method, target, w.Code, w.Body.Len(), header, w.Header().Get(header))
			}
		})
	}
	f("GET", "/", 200, 1024, "X-True-Inflight", "1")
	f("GET", "/", 200, 1024, "Cache-Control", "")
	f("GET", "/a?bytes=100000", 200, 100000, "Content-Length", "100000")
	f("HEAD", "/a?bytes=100000", 200, 0, "Content-Length", "100000")
	f("GET", "/a?bytes=0&cache=60", 200, 0, "Cache-Control", "max-age=60")
	f("GET", "/?status=404&bytes=3", 404, 3, "Content-Length", "3")
	f("GET", "/?status=204", 204, 0, "Content-Length", "")
	f("GET", "/?status=304", 304, 0, "Content-Length", "")
	f("GET", "/?other=1", 200, 1024, "Content-Type", "text/plain; charset=utf-8")
}

func TestBadQueries(t *testing.T) {
	o := newOrigin(t, Config{})
	for _, query := range []string{
		"bytes=-1", "bytes=x", "bytes=99999999999", "cache=-1", "status=99", "status=600", "slow=0",
		"slow=NaN", "slow=-1", "slow=1e9", "stream=0", "every=0s", "every=1",
	} {
		if status, _ := get(t.Context(), o, "/?"+query); status != http.StatusBadRequest {
			t.Errorf("%s was answered %d", query, status)
		}
	}
	if s := o.Stats(); s.Arrived != 0 {
		t.Errorf("bad requests took a slot: %d arrived", s.Arrived)
	}
}

func TestSlowTakesAMultiple(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Service: 100 * time.Millisecond})
		start := time.Now()
		get(t.Context(), o, "/?slow=2.5")
		if d := time.Since(start).Round(time.Millisecond); d != 250*time.Millisecond {
			t.Errorf("took %v, want 250ms", d)
		}
	})
}

// An event stream holds its slot for its headers only.
func TestStreamHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Slots: 1, Service: time.Second})
		done := make(chan struct{})
		go func() {
			_, w := get(t.Context(), o, "/?stream=5&every=10s")
			if n := strings.Count(w.Body.String(), "data: "); n != 5 {
				t.Errorf("%d events, want 5", n)
			}
			if h := w.Header(); h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("header %v", h)
			}
			close(done)
		}()
		time.Sleep(1500 * time.Millisecond)
		if s := o.Stats(); s.Streams != 1 || s.InFlight != 0 || s.Completed != 1 {
			t.Errorf("while streaming: %d streams, %d in flight, %d completed", s.Streams, s.InFlight, s.Completed)
		}
		start := time.Now()
		get(t.Context(), o, "/")
		if d := time.Since(start).Round(time.Millisecond); d != time.Second {
			t.Errorf("a request beside the stream took %v", d)
		}
		<-done
		if s := o.Stats(); s.Streams != 0 {
			t.Errorf("%d streams after the end", s.Streams)
		}
	})
}

func TestEventsEndWithTheirClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Service: time.Second})
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			get(ctx, o, "/events")
			close(done)
		}()
		time.Sleep(time.Minute)
		leave()
		<-done
		checkSums(t, o.Stats())
	})
}

func TestControlRequests(t *testing.T) {
	f := func(method, query, via string, status int, slots int, speed float64) {
		t.Helper()
		o := newOrigin(t, Config{})
		r := httptest.NewRequest(method, "/control?"+query, nil)
		if via != "" {
			r.Header.Set("X-Forwarded-For", via)
		}
		w := httptest.NewRecorder()
		o.ServeHTTP(w, r)
		if s := o.Stats(); w.Code != status || s.Slots != slots || s.Speed != speed {
			t.Errorf("%s %s: %d %s; slots %d, speed %v", method, query, w.Code, w.Body, s.Slots, s.Speed)
		}
	}
	f("POST", "slots=2", "", 200, 2, 1)
	f("POST", "speed=0.5", "", 200, 4, 0.5)
	f("POST", "slots=3&speed=2", "", 200, 3, 2)
	f("POST", "", "", 200, 4, 1)
	f("GET", "slots=2", "", 403, 4, 1)
	f("POST", "slots=2", "192.0.2.1", 403, 4, 1)
	f("POST", "slots=two", "", 400, 4, 1)
	f("POST", "slots=0", "", 400, 4, 1)
	f("POST", "speed=fast", "", 400, 4, 1)
	f("POST", "slot=2", "", 400, 4, 1)
	f("POST", "die=1&revive=1", "", 400, 4, 1)
	f("POST", "die=yes", "", 400, 4, 1)
}

// Over a real connection: an origin that dies closes it, and revives.
func TestDiesOnTheWire(t *testing.T) {
	o := newOrigin(t, Config{Service: time.Millisecond})
	server := httptest.NewServer(o)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	do := func(method, path string) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	if status, err := do("GET", "/"); status != 200 || err != nil {
		t.Fatalf("alive: %d, %v", status, err)
	}
	if status, err := do("POST", "/control?die=1"); status != 200 || err != nil {
		t.Fatalf("die: %d, %v", status, err)
	}
	if status, err := do("GET", "/"); err == nil {
		t.Fatalf("dead: %d", status)
	}
	if status, err := do("GET", "/stats"); status != 200 || err != nil {
		t.Fatalf("stats while dead: %d, %v", status, err)
	}
	if status, err := do("POST", "/control?revive=1"); status != 200 || err != nil {
		t.Fatalf("revive: %d, %v", status, err)
	}
	if status, err := do("GET", "/"); status != 200 || err != nil {
		t.Fatalf("revived: %d, %v", status, err)
	}
}

func TestWorkAnswersAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(http.StatusCreated)
			w.WriteHeader(http.StatusAccepted) // ignored, as by a server
			_, _ = io.WriteString(w, r.URL.Query().Get("bytes"))
		})
		o := newOrigin(t, Config{Work: work})
		_, w := get(t.Context(), o, "/x?bytes=own")
		if w.Code != 201 || w.Body.String() != "own" || w.Header().Get("Etag") != `"1"` || w.Header().Get("X-True-Inflight") != "1" {
			t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
		}
	})
}

func TestCommandRefuses(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		cmd := Command()
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", args, err, want)
		}
	}
	f("want fifo or sharing", "--model", "lifo")
	f("--slots: want more than 0", "--slots", "0")
	f("--service: want more than 0", "--service", "0")
	f("slots: want at least 1", "--slots", "-2")
	f("want a number and one of", "--body", "12")
	f("want none or image", "--work", "video")
	f("listen on 127.0.0.1:65536", "--listen", "127.0.0.1:65536")
	f("unknown flag", "--slot", "1")
	f("unknown command", "now")
}

// The command serves real pictures, stops when told to, and says what it did.
func TestCommandServes(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	cmd := Command()
	cmd.SetArgs([]string{"--listen", "127.0.0.1:0", "--work", "image", "--service", "1ms", "--json"})
	cmd.SetOut(in)
	done := make(chan error, 1)
	go func() {
		done <- cmd.ExecuteContext(ctx)
		in.Close()
	}()
	var line [100]byte
	n, err := out.Read(line[:])
	if err != nil {
		t.Fatal(err, <-done)
	}
	url := strings.TrimSuffix(strings.TrimPrefix(string(line[:n]), `{"listening":"`), "\"}\n")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url + "/picture/harbour.jpg?w=64")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !bytes.HasPrefix(body, []byte{0xff, 0xd8}) {
		t.Fatalf("picture: %d, %d bytes, %v", resp.StatusCode, len(body), err)
	}
	stop()
	rest, err := io.ReadAll(out)
	if err != nil || !strings.Contains(string(rest), `"completed":1,`) {
		t.Errorf("final counters %s, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
