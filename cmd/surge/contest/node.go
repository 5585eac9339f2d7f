package contest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// A nodeStatus is what Spillway says of itself, as far as it is of interest: the
// ledger is compared with the bill, and the limit is drawn.
type nodeStatus struct {
	Functions map[string]struct {
		CostUSD float64 `json:"cost_usd"`
	} `json:"functions"`
	Origins map[string]struct {
		Limit struct {
			Steady float64 `json:"steady"`
		} `json:"limit"`
	} `json:"origins"`
}

// askNode reads the status at the admin listener.
func askNode(ctx context.Context, socket string) (nodeStatus, error) {
	var status nodeStatus
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/status", nil)
	if err != nil {
		return status, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return status, fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return status, fmt.Errorf("read the status of the node: %w", err)
	}
	return status, nil
}

// watchLimit returns the limit that the node had learned at the end of each second;
// 0 where it did not say. It costs the node a millisecond a second.
func watchLimit(ctx context.Context, socket string) []float64 {
	var limits []float64
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return limits
		case <-tick.C:
		}
		status, _ := askNode(ctx, socket) // the next second may do better
		limits = append(limits, status.Origins["app"].Limit.Steady)
	}
}
