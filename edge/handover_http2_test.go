package edge_test

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

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
func TestLeaveTellsHTTP2InTwoSteps(t *testing.T) {
	eachWay(t, func(t *testing.T, leave departure) {
		edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
			c := dial2(t, n)
			c.ask(1)
			begin := time.Now()
			done := leave(t.Context(), n)
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
