package edge_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"spillway/edge/admit"
	"spillway/edge/edgetest"
)

// TestStreamsAreShedUnread: a node that is overwhelmed rejects streams of connections that
// have their share in flight, and it does so at no other time.
func TestStreamsAreShedUnread(t *testing.T) {
	const streams, share = 20, 8
	for level, want := range map[admit.Level]int64{admit.Shedding: streams, admit.Closed: share} {
		t.Run(level.String(), func(t *testing.T) {
			var begun atomic.Int64
			var release chan struct{}
			setup := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begun.Add(1)
				<-release
			}))
			setup.Virtual(t, func(t *testing.T, n *edgetest.Node) {
				release = make(chan struct{})
				pin := func(l admit.Level) {
					if err := n.Admit.SetLevel(l, time.Now().Add(time.Hour)); err != nil {
						t.Fatal(err)
					}
				}
				conn, err := n.Dial(t, &quic.Config{})
				if err != nil {
					t.Fatal(err)
				}
				answers := make(chan string, streams)
				for i := range int64(streams) {
					pin(level) // or it lapses, for nobody runs the controller
					s := open3(t, conn)
					s.Write(appendHeaders(nil, askFor("/")))
					s.Close()
					if i < want {
						await(t, "a request", func() bool { return begun.Load() == i+1 })
						go func() { answers <- taken3(s) }()
					} else if got := taken3(s); got != "reset 0x10b" { // H3_REQUEST_REJECTED
						t.Errorf("stream %d: %s", i, got)
					}
				}
				if got := n.Listeners.State().ShedStreams; got != uint64(streams-want) {
					t.Errorf("counted %d, want %d", got, streams-want)
				}
				close(release)
				for range want {
					if got := <-answers; got != "200  0 bytes" {
						t.Error(got)
					}
				}
				await(t, "no stream", func() bool { // they are fewer now, and may come again
					pin(level)
					s := open3(t, conn)
					s.Write(appendHeaders(nil, askFor("/")))
					s.Close()
					return taken3(s) == "200  0 bytes"
				})
			})
		})
	}
}
