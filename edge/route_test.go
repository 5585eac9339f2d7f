package edge

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gobwas/glob"

	"spillway/edge/outcome"
)

// routeTable builds sites without backends: matching looks at nothing else.
func routeTable(t *testing.T, hosts map[string][]*route) *sites {
	t.Helper()
	s := &sites{exact: map[string][]*route{}, wildcards: map[string][]*route{}}
	for host, routes := range hosts {
		s.add(host, routes)
	}
	return s
}

func pathRoute(name, path string, methods ...string) *route {
	return &route{originName: name, path: glob.MustCompile(path), methods: methods}
}

func TestMatch(t *testing.T) {
	s := routeTable(t, map[string][]*route{
		"a.test":   {pathRoute("thumbs", "/thumb/*.jpg"), pathRoute("upload", "/up*", "POST"), pathRoute("rest", "/*")},
		"*.b.test": {pathRoute("wild", "/only/*")},
	})
	f := func(method, host, target, want string, why outcome.Reason) {
		t.Helper()
		r := httptest.NewRequest(method, target, nil)
		r.Host = host
		got, reason := s.match(r, sentPath(r))
		name := ""
		if got != nil {
			name = got.originName
		}
		if name != want || reason != why {
			t.Errorf("%s %s%s: got %q (%s), want %q (%s)", method, host, target, name, reason, want, why)
		}
	}
	f("GET", "a.test", "/thumb/x.jpg", "thumbs", "")
	f("GET", "a.test", "/thumb/deep/x.jpg?w=1", "thumbs", "")
	f("GET", "A.TEST.", "/thumb/x.png", "rest", "")
	f("GET", "a.test:8443", "/", "rest", "")
	f("POST", "a.test", "/upload", "upload", "")
	f("PUT", "a.test", "/upload", "rest", "")
	f("GET", "x.b.test", "/only/this", "wild", "")
	f("GET", "x.b.test", "/other", "", outcome.NoRoute)
	f("GET", "x.y.b.test", "/only/this", "", outcome.UnknownHost)
	f("GET", "b.test", "/only/this", "", outcome.UnknownHost)
	f("GET", "[::1]:443", "/", "", outcome.UnknownHost)

	s.add("x.b.test", []*route{pathRoute("post", "/*", "POST")})
	f("GET", "x.b.test", "/", "", outcome.MethodNotAllowed)
	s.add("default", []*route{pathRoute("all", "/*")})
	f("GET", "[::1]:443", "/", "all", "")
}

func TestAmbiguous(t *testing.T) {
	f := func(path string, want bool) {
		t.Helper()
		if got := ambiguous(path); got != want {
			t.Errorf("ambiguous(%q) = %v", path, got)
		}
	}
	f("/", false)
	f("/a.jpg", false)
	f("/a..b/.hidden", false)
	f("/a%20b/c%2Fd", false)
	f("/...", false)
	f("/a/../b", true)
	f("/a/./b", true)
	f("/..", true)
	f("/a/%2e%2E/b", true)
	f("/a/.%2e/b", true)
	f("/a%2f..%2fb", true)
	f(`/a\..\b`, true)
	f("/a%00b", true)
}

// FuzzAmbiguous asks that no path that passes can leave its folder, however
// often a server behind decodes and resolves it.
func FuzzAmbiguous(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/", "/a%2f..", `/\..\`, "/a/b.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := &http.Request{Method: "GET", RequestURI: "/" + path}
		if why := malformed(r, sentPath(r)); why != outcome.None {
			return
		}
		for _, segment := range decodedSegments(sentPath(r)) {
			if segment == ".." {
				t.Fatalf("%q passes and climbs", path)
			}
		}
	})
}
