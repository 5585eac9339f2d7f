package admit

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// However many packets are dropped, the log has a few lines every few seconds, and
// nobody's whole address.
func TestLogOfDropsIsBounded(t *testing.T) {
	var d drops
	text := &bytes.Buffer{}
	log := slog.New(slog.NewTextHandler(text, nil))
	for second := range 60 {
		for n := range uint32(1000) {
			d.add(Sample{
				Source: netip.AddrPortFrom(v4(0xc0000200+n%256), 1), Reason: fmt.Sprint("reason", n%10), Drop: true, Enforced: true,
			})
		}
		d.log(log, time.Duration(second)*time.Second)
	}
	if n := strings.Count(text.String(), "\n"); n > 12*logLines {
		t.Errorf("%d lines in a minute", n)
	}
	if !strings.Contains(text.String(), "samples=600") && !strings.Contains(text.String(), "samples=500") ||
		!strings.Contains(text.String(), "last_from=192.0.2.0/24") {
		t.Errorf("log:\n%s", text)
	}
	if len(d.sampled) > 10 {
		t.Errorf("%d reasons kept", len(d.sampled))
	}
	d.add(Sample{Reason: "malformed"}) // from nowhere that could be read
}

// Samples that cannot be read are asked for ever later, which the log says once, and are
// read when that is over.
func TestSamplesThatCannotBeReadAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		k.next = errFrail
		_, log := governed(t, Surroundings{Kernel: k})
		pass(time.Hour)
		if k.nexts > 25 {
			t.Errorf("asked %d times in an hour", k.nexts)
		}
		if n := strings.Count(log.String(), "cannot read samples"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
		k.do(func() { k.next = nil })
		pass(lastRetry)
		k.samples <- Sample{Reason: "source", Drop: true, Enforced: true}
		pass(logEvery)
		if !strings.Contains(log.String(), "reason=source") {
			t.Errorf("log:\n%s", log)
		}
	})
}
