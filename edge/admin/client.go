package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds what the client reads; not a knob.
const maxAnswer = 64 << 20

// Why the admin address cannot be asked: nobody listens there, or somebody does and
// this user may not open the socket.
var (
	ErrNotRunning = errors.New("no node answers there")
	ErrForbidden  = errors.New("this user may not ask there")
)

// A Client speaks to the admin listener of a node on this machine.
type Client struct {
	address string
	http    http.Client
}

// NewClient returns a client for an address in the notation of Config.
func NewClient(address string) *Client {
	network, target := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, target = "unix", path
	}
	var dialer net.Dialer
	return &Client{address: address, http: http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, target)
			},
		},
	}}
}

// Patient makes the client wait so long for each answer, instead of 10 s.
func (c *Client) Patient(wait time.Duration) *Client {
	c.http.Timeout = wait
	return c
}

// Get returns what stands at the path.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, path)
}

// Post uses the control at the path.
func (c *Client) Post(ctx context.Context, path string) ([]byte, error) {
	return c.do(ctx, http.MethodPost, path)
}

// Status reads the node's state into v.
func (c *Client) Status(ctx context.Context, v any) error {
	body, err := c.Get(ctx, "/status")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read status of %s: %w", c.address, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	resp, err := c.ask(ctx, method, path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.address, err)
	}
	return body, nil
}

// ask returns the answer, whose status is that of success.
func (c *Client) ask(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		why := ErrNotRunning
		if errors.Is(op.Err, fs.ErrPermission) {
			why = ErrForbidden
		}
		return nil, fmt.Errorf("%s: %w (%w)", c.address, why, op.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.address, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", c.address, err)
		}
		return nil, fmt.Errorf("ask %s for %s: %s: %s", c.address, path, resp.Status, strings.TrimSpace(string(body)))
	}
	return resp, nil
}

// Follow uses the control at the path and hands each line of its answer to line as it
// comes, however long that takes.
func (c *Client) Follow(ctx context.Context, path string, line func([]byte) error) error {
	c.http.Timeout = 0
	resp, err := c.ask(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if err := line(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("ask %s: %w", c.address, err)
	}
	return nil
}
