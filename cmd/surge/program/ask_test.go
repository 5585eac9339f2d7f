package program

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAsk(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		case "/cut":
			w.Header().Set("Content-Length", "8")
		}
		io.WriteString(w, r.Method)
	}))
	defer s.Close()
	f := func(method, path string, bytes int64, ok bool) {
		t.Helper()
		if err := Ask(t.Context(), http.DefaultTransport, method, s.URL+path, bytes); (err == nil) != ok {
			t.Errorf("%s %s for %d bytes: %v", method, path, bytes, err)
		}
	}
	f(http.MethodGet, "/", 3, true)
	f(http.MethodPost, "/", 4, true)
	f(http.MethodGet, "/", 4, false)
	f(http.MethodGet, "/", 2, false)
	f(http.MethodGet, "/missing", 3, false)
	f(http.MethodGet, "/cut", 8, false)
	f("", "://", 0, false)
}
