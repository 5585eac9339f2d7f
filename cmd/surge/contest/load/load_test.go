package load

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// serve runs a handler over both protocols and returns its address.
func serve(t *testing.T, h http.Handler) (address string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	udp, err := net.ListenPacket("udp", "127.7.7.9:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String()) // nobody else has TCP's ports there
	if err != nil {
		t.Fatal(err)
	}
	two := &http.Server{Handler: h, TLSConfig: conf, ErrorLog: log.New(io.Discard, "", 0)}
	three := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(conf)}
	done := make(chan struct{}, 2)
	go func() { two.ServeTLS(tcp, "", ""); done <- struct{}{} }()
	go func() { three.Serve(udp); done <- struct{}{} }()
	t.Cleanup(func() {
		two.Close()
		three.Close()
		udp.Close()
		<-done
		<-done
	})
	return tcp.Addr().String(), roots
}

func config(protocol, address string, roots *x509.CertPool) Config {
	return Config{Protocol: protocol, Address: address, Alone: address, RootCAs: roots, Lanes: 2, Patience: 10 * time.Second}
}

func play(t *testing.T, c Config, requests []Request) []Sample {
	t.Helper()
	samples, err := Play(t.Context(), c, requests, func(time.Time) {})
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

func TestEveryRequestHasItsSample(t *testing.T) {
	address, roots := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if n != 0 && n != 1<<20 || r.Method == "POST" != (n > 0) {
			w.WriteHeader(http.StatusBadRequest)
		}
		w.Header().Set(PlaceHeader, "origin")
		if r.URL.Path == "/busy" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	for _, protocol := range []string{H2, H3} {
		requests := []Request{
			{Target: "/a?draw=1"},
			{Target: "/busy"},
			{At: 5 * time.Millisecond, Target: "/up", Upload: 1 << 20},
			{At: 5 * time.Millisecond, Target: "/alone", Alone: true},
		}
		samples := play(t, config(protocol, address, roots), requests)
		for i, want := range []int{200, 503, 200, 200} {
			s := samples[i]
			if s.Status != want || s.Attempts != 1 || s.OK() != (want == 200) || s.Took <= 0 || s.Lag < 0 {
				t.Errorf("%s: request %d: %+v, want %d", protocol, i, s, want)
			}
			if want == 200 && s.Place != "origin" {
				t.Errorf("%s: request %d: place %q", protocol, i, s.Place)
			}
		}
	}
}

// A server that answers nobody until all have come gets all: the driver does not
// wait for answers, and opens connections when those it has are full.
func TestLoadIsOpenLoop(t *testing.T) {
	const n = 3 * perLane
	var here atomic.Int64
	all := make(chan struct{})
	address, roots := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if here.Add(1) == n {
			close(all)
		}
		<-all
	}))
	requests := make([]Request, n)
	for i := range requests {
		requests[i] = Request{At: time.Duration(i) * 50 * time.Microsecond, Target: "/"}
	}
	for i, s := range play(t, config(H2, address, roots), requests) {
		if !s.OK() {
			t.Fatalf("request %d: %+v", i, s)
		}
	}
}

func TestVisitorsRetryAndGiveUp(t *testing.T) {
	var asked atomic.Int64
	address, roots := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/never":
			<-r.Context().Done()
		case asked.Add(1) < 3:
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	c := config(H2, address, roots)
	c.Retries, c.RetryAfter = 3, 5*time.Second
	if s := play(t, c, []Request{{Target: "/"}})[0]; !s.OK() || s.Attempts != 3 {
		t.Errorf("%+v, want an answer to the third attempt", s)
	}
	c.Patience = 50 * time.Millisecond
	if s := play(t, c, []Request{{Target: "/never"}})[0]; s.OK() || s.Error != "timeout" || s.Attempts != 1 {
		t.Errorf("%+v, want a visitor that gave up", s)
	}
	c.Patience, c.RetryAfter = 10*time.Second, 20*time.Millisecond
	if s := play(t, c, []Request{{Target: "/never"}})[0]; s.Error != "timeout" || s.Attempts != 4 {
		t.Errorf("%+v, want four attempts", s)
	}
}

func TestNobodyThere(t *testing.T) {
	// A port that is not of those which the kernel gives to whoever asks for any.
	if _, err := Play(t.Context(), config(H2, "127.0.0.1:1", nil), nil, func(time.Time) {}); err == nil {
		t.Error("a plan was played to nobody")
	}
}
