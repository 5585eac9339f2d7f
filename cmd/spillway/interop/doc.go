// Package interop holds the tests that meet the program with clients and tools
// of others: browsers, curl, gtlsclient, gRPC, WebSocket, h2spec, slowhttptest.
//
// They run the real program, built with the race detector, in front of an
// origin that says what arrived there. What a client saw, what the origin saw
// and what the node counted must be the same. make test-more runs them; a peer
// that is not installed is a skip that names it.
package interop
