package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/admin"
)

// warm is the configuration of a node with much less memory than its disk.
const warm = `
listen: 127.0.0.1:0
http: off
admin: unix:%[1]s/a.sock
state: ""
log: {access: off}
tls: {self_signed: true}
cache: {memory: 2MiB, max_object: 256KiB, disk: {path: %[1]s/disk, size: 16MiB}}
origins: {app: {servers: [%[2]q]}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`

const nodeKills = "SPILLWAY_NODE_KILLS"

// pageOf is the origin's body of a path: of another size and content for each.
func pageOf(path string) string {
	size, _ := strconv.Atoi(strings.TrimLeft(path, "/"))
	return strings.Repeat(path+" ", 100+size*size%9000)
}

// TestKilledNodeServesItsDisk kills the program while visitors make it write and read
// its disk. What the next one serves is byte for byte what the origin says, and comes
// from the disk. SPILLWAY_NODE_KILLS sets how often.
func TestKilledNodeServesItsDisk(t *testing.T) {
	kills := 4
	if n, err := strconv.Atoi(os.Getenv(nodeKills)); err == nil {
		kills = n
		t.Setenv(nodeKills, "")
		os.Unsetenv(nodeKills) // to a node it is a setting that it does not know
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := pageOf(r.URL.Path)
		w.Header().Set("Cache-Control", "max-age=86400")
		w.Header().Set("Etag", strconv.Quote(r.URL.Path))
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		io.WriteString(w, body)
	}))
	defer origin.Close()
	p := prepare(t)
	p.put(t, "spillway.yaml", fmt.Sprintf(warm, p.dir, origin.URL))
	client := admin.NewClient("unix:" + p.file("a.sock"))
	disk := func() (s nodeState) {
		if client.Status(t.Context(), &s) != nil {
			t.Fatal("the node does not answer")
		}
		return s
	}
	recalled, served := uint64(0), atomic.Int64{}
	for kill := range kills + 1 {
		program, state := p.launch(t)
		p.await(t, "the disk", func() bool { return disk().Cache.Disk.Phase == "on" })
		ctx, cancel := context.WithCancel(t.Context())
		var visitors sync.WaitGroup
		for range 8 {
			visitors.Go(func() { browse(ctx, t, state.Listeners[0], &served) })
		}
		enough := served.Load() + 1000 + rand.Int64N(500)
		p.await(t, "so many answers", func() bool { return served.Load() >= enough })
		s := disk().Cache.Disk
		if s.Damaged > 0 {
			t.Errorf("kill %d: %d damaged", kill, s.Damaged)
		}
		recalled += s.Recalled
		if err := program.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		program.Wait()
		cancel()
		visitors.Wait()
	}
	t.Logf("%d kills, %d answers, %d from the disk", kills, served.Load(), recalled)
	if recalled == 0 {
		t.Error("nothing came from the disk")
	}
}

// browse asks for pages until the context ends, a few of them most, and compares what
// comes whole with what the origin says.
func browse(ctx context.Context, t *testing.T, address string, served *atomic.Int64) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: 10 * time.Second}
	for ctx.Err() == nil {
		path := "/" + strconv.Itoa(int(600*rand.Float64()*rand.Float64()))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+path, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			continue // the node is killed
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		if string(body) != pageOf(path) {
			t.Errorf("%s: %d bytes that the origin does not say", path, len(body))
			return
		}
		served.Add(1)
	}
}
