package edgetest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// TestOriginSaturates asks that an origin of two slots serves two requests per
// service time, and refuses what its backlog does not hold.
func TestOriginSaturates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := NewOrigin(2, time.Second, 4)
		began := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { o.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)) })
		}
		wg.Wait()
		served, refused := o.Served()
		if took := time.Since(began); served != 6 || refused != 4 || took != 3*time.Second {
			t.Errorf("%d served and %d refused in %s, want 6 and 4 in 3s", served, refused, took)
		}
		if now, most := o.InFlight(); now != 0 || most < 6 {
			t.Errorf("%d in flight at the end and %d at most", now, most)
		}
	})
}
