package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"spillway/edge/admit"
)

// A node goes into the kernel with an upgrade, where its packets are judged and its one
// socket goes on as before, and out of it with a restart alone: an upgrade would take
// its connections from their sockets.
func TestUpgradeIntoTheKernelAndOutOfIt(t *testing.T) {
	s, v := judged(t)
	in, err := os.ReadFile(s.file("spillway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := string(in) + "admission: {kernel: off}\n"
	kept, end := v.client("h3")
	defer end()
	visit := func() {
		t.Helper()
		if err := v.get(kept, "/", 2); err != nil {
			t.Errorf("on a connection that was there: %v", err)
		}
		for _, proto := range []string{"h1", "h2", "h3"} {
			c, end := v.client(proto)
			defer end()
			if err := v.get(c, "/", 2); err != nil {
				t.Errorf("on a new connection by %s: %v", proto, err)
			}
		}
	}
	visit()
	was := s.pid()
	s.put(t, "spillway.yaml", out)
	var said, refused bytes.Buffer
	err = askUpgrade(t.Context(), s.client, &said, &refused)
	if err == nil || !strings.Contains(refused.String(), "admission.kernel is off; restart the node instead") {
		t.Errorf("upgrade: %v\n%s%s", err, &said, &refused)
	}
	visit()
	if is := s.pid(); is != was {
		t.Errorf("process %d serves, not %d", is, was)
	}
	end()
	s.endsWell(t)

	s = s.succeed(t)
	v.listen = s.listen
	kept, end = v.client("h3")
	visit()
	s.put(t, "spillway.yaml", string(in))
	s.upgrade(t)
	s.await(t, "a kernel that judges", func() bool { return s.state().Admission.Mode == admit.Generic })
	visit()
	if got := s.state().Visits; got.UDPSteering != "classic" || got.UDPUnsteered == "" {
		t.Errorf("steering %s, %q", got.UDPSteering, got.UDPUnsteered)
	}
	end()
	s.endsWell(t)
}
