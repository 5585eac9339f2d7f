package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"spillway/origin/remote"
)

// How a message is delivered. Not knobs: all attempts together last some minutes,
// as long as what they tell is worth knowing.
const (
	mostAttempts = 10
	firstPause   = time.Second
	longestPause = time.Minute
	patience     = 10 * time.Second // with one attempt
)

// A post delivers messages, one at a time. A later message takes the place of one
// that was not delivered.
type post struct {
	log    *slog.Logger
	client *http.Client
	to     atomic.Pointer[receiver]
	next   chan *Message // the latest

	delivered, failed atomic.Uint64 // attempts
	failing           bool          // the last attempt failed; run's alone
	lost              atomic.Bool   // that a need is over, which nothing repeats
}

func newPost(log *slog.Logger) *post {
	dialer := net.Dialer{Timeout: 3 * time.Second, Control: remote.Deny}
	return &post{
		log: log, next: make(chan *Message, 1),
		client: &http.Client{
			// No Proxy: the environment must not redirect the messages. A connection is
			// used once, since minutes pass until the next.
			Transport: &http.Transport{
				DialContext: dialer.DialContext, TLSHandshakeTimeout: 3 * time.Second,
				DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // a signature goes nowhere else
			},
			Timeout: patience,
		},
	}
}

// tell hands a message over, and never waits. One caller at a time may do so.
func (p *post) tell(m *Message) {
	if p.to.Load() == nil {
		return
	}
	select {
	case <-p.next: // nobody has looked at it yet
	default:
	}
	p.next <- m
}

// run delivers messages until ctx ends.
func (p *post) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-p.next:
			for m != nil {
				m = p.deliver(ctx, m)
			}
		}
	}
}

// deliver tries until the message is taken, or there is no sense in it any more. It
// returns a later message that has come meanwhile.
func (p *post) deliver(ctx context.Context, m *Message) (later *Message) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		to := p.to.Load()
		if to == nil {
			return nil // a reload has removed it
		}
		err := p.send(ctx, to, m)
		if ctx.Err() != nil {
			return nil
		}
		if p.note(to, err); err == nil {
			return nil
		}
		if attempt == mostAttempts {
			p.log.Warn("scale-out message lost", "webhook", to.url.Host, "message", m.ID, "attempts", attempt)
			p.lost.Store(!m.Needed)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case later = <-p.next:
			return later
		// Nodes that began to fail together do not come back together.
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, longestPause)
	}
}

// note counts an attempt, and logs when they begin to fail and when that is over.
func (p *post) note(to *receiver, err error) {
	switch {
	case err == nil && p.failing:
		p.log.Info("scale-out messages are delivered again", "webhook", to.url.Host)
	case err != nil && !p.failing:
		p.log.Warn("scale-out message not delivered", "webhook", to.url.Host, "error", err)
	}
	p.failing = err != nil
	if err == nil {
		p.delivered.Add(1)
	} else {
		p.failed.Add(1)
	}
}

// send makes one attempt. Any 2xx means that the message was taken.
func (p *post) send(ctx context.Context, to *receiver, m *Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "spillway")
	if to.secret != nil {
		now := time.Now()
		key := to.secret.Value(now)
		if len(key) < remote.LeastKey {
			return errors.New("sign message: the secret has become too short")
		}
		remote.Sign(req, body, key, now)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("post message: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post message: status %d", resp.StatusCode)
	}
	return nil
}

// withoutURL drops the URL that the client adds: its path may be a secret.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
