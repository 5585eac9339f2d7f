// Package interop holds the test that puts the public tests of HTTP caches to the
// node over HTTP/2 and HTTP/3. make test-more runs it; over HTTP/1.1 make conformance does.
package interop
