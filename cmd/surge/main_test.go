package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"surge": main})
}

// TestScripts runs the program as a person would. $URL is a server that answers as
// a node does.
func TestScripts(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Spillway", "hit; reason=fresh")
		if r.URL.Path == "/down" {
			w.Header().Set("Spillway", "shed; reason=queue-full")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	node := httptest.NewServer(h)
	t.Cleanup(node.Close) // after the scripts, which run in parallel
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("URL", node.URL)
			return nil
		},
	})
}
