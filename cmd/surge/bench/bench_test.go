package bench

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"spillway/config"
	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestMedian(t *testing.T) {
	f := func(want float64, v ...float64) {
		t.Helper()
		if got := median(v); got != want {
			t.Errorf("median of %v: %g, want %g", v, got, want)
		}
	}
	f(1, 1)
	f(2, 3, 1, 2)
	f(2.5, 4, 1, 3, 2)
}

func TestJudge(t *testing.T) {
	rows := []row{{Shape: "1 stream", Ratio: bar + 0.01}}
	if err := (options{}).judge(rows); err != nil {
		t.Errorf("a benchmark that is not strict fails: %v", err)
	}
	if (options{strict: true}).judge(rows) == nil {
		t.Error("a missed bar passes under --strict")
	}
	rows[0].Ratio = bar
	if err := (options{strict: true}).judge(rows); err != nil {
		t.Errorf("the bar itself fails: %v", err)
	}
}

func TestConfigurationLoads(t *testing.T) {
	if _, err := config.Parse("spillway.yaml", []byte(NodeConfiguration(t.TempDir(), "127.0.0.1:9000")), nil); err != nil {
		t.Error(err)
	}
}

// forLong asks for a moment, and for longer if that was over before the first answer: a
// busy machine stalls for seconds.
func forLong(ask func(time.Duration) (int64, error)) (answers int64, err error) {
	for d := 300 * time.Millisecond; d < time.Minute; d *= 10 {
		answers, err = ask(d)
		if answers > 0 || err != nil && !errors.Is(err, errNoAnswer) {
			break
		}
	}
	return answers, err
}

// TestDrive loads the yardstick itself for a moment, in every shape.
func TestDrive(t *testing.T) {
	certificate, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server := &http3.Server{TLSConfig: serverTLS(certificate), Handler: bareHandler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(conn) }()
	for _, s := range shapes {
		s.connections, s.streams = 2, min(s.streams, 2)
		n, err := forLong(func(d time.Duration) (int64, error) {
			return drive(context.Background(), s, conn.LocalAddr().String(), "/bytes/1024", d)
		})
		if err != nil || n == 0 {
			t.Errorf("%s: %d answers, %v", s.name, n, err)
		}
	}
	server.Close()
	<-served
}

func TestWrite(t *testing.T) {
	var out bytes.Buffer
	if err := (report{Streams: []row{{"1 stream", 12.5, 10, 1.25, []float64{1.2, 1.3}}}}).write(&out, false); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out.Bytes(), []byte("1.25   [1.20 1.30]")) {
		t.Errorf("got\n%s", out.String())
	}
}

func TestUnknownPartIsRefused(t *testing.T) {
	if err := (options{parts: []string{partHits, "cache"}, rounds: 1}).check(); err == nil {
		t.Error("a part that does not exist is accepted")
	}
	if err := (options{parts: parts, rounds: 1}).check(); err != nil {
		t.Error(err)
	}
	if err := (options{parts: parts}).check(); err == nil {
		t.Error("no round is accepted")
	}
}
