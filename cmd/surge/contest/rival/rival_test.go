package rival

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestRules(t *testing.T) {
	for _, name := range []string{None, Failsafe, Spandana} {
		r, err := NewRule(name, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		end, ok := r.Enter()
		if !ok {
			t.Errorf("%s: the first request is turned away", name)
			continue
		}
		end(true)
	}
	for _, name := range []string{"", "other", Spandana} {
		if _, err := NewRule(name, 0); err == nil {
			t.Errorf("rule %q without a deadline is accepted", name)
		}
	}
}

func TestFailsafeHasALimit(t *testing.T) {
	r, _ := NewRule(Failsafe, 0)
	for n := range 1000 {
		if _, ok := r.Enter(); !ok {
			if n < 10 {
				t.Errorf("turned away with %d in flight", n)
			}
			return
		}
	}
	t.Error("a thousand are in flight")
}

// On a server whose latency is 10 ms for each request inside, as many are let in
// as meet the deadline.
func TestPredictionKeepsTheDeadline(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPrediction(85*time.Millisecond, func() time.Time { return now })
	most := 0
	for range 2000 {
		var ends []func(bool)
		for {
			end, ok := p.Enter()
			if !ok || len(ends) == 50 {
				if ok {
					end(false)
				}
				break
			}
			ends = append(ends, end)
		}
		most = len(ends)
		for _, end := range ends { // the n-th entered with n-1 before it
			now = now.Add(10 * time.Millisecond)
			end(true)
		}
	}
	if most != 8 {
		t.Errorf("%d are let in, want 8", most)
	}
}

// What was never seen follows from what was: four at once take four times as long.
func TestPredictionOfAnUnknownLevel(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPrediction(time.Second, func() time.Time { return now })
	end, _ := p.Enter()
	now = now.Add(10 * time.Millisecond)
	end(true)
	if one, four := p.predict(1), p.predict(4); math.Abs(four-one-math.Log(4)) > 1e-9 {
		t.Errorf("ln of the latency with one %v, with four %v", one, four)
	}
}

func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leaf, _ := x509.ParseCertificate(der)
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	return cert, key, roots
}

// What the rule turns away is answered by the functions.
func TestEdgeSpills(t *testing.T) {
	held := make(chan struct{})
	backend := func(word string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if word == "origin" {
				<-held
			}
			w.Header().Set("X-Place", word)
			io.WriteString(w, r.URL.RequestURI())
		}))
		t.Cleanup(s.Close)
		return s
	}
	cert, key, roots := certificate(t)
	ctx, stop := context.WithCancel(t.Context())
	address, done := make(chan string, 1), make(chan error, 1)
	o := Options{
		Rule: Failsafe, Origin: backend("origin").URL, Functions: backend("function").URL, Cert: cert, Key: key,
	}
	go func() { done <- Run(ctx, o, func(a string) { address <- a }) }()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, ForceAttemptHTTP2: true,
	}}
	url := ""
	select {
	case a := <-address:
		url = "https://" + a
	case err := <-done:
		t.Fatal(err)
	}
	places := make(chan string, 30)
	for range 30 {
		go func() {
			resp, err := client.Get(url + "/a?draw=1")
			if err != nil {
				places <- err.Error()
				return
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); string(body) != "/a?draw=1" {
				t.Errorf("the backend was asked for %q", body)
			}
			places <- resp.Header.Get("X-Place")
		}()
	}
	// Failsafe starts at 20. The origin answers nobody until the others were served.
	for n := range 30 {
		want := "function"
		if n == 10 {
			close(held)
		}
		if n >= 10 {
			want = "origin"
		}
		if place := <-places; place != want {
			t.Errorf("answer %d came from %q, want %s", n, place, want)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	client.CloseIdleConnections()
}
