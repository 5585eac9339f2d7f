package origin

import (
	"net/http"
	"strings"
	"testing"
)

// TestTry: servers are tried by their health path, or by a connection.
func TestTry(t *testing.T) {
	var sick http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
	f := func(what, scheme, health, want string) {
		t.Helper()
		server, c := serverOf(t, scheme, sick)
		c.Servers, c.Health.Path = []string{server}, health
		tried := newOrigin(t, c).Try(t.Context())
		if len(tried) != 1 || tried[0].Server != server {
			t.Fatalf("%s: %+v", what, tried)
		}
		got := ""
		if err := tried[0].Err; err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	for _, scheme := range []string{"http", "https", "h2c", "unix"} {
		f(scheme, scheme, "", "")
		f(scheme+" that is well", scheme, "/", "")
		f(scheme+" that is sick", scheme, "/healthz", "status 500")
	}
	server, _ := serverOf(t, "https", sick)
	tried := newOrigin(t, Config{Servers: []string{server, "http://127.0.0.1:1"}}).Try(t.Context())
	if tried[0].Err == nil || !strings.Contains(tried[0].Err.Error(), "certificate") {
		t.Errorf("a certificate of nobody known: %v", tried[0].Err)
	}
	if tried[1].Err == nil || !strings.Contains(tried[1].Err.Error(), "connection refused") {
		t.Errorf("nobody there: %v", tried[1].Err)
	}
}

func TestAddressToDial(t *testing.T) {
	f := func(server, want string) {
		t.Helper()
		a, err := parseServer(server)
		if err != nil || a.dialed() != want {
			t.Errorf("%s: %s, %v; want %s", server, a.dialed(), err, want)
		}
	}
	f("http://a.example", "a.example:80")
	f("https://a.example", "a.example:443")
	f("h2c://[::1]", "[::1]:80")
	f("https://[::1]:8443", "[::1]:8443")
	f("http://10.0.0.5:8080", "10.0.0.5:8080")
}
