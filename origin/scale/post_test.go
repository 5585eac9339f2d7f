package scale

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/synctest"
	"spillway/origin/remote"
)

const key = "0123456789abcdef0123456789abcdef"

// A hook is a webhook that answers as it is told, and checks what it gets.
type hook struct {
	mu     sync.Mutex
	refuse int // so many first
	answer int
	err    error
	bodies []Message
	at     []time.Time
}

// ServeHTTP implements http.Handler.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if err := verify(r, body); err != nil {
		h.err = err
	}
	var m Message
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		h.err = err
	}
	h.bodies, h.at = append(h.bodies, m), append(h.at, time.Now())
	if h.refuse--; h.refuse >= 0 {
		w.Header().Set("Location", "http://"+r.Host+"/elsewhere")
		w.WriteHeader(h.answer)
	}
}

// verify checks a signature by the words of its documentation.
func verify(r *http.Request, body []byte) error {
	part := strings.Split(r.Header.Get(remote.SignatureField), ",")
	if len(part) != 5 || part[0] != "v1" {
		return fmt.Errorf("signature %q", part)
	}
	at, err := strconv.ParseInt(part[2], 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("signed at %s", part[2])
	}
	h := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%s\n%x", r.Method, r.RequestURI, r.Host, part[2], part[3], sha256.Sum256(body))
	if fmt.Sprintf("%x", h.Sum(nil)) != part[4] {
		return errors.New("the signature is wrong")
	}
	return nil
}

func (h *hook) got(t *testing.T) ([]Message, []time.Time) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		t.Error(h.err)
	}
	return h.bodies, h.at
}

// configured returns a signal whose messages go to the URL.
func configured(t *testing.T, url, secret string, log io.Writer) *Signal {
	t.Helper()
	s := New("app", slog.New(slog.NewTextHandler(log, nil)))
	set(t, s, Config{Webhook: url, Secret: secret, Target: 0.8, AtLeast: time.Minute, Every: 5 * time.Minute})
	return s
}

func set(t *testing.T, s *Signal, c Config) {
	t.Helper()
	apply, err := s.Prepare(c, 2)
	if err != nil {
		t.Fatal(err)
	}
	apply()
}

func keyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

// TestWebhook has a real server refuse a message twice and then take it, and hear
// that the need is over.
func TestWebhook(t *testing.T) {
	h := &hook{refuse: 2, answer: http.StatusServiceUnavailable}
	server := httptest.NewServer(h)
	defer server.Close()
	var log bytes.Buffer
	s := configured(t, server.URL+"/scale", keyFile(t), &log)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	p := &play{Signal: s, at: time.Unix(0, 0), standing: Standing{Up: true, Servers: 2, Ready: 2, Useful: 8, Limit: 12}, hidden: 1}
	p.work = 21.76
	p.goOn(2 * time.Minute)
	delivered := func(n uint64) {
		for s.State().Delivered < n && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	delivered(1)
	p.work = 1
	p.goOn(5 * time.Minute)
	delivered(2)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}

	got, at := h.got(t)
	if len(got) != 4 || got[0] != got[1] || got[1] != got[2] || got[2] == got[3] {
		t.Fatalf("%+v", got)
	}
	m := got[0]
	if m.ID == "" || m.Origin != "app" || !m.Needed || m.Servers != 2 || m.WantedServers != 7 || !near(m.Ratio, 3.4, 0.02) {
		t.Errorf("%+v", m)
	}
	if m.Limit != 12 || m.InFlight != 8 || m.SpilledShare < 0.5 || !near(m.SpendPerHour, 36, 0.01) ||
		m.Since.IsZero() || m.Time.Sub(m.Since) < time.Minute {
		t.Errorf("%+v", m)
	}
	if host, _ := os.Hostname(); got[0].Node != host {
		t.Errorf("from %q", got[0].Node)
	}
	if at[1].Sub(at[0]) < firstPause/2 || at[2].Sub(at[1]) < firstPause {
		t.Errorf("tried at %v", at)
	}
	if m := got[3]; m.Needed || m.Ratio >= 1 || !m.Since.Equal(got[0].Since) {
		t.Errorf("over: %+v", m)
	}
	if st := s.State(); st.Failed != 2 {
		t.Errorf("%+v", st)
	}
	text := log.String()
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, "status 503") || !strings.Contains(text, "delivered again") ||
		strings.Contains(text, key) || strings.Contains(text, "/scale") {
		t.Errorf("log: %s", text)
	}
}

// TestWebhookIsNotRedirected: a message goes where the configuration says, and
// nowhere else.
func TestWebhookIsNotRedirected(t *testing.T) {
	h := &hook{refuse: 1, answer: http.StatusTemporaryRedirect}
	server := httptest.NewServer(h)
	defer server.Close()
	p := newPost(slog.New(slog.DiscardHandler))
	r, _, err := newReceiver(&Config{Webhook: server.URL, Secret: keyFile(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.send(t.Context(), r, &Message{}); err == nil || !strings.Contains(err.Error(), "status 307") {
		t.Errorf("error %v", err)
	}
	if got, _ := h.got(t); len(got) != 1 {
		t.Errorf("%d requests", len(got))
	}
	if p.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the environment may name a proxy")
	}
}

func TestWebhookGoesNowhereSecret(t *testing.T) {
	p := newPost(slog.New(slog.DiscardHandler))
	r, _, err := newReceiver(&Config{Webhook: "https://169.254.169.254/canary"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.send(t.Context(), r, &Message{}); !errors.Is(err, remote.ErrMetadata) || strings.Contains(err.Error(), "canary") {
		t.Errorf("error %v", err)
	}
}

// TestUnsignedWithoutSecret: nobody is led to believe that a message was signed.
func TestUnsignedWithoutSecret(t *testing.T) {
	fields := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fields <- r.Header }))
	defer server.Close()
	p := newPost(slog.New(slog.DiscardHandler))
	r, _, err := newReceiver(&Config{Webhook: server.URL})
	if err == nil {
		err = p.send(t.Context(), r, &Message{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if h := <-fields; h.Get(remote.SignatureField) != "" || h.Get("Content-Type") != "application/json" {
		t.Errorf("%v", h)
	}
}

// inMemory makes a post connect to what serve does with a connection.
func inMemory(t *testing.T, s *Signal, serve func(net.Conn)) {
	s.post.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		go serve(theirs)
		return ours, nil
	}
}

// TestPostGivesUp: attempts come ever later, and end. So does the wait for one that
// is not answered.
func TestPostGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := configured(t, "http://127.0.0.1/scale", "", &log)
		attempts := make(chan time.Time, 2*mostAttempts)
		inMemory(t, s, func(net.Conn) { attempts <- time.Now() })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		s.post.tell(&Message{ID: "one"})
		time.Sleep(time.Hour)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		var at []time.Time
		for range len(attempts) {
			at = append(at, <-attempts)
		}
		if len(at) != mostAttempts || s.State().Failed != mostAttempts {
			t.Errorf("%d attempts: %v", len(at), at)
		}
		pause := firstPause
		for i := 1; i < len(at); i++ {
			if between := at[i].Sub(at[i-1]); between < patience+pause/2 || between > patience+pause {
				t.Errorf("attempt %d after %v", i+1, between)
			}
			pause = min(2*pause, longestPause)
		}
		if text := log.String(); strings.Count(text, "not delivered") != 1 || strings.Count(text, "lost") != 1 {
			t.Errorf("log: %s", text)
		}
	})
}

// TestEndIsToldAgain: that a need is over is told until somebody has heard it, or
// nobody has for long.
func TestEndIsToldAgain(t *testing.T) {
	f := func(what string, deaf time.Duration, heard bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := configured(t, "http://127.0.0.1/", keyFile(t), io.Discard)
			h := &hook{answer: http.StatusBadGateway}
			server := &http.Server{Handler: h}
			defer server.Close()
			inMemory(t, s, func(c net.Conn) { server.Serve(&single{c: c}) })
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			p := &play{Signal: s, at: time.Unix(0, 0), standing: Standing{Up: true, Servers: 2, Ready: 2, Useful: 8}, hidden: 1}
			passes := func(d time.Duration) {
				for end := p.at.Add(d); p.at.Before(end); time.Sleep(time.Second) {
					p.goOn(time.Second)
				}
			}
			refuses := func(times int) {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.refuse = times
			}
			p.work = 24
			passes(2 * time.Minute)
			refuses(1 << 30)
			p.work = 4
			passes(deaf)
			refused, _ := h.got(t)
			refuses(0)
			passes(3 * time.Hour)
			stop()
			<-ended
			all, _ := h.got(t)
			first, last := all[0], all[len(all)-1]
			if !first.Needed || last.Needed || !last.Since.Equal(first.Since) || s.State().Needed || !s.State().Since.IsZero() {
				t.Errorf("%s: %+v, %+v, state %+v", what, first, last, s.State())
			}
			want := 0
			if heard {
				want = 1
			}
			if n := len(all) - len(refused); n != want {
				t.Errorf("%s: told %d times by who listens again, want %d", what, n, want)
			}
			if n := len(refused); n > 1+mostAttempts*(mostRepeats+3) {
				t.Errorf("%s: %d attempts", what, n)
			}
		})
	}
	f("for half an hour", 30*time.Minute, true)
	f("for a day", 24*time.Hour, false)
}

// TestPostPrefersWhatIsNew, and drops what nobody is to be told any more.
func TestPostPrefersWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := configured(t, "http://127.0.0.1/", "", io.Discard)
		h := &hook{refuse: 2, answer: http.StatusBadGateway}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			h.err = nil // it is not signed
		})}
		defer server.Close()
		inMemory(t, s, func(c net.Conn) { server.Serve(&single{c: c}) })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		s.post.tell(&Message{ID: "one"})
		s.post.tell(&Message{ID: "two"})
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		s.post.tell(&Message{ID: "three"})
		synctest.Wait()
		got, at := h.got(t)
		if len(got) != 2 || got[0].ID != "two" || got[1].ID != "three" || at[1] != at[0] {
			t.Errorf("%v at %v", got, at)
		}
		set(t, s, Config{Target: 0.8, Every: time.Second})
		time.Sleep(time.Minute)
		if got, _ := h.got(t); len(got) != 2 {
			t.Errorf("told although nobody is to be told: %v", got)
		}
		stop()
		<-ended
	})
}

// single is a listener of one connection.
type single struct{ c net.Conn }

// Accept implements net.Listener.
func (s *single) Accept() (net.Conn, error) {
	if c := s.c; c != nil {
		s.c = nil
		return c, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (s *single) Close() error { return nil }

// Addr implements net.Listener.
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

func TestCheck(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(c Config, setting, want string) {
		t.Helper()
		got, err := c.Check()
		if want == "" && err == nil && got == "" {
			return
		}
		if got != setting || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%+v: %s: %v, want %s: %s", c, got, err, setting, want)
		}
	}
	f(Config{}, "", "")
	f(Config{Webhook: "https://scale.example.com/canary"}, "", "")
	f(Config{Webhook: "http://127.0.0.1:8000"}, "", "")
	f(Config{Webhook: "http://[::1]:8000"}, "", "")
	f(Config{Webhook: "http://localhost"}, "", "")
	f(Config{Webhook: "http://10.0.0.1/canary"}, "webhook", "does not begin with https://")
	f(Config{Webhook: "http://localhost.canary.com"}, "webhook", "does not begin with https://")
	f(Config{Webhook: "ftp://localhost"}, "webhook", "does not begin with https://")
	f(Config{Webhook: "https:"}, "webhook", "not a URL")
	f(Config{Webhook: "https://sc\u00e4le.example/canary"}, "webhook", "beyond ASCII")
	f(Config{Webhook: "http://[::1%25canary]:8000"}, "webhook", "a zone")
	f(Config{Webhook: "https://a.example", Secret: keyFile(t)}, "", "")
	f(Config{Webhook: "https://a.example", Secret: "canary-0123456789abcdef0123456789abcdef"}, "secret", "neither env:NAME nor file:PATH")
	f(Config{Webhook: "https://a.example", Secret: "file:" + short}, "secret", "6 bytes, fewer than 32")
	f(Config{Secret: "canary"}, "secret", "neither env:NAME nor file:PATH")
	f(Config{Webhook: "https://a.example", Secret: "env:NO_SUCH_VARIABLE"}, "secret", "NO_SUCH_VARIABLE is not set")
}
