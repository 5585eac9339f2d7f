package peers

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// report is what h2load 1.64 and later say at their end.
const said = `starting benchmark...
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h3
finished in 3.02s, 53120.33 req/s, 58.20MB/s
requests: 159361 total, 159861 started, 159361 done, 159361 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 159370 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 174.60MB (183081234) total
`

func TestParseH2load(t *testing.T) {
	f := func(old, replacement string, ok bool) {
		t.Helper()
		text := strings.ReplaceAll(said, old, replacement)
		if old != "" && text == said {
			t.Fatalf("%q is not in what h2load says", old)
		}
		got, err := parseH2load(text, h3)
		if (err == nil) != ok {
			t.Errorf("with %q: %+v, %v", replacement, got, err)
		}
	}
	f("", "", true)
	f("3.02s", "150.22ms", true)
	f("0 failed, 0 errored", "3 failed, 3 errored", true)
	f("0 5xx", "12 5xx", false)
	f("0 4xx", "12 4xx", false)
	f("159361 succeeded", "0 succeeded", false)
	f("protocol: h3", "protocol: h2", false)
	f("Application protocol: h3\n", "", false)
	f("TLSv1.3", "TLSv1.2", false)
	f("requests: ", "", false)
	got, err := parseH2load(said, h3)
	if want := (tally{Answers: 159361, Took: 3020 * time.Millisecond}); got != want || err != nil {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, _ := parseH2load(strings.ReplaceAll(said, "0 failed", "3 failed"), h3); got.Failed != 3 {
		t.Errorf("%d failed, want 3", got.Failed)
	}
	if _, err := parseH2load("", h3); err == nil {
		t.Error("nothing is taken for a tally")
	}
}

func TestH2loadArguments(t *testing.T) {
	f := func(w work, want ...string) {
		t.Helper()
		args := strings.Join(w.h2load("127.0.0.1:9000"), " ")
		for _, part := range append(want, "--connect-to=127.0.0.1:9000", "https://localhost/bytes/1024", "--groups=X25519") {
			if !strings.Contains(args, part) {
				t.Errorf("%q is missing in %s", part, args)
			}
		}
	}
	f(work{Shape: steady, Protocol: h3, Bytes: kib, Connections: 50, Streams: 10, For: 3 * time.Second}, "-c 50", "-m 10", "-D 3000ms", "--warm-up-time 500ms", "h3")
	f(work{Shape: steady, Protocol: h1, Bytes: kib, Connections: 50, Streams: 1, For: time.Second}, "--h1", "-m 1")
	f(work{Shape: visitors, Protocol: h3, Bytes: kib, Rate: 1500, For: 2 * time.Second}, "-n 3000", "-c 3000", "--rate 15", "--rate-period 10ms", "-m 1")
	f(work{Shape: visitors, Protocol: h3, Bytes: kib, Connections: 200, For: 2 * time.Second}, "-n 200", "-c 200")
	if slices.Contains(work{Shape: visitors, Protocol: h3, Connections: 200}.h2load(""), "--rate") {
		t.Error("visitors who come at once come at a rate")
	}
}

// A visitor in a hundred may fail at a server that is near its end; nobody else may.
func TestEnough(t *testing.T) {
	f := func(s shape, answers, failed int64, want bool) {
		t.Helper()
		if err := (tally{Answers: answers, Failed: failed}).enough(s); (err == nil) != want {
			t.Errorf("%s, %d answers, %d failed: %v", s, answers, failed, err)
		}
	}
	f(steady, 1000, 0, true)
	f(steady, 1000, 1, false)
	f(visitors, 990, 10, true)
	f(visitors, 989, 11, false)
	f(visitors, 0, 0, false)
	f(idle, 1000, 1, false)
}
