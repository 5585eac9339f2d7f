package edge

import (
	"testing"
	"time"
)

// A timer that has fired waits for the lock, and finds the tunnel finished.
func TestTunnelCutsNothingAfterItsEnd(t *testing.T) {
	cut := make(chan struct{}, 1)
	tunnel := newTunnel(time.Hour, func() { cut <- struct{}{} })
	tunnel.mu.Lock()
	tunnel.timer.Reset(0)
	time.Sleep(10 * time.Millisecond) // for the timer to fire; if it has not, nothing is shown
	tunnel.over = true
	tunnel.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	select {
	case <-cut:
		t.Error("cut")
	default:
	}
}
