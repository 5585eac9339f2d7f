package edge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"spillway/edge/edgetest"
)

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
func TestLeaveTellsHTTP3InTwoSteps(t *testing.T) {
	eachWay(t, func(t *testing.T, leave departure) {
		edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
			c := dial3(t, n)
			if got := c.ask(t); got != "200" {
				t.Errorf("before: %s", got)
			}
			begin := time.Now()
			done := leave(t.Context(), n)
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
	})
}

// Who asks is told to go before he has the answer, and nobody between two requests that
// follow each other closely: Chromium would lose the second. Who asks for nothing is told
// soon.
func TestLeaveTellsHTTP3WithARequest(t *testing.T) {
	eachWay(t, func(t *testing.T, leave departure) {
		var answer chan struct{}
		s := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-answer
			echoProto(w, r)
		}))
		s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
			answer = make(chan struct{}, 1)
			asks, rests := dial3(t, n), dial3(t, n)
			for _, c := range []raw3{asks, rests} {
				answer <- struct{}{}
				if got := c.ask(t); got != "200" {
					t.Errorf("before: %s", got)
				}
			}
			begin := time.Now()
			done := leave(t.Context(), n)
			time.Sleep(50 * time.Millisecond)
			if len(asks.words) > 0 {
				t.Error("told between two requests")
			}
			answered := make(chan string)
			go func() { answered <- asks.ask(t) }()
			select {
			case <-asks.words:
			case got := <-answered:
				t.Errorf("%s came before the word", got)
			}
			if took := time.Since(begin); took > 100*time.Millisecond {
				t.Errorf("who asks was told after %s", took)
			}
			answer <- struct{}{}
			if got := <-answered; got != "200" {
				t.Errorf("the last request: %s", got)
			}
			<-rests.words
			if took := time.Since(begin); took > 200*time.Millisecond {
				t.Errorf("who rests was told after %s", took)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
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
