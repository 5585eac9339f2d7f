// Package edge is at the edge.
package edge

import (
	_ "fmt"

	_ "example.com/quic/http3"
	_ "example.com/unknown"

	_ "fixture/edge/leaf"
)
