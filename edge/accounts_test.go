package edge_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
)

// The accounts of a node are kept in many places. After a crowd of which some leave early,
// all of them tell of the same requests.
func TestAccountsAgree(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "access.log")
			w := newWorldWith(t, proto, 10, func(c *edge.Config, _ []edge.RouteConfig) { c.Log.Access = file })
			background(t, w.server.Run)
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Cache-Control", "max-age=60")
				rw.Header().Set("Content-Type", "image/x-raw") // is not encoded
				size := 0
				fmt.Sscanf(r.URL.Path, "/plain/%d", &size)
				rw.Header().Set("Content-Length", fmt.Sprint(size))
				io.WriteString(rw, page(r.URL.Path, size))
			})
			var crowd sync.WaitGroup
			var read atomic.Int64
			for v := range 8 {
				crowd.Go(func() {
					for n := range 50 {
						path := fmt.Sprintf("/plain/%d", []int{0, 10, 2000, 100 << 10}[(v+n)%4])
						switch n % 10 {
						case 7:
							read.Add(int64(len(w.ask("GET", path, "", "Range", "bytes=1-3").body)))
						case 8:
							w.ask("HEAD", path, "")
						case 9:
							w.tries("GET", "/plain/0", 0, time.Duration(v)*50*time.Microsecond)
						default:
							read.Add(int64(len(w.ask("GET", path, "").body)))
						}
					}
				})
			}
			crowd.Wait()
			w.awaitUnpinned(t, "over")
			w.agrees(t, file, read.Load())
		})
	}
}

// agrees compares what was counted with what was logged. read is what visitors read of
// bodies.
func (w *world) agrees(t *testing.T, file string, read int64) {
	t.Helper()
	var why string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if why = w.disagreement(t, file, read); why == "" {
			return
		}
	}
	t.Error(why)
}

func (w *world) disagreement(t *testing.T, file string, read int64) string {
	t.Helper()
	counted, sum := w.server.Outcomes(), uint64(0)
	for _, n := range counted {
		sum += n
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	logged, lines, bytes := map[outcome.Outcome]uint64{}, uint64(0), int64(0)
	for line := range strings.Lines(string(text)) {
		var l struct {
			Outcome outcome.Outcome `json:"outcome"`
			Bytes   int64           `json:"bytes"`
		}
		if json.Unmarshal([]byte(line), &l) != nil {
			return "a line that is not whole: " + line
		}
		logged[l.Outcome]++
		lines++
		bytes += l.Bytes
	}
	switch state, arrived := w.cache.State(), uint64(w.arrived.Load()); {
	case sum != arrived || lines != arrived:
		return fmt.Sprintf("%d requests have come, %d were counted and %d logged", arrived, sum, lines)
	case logged[outcome.Hit] != counted[outcome.Hit] || logged[outcome.Canceled] != counted[outcome.Canceled]:
		return fmt.Sprintf("logged %v, counted %v", logged, counted)
	case counted[outcome.Hit] < sum/2:
		return fmt.Sprintf("%d hits of %d requests", counted[outcome.Hit], sum)
	case state.Hits < counted[outcome.Hit] || state.Hits > counted[outcome.Hit]+counted[outcome.Canceled]:
		return fmt.Sprintf("%d hits of the cache, %d of requests", state.Hits, counted[outcome.Hit])
	case bytes != read:
		return fmt.Sprintf("%d bytes logged, %d read", bytes, read)
	case w.server.InFlight() != 0 || w.gate.State().InFlight != 0:
		return fmt.Sprintf("%d in flight, %d of them admitted", w.server.InFlight(), w.gate.State().InFlight)
	}
	return ""
}
