package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/cmd/surge/contest/foreign"
	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestOriginsAnswerAndLeaveNothing(t *testing.T) {
	for _, kind := range foreign.Kinds {
		t.Run(kind.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			o, err := foreign.Start(ctx, kind.Name)
			if missing := (*foreign.MissingError)(nil); errors.As(err, &missing) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			socket := strings.TrimPrefix(o.URL, "unix:")
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}}}
			var asking sync.WaitGroup
			for range 3 * kind.Slots {
				asking.Go(func() {
					resp, err := client.Get("http://localhost/?draw=1&ms=2.5")
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(b) != "done" {
						t.Errorf("%s: %s", resp.Status, b)
					}
				})
			}
			asking.Wait()
			client.CloseIdleConnections()
			if err := o.Stop(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Dir(socket)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder is left: %v", err)
			}
		})
	}
}
