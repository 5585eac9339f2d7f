package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/cmd/surge/bench"
	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// serve starts an HTTP/3 server that answers what is asked for here, and returns its
// address.
func serve(t *testing.T, change func(*http3.Server)) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "both.pem")
	if err := bench.WriteCertificate(file); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf := http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}})
	server := &http3.Server{TLSConfig: conf, QUICConfig: &quic.Config{Allow0RTT: true}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path(kib) {
			http.NotFound(w, r)
			return
		}
		w.Write(make([]byte, kib))
	})}
	if change != nil {
		change(server)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(conn) }()
	t.Cleanup(func() {
		server.Close()
		<-served
		conn.Close()
	})
	return conn.LocalAddr().String()
}

// slowly has a server take its time for a handshake. What it says of itself races with the
// first stream of quic-go's client that brings early data
// (https://github.com/quic-go/quic-go/issues/4303), so that it must come later.
func slowly(s *http3.Server) {
	s.TLSConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		time.Sleep(50 * time.Millisecond)
		return nil, nil
	}
}

func TestVisit(t *testing.T) {
	address, slow := serve(t, nil), serve(t, slowly)
	f := func(address string, w work, atLeast int64) {
		t.Helper()
		w.Protocol, w.Bytes = h3, kib
		var out bytes.Buffer
		got, err := visit(t.Context(), address, w, &out)
		for ; err == nil && got.Answers < atLeast && w.For > 0 && w.For < 10*time.Second; got, err = visit(t.Context(), address, w, &out) {
			w.For *= 10 // a busy machine stalls for seconds
			out.Reset()
		}
		if err != nil || got.Answers < atLeast || got.Failed != 0 || got.Took <= 0 {
			t.Errorf("%s: %+v, %v", w.Shape, got, err)
		}
		if out.String() != visitBegins+"\n"+visitEnds+"\n" {
			t.Errorf("%s: said %q", w.Shape, out.String())
		}
	}
	f(address, work{Shape: steady, Connections: 2, Streams: 3, For: time.Second}, 1)
	f(address, work{Shape: visitors, Rate: 20, For: 500 * time.Millisecond}, 10)
	f(address, work{Shape: visitors, Connections: 7}, 7)
	f(address, work{Shape: returning, Connections: 2, For: time.Second}, 1)
	f(slow, work{Shape: returning, Connections: 2, For: 500 * time.Millisecond, Early: true}, 1)
	f(address, work{Shape: idle, Connections: 5, For: 100 * time.Millisecond}, 5)
	f(address, work{Shape: probing, Connections: 2, Rate: 20, For: 500 * time.Millisecond}, 10)
	if _, err := visit(t.Context(), address, work{Shape: "dancing"}, new(bytes.Buffer)); err == nil {
		t.Error("a shape that does not exist is measured")
	}
}

// What a server cannot do is said, and no figure is made of something else.
func TestVisitSaysWhatIsLacking(t *testing.T) {
	f := func(address, why string, w work) {
		t.Helper()
		w.Protocol, w.Bytes = h3, kib
		var out bytes.Buffer
		_, err := visit(t.Context(), address, w, &out)
		if lack := (*lackError)(nil); !errors.As(err, &lack) || !strings.Contains(lack.why, why) {
			t.Errorf("%v, want that %q", err, why)
		}
	}
	back := work{Shape: returning, Connections: 1, For: 100 * time.Millisecond}
	f(serve(t, func(s *http3.Server) { s.TLSConfig.SessionTicketsDisabled = true }), "no ticket", back)
	early := back
	early.Early = true
	f(serve(t, func(s *http3.Server) { s.QUICConfig.Allow0RTT = false }), "no early data", early)
	type connection struct{}
	impatient := func(s *http3.Server) {
		s.ConnContext = func(ctx context.Context, c *quic.Conn) context.Context {
			return context.WithValue(ctx, connection{}, c)
		}
		patient := s.Handler
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			patient.ServeHTTP(w, r)
			c := r.Context().Value(connection{}).(*quic.Conn)
			time.AfterFunc(4*time.Second, func() { c.CloseWithError(0, "") }) // the answer has come by then
		})
	}
	// Both times would be over together if the machine stood still for what is between them.
	f(serve(t, impatient), "connections were closed", work{Shape: idle, Connections: 3, For: 9 * time.Second})
}

func TestVisitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := visit(ctx, serve(t, nil), work{Shape: steady, Protocol: h3, Bytes: kib, Connections: 1, Streams: 1, For: time.Minute}, new(bytes.Buffer)); err == nil {
		t.Error("a visit that was called off is a figure")
	}
}

// A body of another size is not the answer.
func TestAnswersMustBeWhole(t *testing.T) {
	w := work{Shape: steady, Protocol: h3, Bytes: 2 * kib, Connections: 1, Streams: 1, For: 100 * time.Millisecond}
	if _, err := visit(t.Context(), serve(t, nil), w, new(bytes.Buffer)); err == nil {
		t.Error("an answer that is not found is counted")
	}
}

// The ticket of many visitors outlives those who leave while they shake hands: crypto/tls
// has it forgotten, now and then twice, which its own cache takes for a ticket of nothing.
func TestTicketIsKept(t *testing.T) {
	v := &visitor{work: work{Protocol: h3, Bytes: 1024}, sessions: unshared{tls.NewLRUClientSessionCache(1)}}
	var err error
	if v.target, err = net.ResolveUDPAddr("udp", serve(t, func(*http3.Server) {})); err != nil {
		t.Fatal(err)
	}
	if err := v.remember(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		v.sessions.Put(serverName, nil)
	}
	if own, ok := v.sessions.Get(serverName); !ok || own == nil {
		t.Error("the ticket is gone")
	}
}
