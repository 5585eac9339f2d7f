package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"spillway/edge/edgetest"
)

// An attacker2 is an HTTP/2 client that sends what it likes.
type attacker2 struct {
	net.Conn
	*http2.Framer
	out    *bufio.Writer
	header bytes.Buffer
	hpack  *hpack.Encoder
	next   uint32
}

func attack2(t *testing.T, n *edgetest.Node, settings ...http2.Setting) *attacker2 {
	t.Helper()
	conn, err := n.DialTLS(t, "h2")
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriterSize(conn, 16<<10)
	a := &attacker2{Conn: conn, Framer: http2.NewFramer(out, conn), out: out, next: 1}
	a.hpack = hpack.NewEncoder(&a.header)
	fmt.Fprint(out, http2.ClientPreface)
	a.WriteSettings(settings...)
	return a
}

// ask sends the header of a request, and returns its stream.
func (a *attacker2) ask(method, path string, more ...string) uint32 {
	a.header.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", edgetest.Host, ":path", path}, more...)
	for i := 0; i < len(fields); i += 2 {
		a.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	id := a.next
	a.next += 2
	a.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: a.header.Bytes(), EndStream: method == http.MethodGet, EndHeaders: true,
	})
	return id
}

// end reads until the node ends the connection, and returns with what word.
func (a *attacker2) end() (code http2.ErrCode, said bool) {
	for {
		f, err := a.ReadFrame()
		if err != nil {
			return code, said
		}
		if away, ok := f.(*http2.GoAwayFrame); ok {
			code, said = away.ErrCode, true
		}
	}
}

// A hanger answers requests for /, and keeps all others until they are given up.
type hanger struct{ hung, hanging atomic.Int64 }

func (h *hanger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" {
		io.WriteString(w, "fine")
		return
	}
	h.hung.Add(1)
	h.hanging.Add(1)
	defer h.hanging.Add(-1)
	<-r.Context().Done()
}

// survived asks that the node serves others as before, and that nothing is left
// of the attack.
func (h *hanger) survived(t *testing.T, n *edgetest.Node, most int64) {
	t.Helper()
	for _, proto := range edgetest.Protocols {
		if got := read(t, n.Visitor(t, proto).Get(t, "/")); got != "fine" {
			t.Errorf("%s: got %q", proto, got)
		}
	}
	if hung := h.hung.Load(); hung > most {
		t.Errorf("%d requests were begun, want at most %d", hung, most)
	}
	await(t, "no request in flight", func() bool { return h.hanging.Load() == 0 })
}

// await waits until something is so that needs no more than the scheduler.
func await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// What a connection may begin before it is closed: what may be owed, what is in
// flight, and what comes before the node's word is heard.
const fewResets = 1000

func TestChurnResetsH2(t *testing.T) {
	attacks := map[string]func(a *attacker2, stream uint32){
		"reset": func(a *attacker2, stream uint32) { a.WriteRSTStream(stream, http2.ErrCodeCancel) },
		// The visitor makes the node do it (CVE-2025-8671).
		"made to reset": func(a *attacker2, stream uint32) { a.WriteWindowUpdate(stream, 1<<31-1) },
	}
	for name, spoil := range attacks {
		t.Run(name, func(t *testing.T) {
			h := &hanger{}
			// In virtual time: what a busy machine sends in a second is no attack.
			edgetest.New(h).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				a := attack2(t, n)
				var attack sync.WaitGroup
				attack.Go(func() {
					for range 10_000 {
						// The server itself ends a connection that resets too many before their
						// handlers run.
						before := h.hung.Load()
						stream := a.ask("GET", "/hang")
						if a.out.Flush() != nil {
							return
						}
						for end := time.Now().Add(time.Second); h.hung.Load() == before && time.Now().Before(end); {
							time.Sleep(100 * time.Microsecond)
						}
						spoil(a, stream)
					}
				})
				if code, said := a.end(); said && code != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("closed with %v", code)
				}
				a.Close()
				attack.Wait()
				h.survived(t, n, fewResets)
				if got := n.Listeners.State().Excesses; got != 1 {
					t.Errorf("%d excesses, want 1", got)
				}
			})
		})
	}
}

func TestChurnResetsH3(t *testing.T) {
	header := func() []byte { // of GET /hang, all from the static table or literal
		b := []byte{0, 0, 0xd1, 0xd7, 0x50, byte(len(edgetest.Host))}
		b = append(b, edgetest.Host...)
		b = append(b, 0x51, 5)
		b = append(b, "/hang"...)
		return append([]byte{0x01, byte(len(b))}, b...)
	}()
	attacks := map[string]func(str *quic.Stream, h *hanger){
		"request": func(str *quic.Stream, h *hanger) {
			before := h.hung.Load()
			str.Write(header)
			for end := time.Now().Add(time.Second); h.hung.Load() == before && time.Now().Before(end); {
				time.Sleep(100 * time.Microsecond)
			}
			str.CancelRead(0x10c)
			str.CancelWrite(0x10c)
		},
		"half a header": func(str *quic.Stream, _ *hanger) {
			str.Write(header[:4])
			str.CancelRead(0x10c)
			str.CancelWrite(0x10c)
		},
		"no request": func(str *quic.Stream, _ *hanger) {
			str.Write([]byte{0x01, 3, 0, 0, 0xd1}) // a method and nothing else
			str.Close()
		},
	}
	for name, spoil := range attacks {
		t.Run(name, func(t *testing.T) {
			h := &hanger{}
			n := edgetest.New(h).Start(t)
			conn := n.DialQUIC(t)
			for range 10_000 {
				str, err := conn.OpenStreamSync(t.Context())
				if err != nil {
					break
				}
				spoil(str, h)
			}
			<-conn.Context().Done()
			var app *quic.ApplicationError
			if err := context.Cause(conn.Context()); !errors.As(err, &app) || app.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad) {
				t.Errorf("closed with %v, want H3_EXCESSIVE_LOAD", err)
			}
			h.survived(t, n, fewResets)
			if got := n.Listeners.State().Excesses; got != 1 {
				t.Errorf("%d excesses, want 1", got)
			}
		})
	}
}

// A browser that scrolls through a page of pictures gives most of them up.
func TestChurnScrollingIsNoAttack(t *testing.T) {
	h := &hanger{}
	edgetest.New(h).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		for _, proto := range []string{"h2", "h3"} {
			v := n.Visitor(t, proto)
			for range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				for i := range 60 {
					r, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprint(v.URL, "/picture/", i), nil)
					go v.Do(r)
				}
				read(t, v.Get(t, "/"))
				time.Sleep(3 * time.Second)
				cancel()
				time.Sleep(100 * time.Millisecond)
			}
		}
		if s := n.Listeners.State(); s.Excesses != 0 {
			t.Errorf("%d excesses", s.Excesses)
		}
	})
}

// What is no request is bounded too, whatever it is. In virtual time a slow machine makes
// no less of it.
func TestChurnNoiseH2(t *testing.T) {
	attacks := map[string]func(a *attacker2, stream uint32){
		"ping": func(a *attacker2, _ uint32) { a.WritePing(false, [8]byte{}) },
		"settings": func(a *attacker2, _ uint32) {
			a.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14})
		},
		"priority update": func(a *attacker2, stream uint32) { a.WritePriorityUpdate(stream, "u=1") },
		"empty data":      func(a *attacker2, stream uint32) { a.WriteData(stream, false, nil) },
		"no request":      func(a *attacker2, _ uint32) { a.ask("GET", "nowhere", "x", strings.Repeat("x", 1000)) },
	}
	for name, send := range attacks {
		t.Run(name, func(t *testing.T) {
			h := &hanger{}
			edgetest.New(h).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				a := attack2(t, n)
				a.hpack.SetMaxDynamicTableSize(0) // a header is as long each time
				stream := a.ask("POST", "/hang")
				var attack sync.WaitGroup
				attack.Go(func() {
					for range 1 << 10 {
						if a.out.Flush() != nil {
							return
						}
						for a.out.Buffered() < 15<<10 {
							send(a, stream)
						}
						time.Sleep(time.Second / 64) // which makes a mebibyte in each second
					}
				})
				if code, said := a.end(); said && code != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("closed with %v", code)
				}
				a.Close()
				attack.Wait()
				h.survived(t, n, 1)
				if got := n.Listeners.State().Excesses; got != 1 {
					t.Errorf("%d excesses, want 1", got)
				}
			})
		})
	}
}

// A connection that breaks gives up all that is in flight on it.
func TestChurnBrokenConnectionIsNoAttack(t *testing.T) {
	h := &hanger{}
	setup := edgetest.New(h)
	setup.Config.Limits.Streams = 1000
	n := setup.Start(t)
	a := attack2(t, n)
	for range 1000 {
		a.ask("GET", "/hang")
	}
	go io.Copy(io.Discard, a.Conn)
	a.out.Flush()
	await(t, "a thousand in flight", func() bool { return h.hanging.Load() == 1000 })
	a.Close()
	h.survived(t, n, 1000)
	if got := n.Listeners.State().Excesses; got != 0 {
		t.Errorf("%d excesses", got)
	}
}

// A trusted proxy carries many visitors, and yet not everything.
func TestChurnResetsByAProxy(t *testing.T) {
	h := &hanger{}
	setup := edgetest.New(h)
	setup.Config.TrustedProxies = []string{"10.0.0.0/8"} // the simulated network
	setup.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		a := attack2(t, n)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			a.end()
		}()
		// reset gives so many requests up, each after its handler has begun.
		reset := func(requests int) (open bool) {
			const batch = 50
			for range requests / batch {
				var streams []uint32
				for range batch {
					streams = append(streams, a.ask("GET", "/hang"))
				}
				a.out.Flush()
				reached := func(hanging int64) bool {
					select {
					case <-closed:
						return true
					default:
						return h.hanging.Load() == hanging
					}
				}
				await(t, "a batch in flight", func() bool { return reached(batch) })
				for _, stream := range streams {
					a.WriteRSTStream(stream, http2.ErrCodeCancel)
				}
				a.out.Flush()
				await(t, "a batch given up", func() bool { return reached(0) })
			}
			select {
			case <-closed:
				return false
			default:
				return true
			}
		}
		if !reset(1000) {
			t.Fatal("closed after 1000 resets")
		}
		if reset(20_000) {
			t.Error("open after 20,000 resets")
		}
		h.survived(t, n, 5000)
		if got := n.Listeners.State().Excesses; got != 1 {
			t.Errorf("%d excesses, want 1", got)
		}
	})
}
