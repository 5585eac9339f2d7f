package edge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"spillway/edge/edgetest"
)

// handOver begins a hand-over and returns its end.
func handOver(ctx context.Context, n *edgetest.Node) <-chan error {
	done := make(chan error, 1)
	go func() { done <- n.Listeners.HandOver(ctx) }()
	return done
}

// request is the header of a request in frames.
var request = []field{{":method", "GET"}, {":scheme", "https"}, {":authority", edgetest.Host}, {":path", "/"}}

// A raw2 is an HTTP/2 connection in the hand of the test.
type raw2 struct {
	frames  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer

	// What the node said until it closed the connection.
	mu       sync.Mutex
	goAways  []uint32
	answered []uint32
	closed   chan struct{}
}

// said returns the GOAWAYs and the streams that were answered.
func (c *raw2) said() (goAways, answered []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.goAways), slices.Clone(c.answered)
}

func dial2(t *testing.T, n *edgetest.Node) *raw2 {
	t.Helper()
	conn, err := n.DialTLS(t, "h2")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, http2.ClientPreface)
	c := &raw2{frames: http2.NewFramer(conn, conn), closed: make(chan struct{})}
	c.encoder = hpack.NewEncoder(&c.block)
	c.frames.WriteSettings()
	go func() {
		defer close(c.closed)
		for {
			frame, err := c.frames.ReadFrame()
			if err != nil {
				return
			}
			c.mu.Lock()
			switch f := frame.(type) {
			case *http2.GoAwayFrame:
				c.goAways = append(c.goAways, f.LastStreamID)
				if f.ErrCode != http2.ErrCodeNo {
					t.Errorf("GOAWAY with %s", f.ErrCode)
				}
			case *http2.HeadersFrame:
				c.answered = append(c.answered, f.StreamID)
			case *http2.RSTStreamFrame:
				t.Errorf("stream %d was reset", f.StreamID)
			}
			c.mu.Unlock()
		}
	}()
	return c
}

// ask sends a request and gives the node time to answer.
func (c *raw2) ask(stream uint32) {
	c.block.Reset()
	for _, f := range request {
		c.encoder.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
	}
	c.frames.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: true,
	})
	synctest.Wait()
}

// Over HTTP/2 a request that crosses the first GOAWAY is answered. The second names
// the last one, and the connection ends when nothing is asked any more.
func TestHandOverTellsHTTP2InTwoSteps(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		c := dial2(t, n)
		c.ask(1)
		begin := time.Now()
		done := handOver(t.Context(), n)
		synctest.Wait()
		if goAways, _ := c.said(); !slices.Equal(goAways, []uint32{math.MaxInt32}) {
			t.Errorf("first: GOAWAY %v", goAways)
		}
		c.ask(3)
		<-c.closed
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("the connection lasted for %s", took)
		}
		if !slices.Equal(c.goAways, []uint32{math.MaxInt32, 3}) {
			t.Errorf("in the end: GOAWAY %v", c.goAways)
		}
		if !slices.Equal(c.answered, []uint32{1, 3}) {
			t.Errorf("answers to %v", c.answered)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A visitor who does not go although he was told to is told with an answer which is
// the last.
func TestHandOverTellsHTTP2VisitorsWhoDoNotListen(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		c := dial2(t, n)
		c.ask(1)
		done := handOver(t.Context(), n)
		stream := uint32(1)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			stream += 2
			c.ask(stream)
		}
		<-c.closed
		if len(c.goAways) != 2 {
			t.Fatalf("GOAWAY %v", c.goAways)
		}
		if last := c.goAways[1]; last >= stream || len(c.answered) != int(last+1)/2 {
			t.Errorf("the last of %d requests is %d, and %d were answered", (stream+1)/2, (last+1)/2, len(c.answered))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Who came for an answer is told with it, and not before.
func TestHandOverTellsNobodyWithoutARequest(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		c := dial2(t, n)
		synctest.Wait()
		done := handOver(t.Context(), n)
		time.Sleep(5 * time.Second)
		if goAways, _ := c.said(); len(goAways) > 0 {
			t.Errorf("GOAWAY %v before the first request", goAways)
		}
		c.ask(1)
		if goAways, answered := c.said(); !slices.Equal(goAways, []uint32{math.MaxInt32}) || !slices.Equal(answered, []uint32{1}) {
			t.Errorf("GOAWAY %v, answers to %v", goAways, answered)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

const goAwayFrame = 7 // RFC 9114 section 7.2.6

// controlWords reads what the node says on its control stream.
func controlWords(t *testing.T, conn *quic.Conn, words chan<- quic.StreamID) {
	defer close(words)
	for {
		str, err := conn.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		r := quicvarint.NewReader(str)
		if kind, err := quicvarint.Read(r); err != nil || kind != controlStream {
			continue
		}
		for {
			kind, err := quicvarint.Read(r)
			if err != nil {
				return
			}
			length, err := quicvarint.Read(r)
			if err != nil {
				return
			}
			payload := make([]byte, length)
			if _, err := io.ReadFull(r, payload); err != nil {
				return
			}
			if kind == goAwayFrame {
				id, _, err := quicvarint.Parse(payload)
				if err != nil {
					t.Error(err)
				}
				words <- quic.StreamID(id)
			}
		}
	}
}

// A raw3 is an HTTP/3 connection in the hand of the test.
type raw3 struct {
	*quic.Conn
	words chan quic.StreamID // GOAWAY
}

func dial3(t *testing.T, n *edgetest.Node) raw3 {
	t.Helper()
	conn, err := n.Dial(t, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	control, err := conn.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	control.Write(appendFrame([]byte{controlStream}, settingsFrame, nil))
	c := raw3{conn, make(chan quic.StreamID, 4)}
	go controlWords(t, conn, c.words)
	return c
}

// ask sends a request and returns the status of the answer.
func (c raw3) ask(t *testing.T) string {
	t.Helper()
	str, err := c.OpenStreamSync(t.Context())
	if err != nil {
		return err.Error()
	}
	str.Write(appendHeaders(nil, request))
	str.Close()
	b, err := io.ReadAll(str)
	if reset, ok := errors.AsType[*quic.StreamError](err); ok {
		return fmt.Sprintf("%#x", uint64(reset.ErrorCode))
	} else if err != nil {
		return err.Error()
	}
	return answer3(b)
}

// Over HTTP/3 a request that crosses the first GOAWAY is answered, and one that
// crosses the second is rejected, so that the visitor may ask elsewhere. When nothing
// is asked any more the connection ends soon, whether or not the visitor ends it.
func TestHandOverTellsHTTP3InTwoSteps(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		c := dial3(t, n)
		if got := c.ask(t); got != "200" {
			t.Errorf("before: %s", got)
		}
		begin := time.Now()
		done := handOver(t.Context(), n)
		if got := <-c.words; got != 1<<62-4 {
			t.Errorf("first GOAWAY names %d", got)
		}
		if got := c.ask(t); got != "200" {
			t.Errorf("crossed the first GOAWAY: %s", got)
		}
		if got := <-c.words; got != 8 {
			t.Errorf("second GOAWAY names %d, want 8", got)
		}
		if got := c.ask(t); got != "0x10b" { // H3_REQUEST_REJECTED
			t.Errorf("after the second GOAWAY: %s", got)
		}
		<-c.Context().Done()
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("the connection lasted for %s", took)
		}
		if end, ok := errors.AsType[*quic.ApplicationError](context.Cause(c.Context())); !ok || end.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
			t.Errorf("the connection ended with %v", context.Cause(c.Context()))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Over HTTP/3 too a request may be on its way over a connection that has long been
// idle: it is not closed before the second GOAWAY has named what is answered.
func TestHandOverNamesTheLastBeforeItClosesHTTP3(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		c := dial3(t, n)
		if got := c.ask(t); got != "200" {
			t.Errorf("before: %s", got)
		}
		time.Sleep(10 * time.Second)
		done := handOver(t.Context(), n)
		var words []quic.StreamID
		for id := range c.words {
			words = append(words, id)
		}
		if !slices.Equal(words, []quic.StreamID{1<<62 - 4, 4}) {
			t.Errorf("GOAWAY %v", words)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Flows that were steered here still come for a while, and are served and told to go
// when they have what they came for.
func TestHandOverTakesLateFlows(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		done := handOver(t.Context(), n)
		time.Sleep(9 * time.Second)
		c := dial3(t, n)
		time.Sleep(5 * time.Second)
		select {
		case id := <-c.words:
			t.Errorf("told to go (%d) before the first request", id)
		default:
		}
		refused, err := n.Dial(t, &quic.Config{})
		if err == nil {
			select {
			case <-refused.HandshakeComplete():
			case <-refused.Context().Done():
			}
			err = context.Cause(refused.Context())
		}
		if end, ok := errors.AsType[*quic.TransportError](err); !ok || end.ErrorCode != quic.ConnectionRefused {
			t.Errorf("who comes later: %v, want a refusal", err)
		}
		if got := c.ask(t); got != "200" {
			t.Errorf("who came late: %s", got)
		}
		if got := <-c.words; got != 1<<62-4 {
			t.Errorf("GOAWAY names %d", got)
		}
		c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A request may be on its way over a connection that is idle: it is not closed before
// its time, and told with the answer.
func TestHandOverLeavesIdleConnectionsTheirTime(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		v, silent := n.Visitor(t, "h1"), n.Visitor(t, "h1")
		read(t, v.Get(t, "/"))
		read(t, silent.Get(t, "/"))
		begin := time.Now()
		done := handOver(t.Context(), n)
		time.Sleep(s.Config.Timeouts.Idle - time.Second)
		resp, err := v.Post(v.URL, "", io.MultiReader(strings.NewReader("once")))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "once" || !resp.Close {
			t.Errorf("got %q, close %v", got, resp.Close)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		// To say goodbye over a pipe without a buffer may take 5 s.
		if took := time.Since(begin); took > s.Config.Timeouts.Idle+6*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// What has no end lasts until the deadline.
func TestHandOverCutsOffAtTheDeadline(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		resp := v.Get(t, "/")
		defer resp.Body.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		begin := time.Now()
		err := v.Node.Listeners.HandOver(ctx)
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Minute+time.Second {
			t.Errorf("%v after %s, want the end of the context", err, took)
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("what was cut off ended well")
		}
	})
}

// A shutdown does not wait for the hand-over that it ends.
func TestHandOverEndsWithAShutdown(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		v := n.Visitor(t, "h1")
		read(t, v.Get(t, "/"))
		done := handOver(t.Context(), n)
		synctest.Wait()
		begin := time.Now()
		if err := n.Listeners.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("took %s", took)
		}
	})
}
