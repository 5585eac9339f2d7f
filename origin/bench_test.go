package origin

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// BenchmarkDo measures what the package adds to the transport that it uses: one
// request after the other over one connection to a server in this process.
func BenchmarkDo(b *testing.B) {
	for _, size := range []int{1 << 10, 20 << 10, 200 << 10} {
		body := make([]byte, size)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.Write(body)
		}))
		defer server.Close()
		in := httptest.NewRequest(http.MethodGet, "http://example.com/picture?width=200", nil)
		in.Header = http.Header{
			"User-Agent": {"Mozilla/5.0"}, "Accept": {"image/avif,image/webp,*/*"},
			"Accept-Encoding": {"gzip, br"}, "Accept-Language": {"en"}, "Referer": {"https://example.com/"},
		}
		client := Client{Addr: netip.MustParseAddr("192.0.2.1"), Proto: "https", Host: "example.com"}
		o := newOrigin(b, Config{Servers: []string{server.URL}})
		b.Run(fmt.Sprintf("transport/%dKiB", size>>10), func(b *testing.B) {
			req, err := http.NewRequest(http.MethodGet, server.URL+"/picture?width=200", nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header = Outgoing(b.Context(), in, client, nil).Header // the server's share is the same
			benchmark(b, size, func() (*http.Response, error) { return o.pool.all()[0].link.Load().usual.RoundTrip(req) })
		})
		b.Run(fmt.Sprintf("origin/%dKiB", size>>10), func(b *testing.B) {
			benchmark(b, size, func() (*http.Response, error) {
				p, ok := o.limiter.Acquire(0, 1)
				if !ok {
					b.Fatal("no permit")
				}
				return o.Do(Outgoing(b.Context(), in, client, nil), p)
			})
		})
	}
}

func benchmark(b *testing.B, size int, ask func() (*http.Response, error)) {
	b.ReportAllocs()
	buf := make([]byte, 64<<10)
	for b.Loop() {
		resp, err := ask()
		if err != nil {
			b.Fatal(err)
		}
		got := 0
		for err == nil {
			var n int
			n, err = resp.Body.Read(buf)
			got += n
		}
		resp.Body.Close()
		if err != io.EOF || got != size {
			b.Fatal(got, err)
		}
	}
}

// BenchmarkPick measures the choice of a server.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 2, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var servers []string
			for i := range n {
				servers = append(servers, fmt.Sprintf("http://127.0.0.1:%d", 1+i))
			}
			o := newOrigin(b, Config{Servers: servers})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s, _ := o.pool.pick(nil, true)
					s.inFlight.Add(1)
					s.inFlight.Add(-1)
				}
			})
		})
	}
}

// BenchmarkOutgoing measures the making of a request.
func BenchmarkOutgoing(b *testing.B) {
	in := httptest.NewRequest(http.MethodGet, "http://example.com/picture?width=200", nil)
	in.Header = http.Header{
		"User-Agent": {"Mozilla/5.0"}, "Accept": {"image/avif,image/webp,*/*"},
		"Accept-Encoding": {"gzip, br"}, "Accept-Language": {"en"}, "Referer": {"https://example.com/"},
	}
	client := Client{Addr: netip.MustParseAddr("192.0.2.1"), Proto: "https", Host: "example.com"}
	b.ReportAllocs()
	for b.Loop() {
		Outgoing(b.Context(), in, client, nil)
	}
}
