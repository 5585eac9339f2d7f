package edge_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/waiting"
)

// runRoom runs f against a node whose page visits wait for an origin that takes
// one request at a time, over each protocol.
func runRoom(t *testing.T, c waiting.Config, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			f(t, newWorldWith(t, proto, 1, func(_ *edge.Config, routes []edge.RouteConfig) {
				for i := range routes {
					routes[i].Waiting = &c
				}
			}))
		})
	}
}

// A guest is a browser: it visits pages and keeps cookies.
type guest struct {
	w    *world
	jar  map[string]string
	mode string // Sec-Fetch-Mode
}

func (w *world) guest() *guest { return &guest{w: w, jar: map[string]string{}, mode: "navigate"} }

func (g *guest) visit(path string, header ...string) answer {
	cookies := []string{"other=1"}
	for name, value := range g.jar {
		cookies = append(cookies, name+"="+value)
	}
	header = append(header, "Sec-Fetch-Mode", g.mode, "Cookie", strings.Join(cookies, "; "))
	a := g.w.ask("GET", path, "", header...)
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if g.jar[c.Name] = c.Value; c.MaxAge < 0 {
			delete(g.jar, c.Name)
		}
	}
	return a
}

// holds returns the cookie of a kind, wait or pass.
func (g *guest) holds(kind string) string {
	for name, value := range g.jar {
		if strings.HasPrefix(name, "__Host-"+kind+"-") {
			return value
		}
	}
	return ""
}

const (
	sentToWait = "waiting; reason=origin-saturated"
	sentBack   = "waiting; reason=others-first"
)

func TestVisitorsAreLetInByTheOrderOfArrival(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		first, second, late, program := w.guest(), w.guest(), w.guest(), w.guest()
		program.mode = "cors"
		release := w.occupy(t)
		first.visit("/plain/1").check(t, 503, sentToWait, "")
		second.visit("/plain/2").check(t, 503, sentBack, "")
		program.visit("/plain/3").check(t, 503, "shed; reason=origin-saturated", "503 Service Unavailable\n")
		release()

		// There is room now, and it is not for those who come now.
		late.visit("/plain/4").check(t, 503, sentBack, "")
		copied := first.guestWith(first.jar)
		first.visit("/plain/1").check(t, 200, "origin", "origin /plain/1")
		if first.holds("pass") == "" || first.holds("wait") != "" {
			t.Errorf("the first has %v", first.jar)
		}
		copied.visit("/plain/1").check(t, 503, sentBack, "")
		second.visit("/plain/2").check(t, 200, "origin", "origin /plain/2")
		late.visit("/plain/4").check(t, 200, "origin", "origin /plain/4")
		copied.visit("/plain/1").check(t, 200, "origin", "origin /plain/1")

		// Nobody waits any more.
		a := w.guest().visit("/plain/5")
		if a.check(t, 200, "origin", "origin /plain/5"); len(a.header["Set-Cookie"]) > 0 {
			t.Errorf("a visitor who did not wait has %v", a.header["Set-Cookie"])
		}
	})
}

// guestWith is another browser with the same cookies.
func (g *guest) guestWith(jar map[string]string) *guest {
	other := g.w.guest()
	maps.Copy(other.jar, jar)
	return other
}

// TestWhoseTurnHasComeIsServed asks that neither a visitor who was called nor one
// with a pass is sent away because the origin is busy at that instant.
func TestWhoseTurnHasComeIsServed(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		passed, called := w.guest(), w.guest()
		release := w.occupy(t)
		passed.visit("/plain/1").check(t, 503, sentToWait, "")
		release()
		passed.visit("/plain/1").check(t, 200, "origin", "")

		release = w.occupy(t)
		called.visit("/plain/2").check(t, 503, sentToWait, "")
		var both sync.WaitGroup
		both.Go(func() { called.visit("/plain/2").check(t, 200, "queued", "origin /plain/2") })
		both.Go(func() { passed.visit("/plain/3").check(t, 200, "queued", "origin /plain/3") })
		for w.server.Waiting()["app"].AtDoor < 2 {
			time.Sleep(time.Millisecond)
		}
		release()
		both.Wait()
	})
}

// A ticket in the hands of an origin, or in its log, would be anybody's.
func TestTicketsStayInTheNode(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		seen := make(chan string, 8)
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) { seen <- strings.Join(r.Header["Cookie"], "|") })
		g := w.guest()
		release := w.occupy(t)
		g.visit("/plain/1").check(t, 503, sentToWait, "")
		release()
		for range 2 { // with the ticket, then with the pass
			g.visit("/plain/1")
			if got := <-seen; got != "other=1" {
				t.Errorf("the origin gets the cookies %q", got)
			}
		}
		if g.holds("pass") == "" {
			t.Error("there is no pass")
		}
	})
}

// Routes without a waiting room get the cookies of the host as well.
func TestTicketsStayInTheNodeOnEveryRoute(t *testing.T) {
	w := newWorld(t, "h1", 1)
	seen := make(chan string, 8)
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) { seen <- strings.Join(r.Header["Cookie"], "|") })
	f := func(cookies, want string) {
		t.Helper()
		w.ask("GET", "/plain/1", "", "Cookie", cookies).check(t, 200, "origin", "")
		if got := <-seen; got != want {
			t.Errorf("of %q the origin gets %q", cookies, got)
		}
	}
	f("a=1; __Host-wait-0123abcd=x; __Host-pass-0123abcd=y; b=2", "a=1; b=2")
	f("__Host-wait-0123abcd=x", "")
	f("__Host-pass-phrase=mine; __Host-pass-0123abcde=mine too; c=__Host-wait-0123abcd", "__Host-pass-phrase=mine; __Host-pass-0123abcde=mine too; c=__Host-wait-0123abcd")
}

// A pass is good for the sockets of a page as well, and as little shown to the origin.
func TestPassesOpenSockets(t *testing.T) {
	w := newWorldWith(t, "h1", 2, func(_ *edge.Config, routes []edge.RouteConfig) {
		routes[0].Waiting = &waiting.Config{}
	})
	inside, leave, seen := make(chan struct{}), make(chan struct{}), make(chan string, 8)
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain/long" {
			inside <- struct{}{}
			<-leave
		} else if r.Header.Get("Upgrade") != "" {
			seen <- strings.Join(r.Header["Cookie"], "|")
			echoSockets(rw, r)
		}
	})
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { w.ask("GET", "/plain/long", "", "Cache-Control", "no-store") })
		<-inside
	}
	defer both.Wait()
	defer close(leave)
	passed, waits := w.guest(), w.guest()
	passed.visit("/plain/1").check(t, 503, sentToWait, "")
	waits.visit("/plain/1").check(t, 503, sentBack, "")
	leave <- struct{}{}
	for w.server.InFlight() > 1 {
		time.Sleep(time.Millisecond)
	}
	passed.visit("/plain/1").check(t, 200, "origin", "")
	f := func(cookies string, status int) {
		t.Helper()
		s, err := w.upgrade(t, "/plain/socket", "Cookie: other=1; "+cookies)
		if err != nil || s.status != status {
			t.Fatalf("with %q: %+v %v, want %d", cookies, s, err, status)
		}
	}
	f("", 503)
	for name, value := range passed.jar {
		f(name+"="+value, 101)
	}
	if got := <-seen; got != "other=1" {
		t.Errorf("the origin gets the cookies %q", got)
	}
}

// TestStrangersLeaveRoom asks that those who never wait do not take what those who
// wait are about to be given.
func TestStrangersLeaveRoom(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newWorldWith(t, proto, 2, func(_ *edge.Config, routes []edge.RouteConfig) {
				routes[0].Waiting = &waiting.Config{}
			})
			inside, leave := make(chan struct{}), make(chan struct{})
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/plain/long" {
					inside <- struct{}{}
					<-leave
				}
			})
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { w.ask("GET", "/plain/long", "", "Cache-Control", "no-store") })
				<-inside
			}
			g := w.guest()
			g.visit("/plain/1").check(t, 503, sentToWait, "")
			leave <- struct{}{}
			for w.server.InFlight() > 1 {
				time.Sleep(time.Millisecond)
			}
			w.ask("GET", "/plain/2", "").check(t, 503, "shed; reason=origin-saturated", "")
			g.visit("/plain/1").check(t, 200, "origin", "")
			w.ask("GET", "/plain/2", "").check(t, 200, "origin", "") // nobody waits any more
			close(leave)
			both.Wait()
		})
	}
}

func TestWhatAWaitingVisitorSees(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		g := w.guest()
		a := g.visit("/plain/1", "Accept-Language", "de-AT, en;q=0.5")
		a.check(t, 503, sentToWait, "")
		again, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || again < 2 || a.header.Get("Refresh") != strconv.Itoa(again) {
			t.Errorf("Retry-After %q, Refresh %q", a.header.Get("Retry-After"), a.header.Get("Refresh"))
		}
		if a.header.Get("Cache-Control") != "no-store" || !strings.Contains(a.body, `<html lang="de" dir="ltr">`) {
			t.Errorf("%v\n%s", a.header, a.body)
		}
		if len(a.body) > 4<<10 {
			t.Errorf("the page has %d bytes", len(a.body))
		}
		c := (&http.Response{Header: a.header}).Cookies()[0]
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 6*3600 {
			t.Errorf("the cookie is %v", c)
		}
		// Only visits of pages wait.
		for _, header := range [][]string{
			{"Sec-Fetch-Mode", "no-cors", "Accept", "text/html"}, {"Accept", "image/avif"}, {},
		} {
			w.ask("GET", "/plain/2", "", header...).check(t, 503, "shed; reason=origin-saturated", "")
		}
		w.ask("POST", "/plain/2", "x", "Sec-Fetch-Mode", "navigate").check(t, 503, "shed; reason=origin-saturated", "")
		w.ask("GET", "/plain/2", "", "Accept", "text/html,*/*").check(t, 503, sentBack, "")
	})
}

func TestProgramsWaitToo(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		release := w.occupy(t)
		a := w.ask("GET", "/plain/1", "", "Spillway-Ticket", "")
		a.check(t, 503, sentToWait, "")
		var told struct {
			Status     int
			Ticket     string
			Reason     string
			RetryAfter int `json:"retry_after_seconds"`
		}
		if err := json.Unmarshal([]byte(a.body), &told); err != nil {
			t.Fatal(err)
		}
		ticket := a.header.Get("Spillway-Ticket")
		if a.header.Get("Content-Type") != "application/json" || told.Ticket != ticket || told.Status != 503 || !strings.HasSuffix(sentToWait, told.Reason) || told.Reason == "" || told.RetryAfter < 2 {
			t.Errorf("%v %+v", a.header, told)
		}
		if len(a.header["Set-Cookie"]) > 0 || a.header.Get("Refresh") != "" {
			t.Errorf("%v", a.header)
		}
		a = w.ask("GET", "/plain/2", "", "Spillway-Ticket", "nonsense", "Accept", "application/problem+json")
		if a.check(t, 503, sentBack, ""); a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v", a.header)
		}
		release()
		a = w.ask("GET", "/plain/1", "", "Spillway-Ticket", ticket)
		a.check(t, 200, "origin", "origin /plain/1")
		pass := a.header.Get("Spillway-Ticket")
		if pass == "" || pass == ticket {
			t.Errorf("%v", a.header)
		}
		w.ask("GET", "/plain/1", "", "Spillway-Ticket", ticket).check(t, 503, sentBack, "")
		w.ask("GET", "/plain/1", "", "Spillway-Ticket", pass).check(t, 200, "origin", "origin /plain/1")
	})
}

// TestTurnsThatFailAreKept asks that a visitor whom the origin answered by an
// error has not used up the ticket.
func TestTurnsThatFailAreKept(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		g := w.guest()
		release := w.occupy(t)
		g.visit("/plain/1").check(t, 503, sentToWait, "")
		release()
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
		g.visit("/plain/1").check(t, 500, "origin", "")
		w.origin.says(cacheable(60, "well"))
		a := g.visit("/plain/1")
		a.check(t, 200, "origin", "well")
		// The pass is this visitor's alone, the page anybody's.
		if control := a.header["Cache-Control"]; len(control) != 2 || control[1] != "private" || g.holds("pass") == "" {
			t.Errorf("%v", a.header)
		}
		a = w.guest().visit("/plain/1")
		if a.check(t, 200, "hit; reason=fresh", "well"); a.header.Get("Cache-Control") != "max-age=60" || a.header["Set-Cookie"] != nil {
			t.Errorf("%v", a.header)
		}
	})
}

// What an answer says to content delivery networks in front of the node does not
// make them give its pass to others.
func TestPassesAreStoredNowhere(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		g := w.guest()
		release := w.occupy(t)
		g.visit("/plain/1").check(t, 503, sentToWait, "")
		release()
		targeted := []string{"Cdn-Cache-Control", "Cloudflare-Cdn-Cache-Control", "Surrogate-Control"}
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			for _, name := range targeted {
				rw.Header().Set(name, "max-age=60")
			}
			cacheable(60, "well")(rw, r)
		})
		for _, a := range []answer{g.visit("/plain/1"), w.guest().visit("/plain/1")} {
			if a.status != 200 {
				t.Errorf("got %d", a.status)
			}
			for _, name := range targeted {
				if told, passed := a.header.Get(name) != "", a.header["Set-Cookie"] != nil; told == passed {
					t.Errorf("%s is %q beside %q", name, a.header.Get(name), a.header["Set-Cookie"])
				}
			}
		}
	})
}

// TestStaleForThoseWhoWait asks that an expired answer is shown to those who may
// not overtake: it costs nobody's place.
func TestStaleForThoseWhoWait(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"1"`)
			cacheable(0, "old")(rw, r)
		})
		w.guest().visit("/stale/1").check(t, 200, "origin", "old")
		release := w.occupy(t)
		defer release()
		w.guest().visit("/plain/1").check(t, 503, sentToWait, "")
		w.guest().visit("/stale/1").check(t, 200, "stale; reason=others-first", "old")
	})
}

func TestFunctionsTakeThoseWhoWait(t *testing.T) {
	runRoom(t, waiting.Config{}, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		w.budget.Empty(time.Now())
		g := w.guest()
		g.visit("/spill/1").check(t, 503, "waiting; reason=budget-spent", "")
		w.budget.Reset(time.Now())
		w.guest().visit("/spill/2").check(t, 503, sentBack, "")
		g.visit("/spill/1").check(t, 200, "function; reason=origin-saturated", "first /spill/1")
	})
}

func TestOwnPagesForWaiting(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wait.html")
	if err := os.WriteFile(file, []byte("<p lang={{.Lang}}>{{if .Next}}next{{else}}{{.Ahead}}{{end}}</p>"), 0o600); err != nil {
		t.Fatal(err)
	}
	runRoom(t, waiting.Config{Page: file}, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		a := w.guest().visit("/plain/1", "Accept-Language", "ja")
		if a.check(t, 503, sentToWait, "<p lang=ja>next</p>"); a.header.Get("Content-Security-Policy") != "" {
			t.Errorf("%v", a.header)
		}
	})
}
