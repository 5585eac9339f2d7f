package edge_test

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

var large = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 500<<10)) })

// What the node says at the start of HTTP/2 stands behind switches of the
// library (see http2.go). An update of the library that moves one ends here.
func TestHTTP2SwitchesAreOn(t *testing.T) {
	n := edgetest.New(large).Start(t)
	a := attack2(t, n)
	a.out.Flush()
	f, err := a.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := f.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("got %v", f)
	}
	for _, id := range []http2.SettingID{
		http2.SettingEnableConnectProtocol, // RFC 8441 section 3
		http2.SettingNoRFC7540Priorities,   // RFC 9218 section 2.1
	} {
		if v, ok := settings.Value(id); !ok || v != 1 {
			t.Errorf("%v is %d, want 1", id, v)
		}
	}
}

// A visitor holds back its window while it asks for something unimportant, and
// then for something urgent. That overtakes.
func TestPriorityH2(t *testing.T) {
	edgetest.New(large).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		a := attack2(t, n, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		a.ask("GET", "/", "priority", "u=7")
		urgent := a.ask("GET", "/", "priority", "u=0")
		go a.out.Flush()
		var mu sync.Mutex
		var ended []uint32
		go func() {
			for {
				f, err := a.ReadFrame()
				if err != nil {
					return
				}
				if d, ok := f.(*http2.DataFrame); ok && d.StreamEnded() {
					mu.Lock()
					ended = append(ended, d.StreamID)
					mu.Unlock()
				}
			}
		}()
		synctest.Wait()
		if len(ended) > 0 {
			t.Fatal("an answer ended with the window closed")
		}
		// By steps that leave no stream without something to send: else one that is less
		// urgent goes on while the other makes its next piece.
		for done := 0; done < 2; {
			a.WriteWindowUpdate(0, 1<<10)
			a.out.Flush()
			synctest.Wait()
			mu.Lock()
			done = len(ended)
			mu.Unlock()
		}
		if ended[0] != urgent {
			t.Errorf("ended in the order %v, want %d first", ended, urgent)
		}
		a.Close()
	})
}

func TestPriorityH3(t *testing.T) {
	edgetest.New(large).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn, err := n.Dial(t, &quic.Config{
			InitialStreamReceiveWindow: 1 << 20, MaxStreamReceiveWindow: 1 << 20,
			InitialConnectionReceiveWindow: 32 << 10, MaxConnectionReceiveWindow: 32 << 10,
		})
		if err != nil {
			t.Fatal(err)
		}
		cc := new(http3.Transport).NewClientConn(conn)
		ask := func(priority string) io.ReadCloser {
			r, _ := http.NewRequest(http.MethodGet, n.URL(), nil)
			r.Header.Set("Priority", priority)
			resp, err := cc.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			return resp.Body
		}
		var mu sync.Mutex
		var ended []string
		var reading sync.WaitGroup
		take := func(priority string, body io.Reader) {
			io.Copy(io.Discard, body)
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, priority)
		}
		body := ask("u=7") // which fills the window
		reading.Go(func() { take("u=1", ask("u=1")) })
		time.Sleep(time.Second) // the node has both requests
		take("u=7", body)
		reading.Wait()
		if !slices.Equal(ended, []string{"u=1", "u=7"}) {
			t.Errorf("ended in the order %v", ended)
		}
	})
}
