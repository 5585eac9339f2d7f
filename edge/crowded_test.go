package edge_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

// slowOn answers at once, and what is asked for on /slow after a wait.
func slowOn(wait func()) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			wait()
		}
	})
}

// On a full node those are closed that have been idle for longest, no more of them than
// make room, with an error that is none; and nobody who waits for an answer, for however
// long.
func TestCrowdedOutAreTheLongestIdle(t *testing.T) {
	setup := edgetest.New(slowOn(func() { time.Sleep(15 * time.Second) }))
	const all = 40
	setup.Admit.Connections = all
	setup.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		var conns []*quic.Conn
		answered := make(chan error, 1)
		for i := range all {
			conn, err := n.Dial(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			client := new(http3.Transport).NewClientConn(conn)
			if i == 0 {
				go func() { answered <- visitOnce(t.Context(), client, n.URL()+"/slow") }()
			} else if err := visitOnce(t.Context(), client, n.URL()+"/"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		closed := 0
		for i, conn := range conns {
			if conn.Context().Err() == nil {
				continue
			}
			closed++
			if i == 0 || i > all/2 {
				t.Errorf("connection %d of %d is closed", i, all)
			}
			var app *quic.ApplicationError
			if err := context.Cause(conn.Context()); !errors.As(err, &app) || app.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
				t.Errorf("connection %d was closed with %v", i, err)
			}
		}
		// The last quarter of the connections is room for others, and a sweep closes a
		// quarter at most.
		if closed < all/8 || closed > all/2 || n.Listeners.State().Crowded != uint64(closed) {
			t.Errorf("%d connections of %d are closed, %d were crowded out", closed, all, n.Listeners.State().Crowded)
		}
		if err := <-answered; err != nil {
			t.Errorf("the request in flight: %v", err)
		}
	})
}

// Who was crowded out comes back with the next request, as browsers do. Visitors wait for
// the close first, for a request that crosses it over HTTP/3 is lost.
func TestCrowdedOutComeBack(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			var release chan struct{}
			setup := edgetest.New(slowOn(func() { <-release }))
			setup.Admit.Connections = 8
			setup.Virtual(t, func(t *testing.T, n *edgetest.Node) {
				release = make(chan struct{})
				var visitors []*edgetest.Visitor
				for range 7 {
					v := n.Visitor(t, proto)
					read(t, v.Get(t, "/"))
					visitors = append(visitors, v)
				}
				waiting := n.Visitor(t, proto)
				answered := make(chan error, 1)
				go func() {
					resp, err := waiting.Client.Get(waiting.URL + "/slow")
					if err == nil {
						resp.Body.Close()
					}
					answered <- err
				}()
				for s := n.Listeners.State(); s.TCP+s.QUIC > 6; s = n.Listeners.State() {
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(time.Second)
				for _, v := range visitors[:2] { // who have been idle for longest
					read(t, v.Get(t, "/"))
				}
				close(release)
				if err := <-answered; err != nil {
					t.Errorf("the request in flight: %v", err)
				}
			})
		})
	}
}

func visitOnce(ctx context.Context, client *http3.ClientConn, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.RoundTrip(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
