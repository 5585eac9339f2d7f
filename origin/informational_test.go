package origin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/limit"
)

// TestInformational: what a server says before its answer is relayed, as far as
// it is for the visitor.
func TestInformational(t *testing.T) {
	for _, scheme := range []string{"http", "https", "h2c"} {
		server, c := serverOf(t, scheme, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // 100 is sent for it
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.Header().Set("Alt-Svc", `h3=":444"`)
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(http.StatusOK)
		}))
		c.Servers = []string{server}
		o := newOrigin(t, c)
		var got []string
		ctx := WithInformational(t.Context(), func(status int, h http.Header) {
			got = append(got, fmt.Sprint(status, h))
		})
		resp, err := o.Do(Outgoing(ctx, get(t, "/"), visitor, nil), o.acquire(t))
		bodyOf(t, resp, err)
		want := "[103 map[Link:[</style.css>; rel=preload]] 102 map[Link:[</style.css>; rel=preload]]]"
		if fmt.Sprint(got) != want {
			t.Errorf("%s: got %s, want %s", scheme, got, want)
		}
	}
}

// TestInformationalBounds: a server cannot go on with them for good, whether
// they are listened to or not, and none comes after Do has returned.
func TestInformationalBounds(t *testing.T) {
	flood := requests(func(c net.Conn, _ *http.Request) bool {
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 1000)+"\r\n\r\n"); err != nil {
				return false
			}
		}
	})
	trickle := requests(func(c net.Conn, _ *http.Request) bool {
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
				return false
			}
			time.Sleep(7 * time.Second)
		}
	})
	f := func(name string, serve func(net.Conn), listen bool, reason outcome.Reason) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{})
				o.dial = network{"a": serve}.dial
				ctx, calls, returned := t.Context(), 0, false
				if listen {
					ctx = WithInformational(ctx, func(int, http.Header) {
						calls++
						if returned {
							t.Error("called after the end")
						}
					})
				}
				start := time.Now()
				_, err := o.Do(Outgoing(ctx, get(t, "/"), visitor, nil), o.acquire(t))
				returned = true
				checkFailure(t, err, reason, true)
				checkResult(t, o, limit.Drop)
				if calls > informationalMost || time.Since(start) > o.config.Load().Timeout {
					t.Errorf("%d calls, %v", calls, time.Since(start))
				}
				time.Sleep(time.Minute) // the server finds the connection closed
				o.checkRest(t)
			})
		})
	}
	f("flood", flood, true, outcome.OriginFailed)
	f("flood unheard", flood, false, outcome.OriginFailed)
	f("trickle", trickle, true, outcome.OriginTimeout)
	f("trickle unheard", trickle, false, outcome.OriginTimeout)
}
