package lambda

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"time"
)

var (
	rootOf      = regexp.MustCompile(`(?:^|;)Root=(1-[0-9a-f]{8}-[0-9a-f]{24})(?:;|$)`)
	traceparent = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{8})([0-9a-f]{24})-[0-9a-f]{16}-[0-9a-f]{2}`)
)

// traceID names the call in AWS's logs and traces: by the trace that the visitor's
// request belongs to, in AWS's words or in those of W3C Trace Context, or by a new
// one. Nothing else of the visitor's is kept: whether to record a trace, which
// costs money, is not the visitor's to say.
func traceID(visitor http.Header, now time.Time) string {
	if m := rootOf.FindStringSubmatch(visitor.Get("X-Amzn-Trace-Id")); m != nil {
		return "Root=" + m[1]
	}
	if m := traceparent.FindStringSubmatch(visitor.Get("Traceparent")); m != nil {
		return "Root=1-" + m[1] + "-" + m[2]
	}
	return fmt.Sprintf("Root=1-%08x-%08x%016x", uint32(now.Unix()), rand.Uint32(), rand.Uint64())
}
