package program

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Ask asks a program for a body of so many bytes and reads it. Anything but the whole of
// it, with status 200, is an error.
func Ask(ctx context.Context, over http.RoundTripper, method, url string, bytes int64) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := over.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || n != bytes {
		return fmt.Errorf("status %d with %d bytes, want 200 with %d", resp.StatusCode, n, bytes)
	}
	return nil
}
