package flood

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/spf13/cobra"

	"spillway/cmd/surge/program"
)

// serverName is how visitors call the node.
const serverName = "localhost"

// How a browser loads a page. Where HTTP/3 does not answer in the time that RFC 8305
// section 5 recommends, HTTP/2 is tried beside it, and the first answer counts.
const (
	attemptDelay = 250 * time.Millisecond
	patience     = 5 * time.Second
	every        = time.Second
)

// A plan is what visitors are told, as JSON in their argument.
type plan struct {
	Profile profile        `json:"profile"`
	Node    netip.AddrPort `json:"node"`
	For     time.Duration  `json:"for"`
}

// A load is a page that a visitor asked for, or tried to.
type load struct {
	Class class         `json:"class"`
	Took  time.Duration `json:"took"` // from when it was due; patience if it failed
	OK    bool          `json:"ok"`
	Proto string        `json:"proto,omitempty"`
	Error string        `json:"error,omitempty"`
}

// visitCommand is the visitors, a process of their own beside the node. Those that
// return load a page; then it says so in a line, and begins when it reads one.
func visitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "visit PLAN", Short: "Be the visitors (for surge flood itself)", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			var p plan
			if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
				return fmt.Errorf("read the plan: %w", err)
			}
			return visitAll(cmd.Context(), p, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func visitAll(ctx context.Context, p plan, in io.Reader, out io.Writer) error {
	var all []*browser
	for _, v := range p.Profile.visitors() {
		all = append(all, &browser{visitor: v, plan: p, kept: newMemory()})
	}
	for _, b := range all {
		if !b.returning {
			continue
		}
		if err := b.prepare(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "ready")
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the beginning: %w", err)
	}
	return json.NewEncoder(out).Encode(loadAll(ctx, p, all))
}

// prepare loads pages until one came over HTTP/3, and with it what is shown next time.
func (b *browser) prepare(ctx context.Context) error {
	var l load
	for range 10 { // on a busy machine HTTP/2 may be faster
		if l = b.load(ctx, time.Now(), 0); l.OK && l.Proto == http3.NextProtoH3 {
			return nil
		}
	}
	return fmt.Errorf("load a page before the flood: %+v", l)
}

// loadAll lets all load pages in an open loop: a slow load delays no other.
func loadAll(ctx context.Context, p plan, all []*browser) []load {
	var (
		loads   []load
		mu      sync.Mutex
		loading sync.WaitGroup
	)
	began := time.Now()
	for nth := range int(p.For / every) {
		for i, b := range all {
			due := began.Add(time.Duration(nth)*every + time.Duration(i)*every/time.Duration(len(all)))
			time.Sleep(time.Until(due))
			loading.Go(func() {
				l := b.load(ctx, due, nth+1)
				mu.Lock()
				defer mu.Unlock()
				loads = append(loads, l)
			})
		}
	}
	loading.Wait()
	return loads
}

// A browser is a visitor with what it keeps from one visit to the next.
type browser struct {
	visitor
	plan plan
	kept memory
}

// A memory is what servers gave to be shown again.
type memory struct {
	tokens    quic.TokenStore // NEW_TOKEN (RFC 9000 section 8.1.3)
	quic, tcp tls.ClientSessionCache
}

func newMemory() memory {
	return memory{quic.NewLRUTokenStore(1, 4), tls.NewLRUClientSessionCache(1), tls.NewLRUClientSessionCache(1)}
}

// An attempt is how one protocol fared.
type attempt struct {
	proto string
	err   error
}

// load asks for a page on a new connection.
func (b *browser) load(ctx context.Context, due time.Time, nth int) load {
	kept := b.kept
	if !b.returning {
		kept = newMemory()
	}
	from := b.address(b.plan.Profile, nth)
	ctx, cancel := context.WithDeadline(ctx, due.Add(patience))
	defer cancel()
	answers := make(chan attempt, 2)
	var trying sync.WaitGroup
	defer trying.Wait()
	defer cancel() // before the wait
	trying.Go(func() { answers <- attempt{http3.NextProtoH3, b.overQUIC(ctx, from, kept)} })
	second := time.After(attemptDelay)
	var errs []error
	for pending := 1; pending > 0; {
		select {
		case a := <-answers:
			if took := time.Since(due); a.err == nil && took <= patience {
				return load{Class: b.class, Took: took, OK: true, Proto: a.proto}
			}
			pending--
			errs = append(errs, fmt.Errorf("%s: %w", a.proto, cmp.Or(a.err, context.DeadlineExceeded)))
			if second == nil {
				continue
			}
		case <-second:
		}
		if second != nil {
			second = nil
			pending++
			trying.Go(func() { answers <- attempt{"h2", b.overTCP(ctx, from, kept)} })
		}
	}
	return load{Class: b.class, Took: patience, Error: errors.Join(errs...).Error()}
}

func clientTLS(sessions tls.ClientSessionCache, protocols ...string) *tls.Config {
	// The node makes its own certificate.
	return &tls.Config{InsecureSkipVerify: true, ServerName: serverName, NextProtos: protocols, ClientSessionCache: sessions}
}

func (b *browser) overQUIC(ctx context.Context, from netip.Addr, kept memory) error {
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		return err
	}
	defer socket.Close()
	transport := &quic.Transport{Conn: socket}
	defer transport.Close()
	conn, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(b.plan.Node), clientTLS(kept.quic, http3.NextProtoH3), &quic.Config{
		TokenStore: kept.tokens, DisablePathMTUDiscovery: true,
	})
	if err != nil {
		return err
	}
	defer conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	return ask(ctx, new(http3.Transport).NewClientConn(conn))
}

func (b *browser) overTCP(ctx context.Context, from netip.Addr, kept memory) error {
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	transport := &http.Transport{
		TLSClientConfig: clientTLS(kept.tcp), Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", b.plan.Node.String())
		},
	}
	transport.Protocols.SetHTTP2(true)
	defer transport.CloseIdleConnections()
	return ask(ctx, transport)
}

// ask reads the page.
func ask(ctx context.Context, over http.RoundTripper) error {
	return program.Ask(ctx, over, http.MethodGet, "https://"+serverName+"/page", pageBytes)
}
