package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"spillway/edge/admit"
)

// judged runs a node in a network of its own, where the kernel judges the packets of its
// visitors, who are in another.
func judged(t *testing.T) (*succession, *visitors) {
	t.Helper()
	if !mayJudge() {
		t.Skip("needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN, ip and unshare")
	}
	ownNetwork(t)
	outside := otherEnd(t)
	var l net.Listener
	err := outside.do(func() (err error) { l, err = net.Listen("tcp", "192.0.2.2:0"); return err })
	if err != nil {
		t.Fatal(err)
	}
	origin := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(slowly)}}
	origin.Start()
	t.Cleanup(origin.Close)
	s := crossroads(t, "192.0.2.1:0", origin.URL)
	s.await(t, "a kernel that judges", func() bool { return s.state().Admission.Mode == admit.Generic })
	if got := s.state().Visits.UDPSteering; got != "kernel" {
		t.Fatalf("steering %q", got)
	}
	return s, &visitors{t: t, from: outside, listen: s.listen, requests: map[string]*atomic.Int64{}}
}

// watchKernel has somebody denied who tries again and again, and returns what ends that.
// Nobody of whose packets one is not judged, be it for a moment, comes in.
func (s *succession) watchKernel(t *testing.T, v *visitors) (end func()) {
	t.Helper()
	if _, err := s.client.Post(t.Context(), "/admission/deny?prefix=192.0.2.3"); err != nil {
		t.Fatal(err)
	}
	stop, tries := make(chan struct{}), new(atomic.Int64)
	var watching sync.WaitGroup
	for range 4 {
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
				conn, err := v.from.dial(ctx, "192.0.2.3", v.listen)
				cancel()
				if err == nil {
					conn.Close()
					t.Error("who is denied came in")
					return
				}
				tries.Add(1)
			}
		})
	}
	leave := sync.OnceFunc(func() { close(stop); watching.Wait() })
	t.Cleanup(leave)
	return func() {
		t.Helper()
		leave()
		state := s.state()
		t.Logf("%d packets of who is denied; %s, %s", tries.Load(), state.Admission.Mode, state.Visits.UDPSteering)
		if tries.Load() == 0 || state.Admission.Mode != admit.Generic || state.Visits.UDPSteering != "kernel" {
			t.Errorf("%d packets of who is denied, mode %s, steering %s", tries.Load(), state.Admission.Mode, state.Visits.UDPSteering)
		}
	}
}

// A successor that is killed when it has taken packets and new flows, and has not told,
// leaves both to the process before.
func TestPacketsComeBack(t *testing.T) {
	replace := replaceable(t)
	s, v := judged(t)
	kept, end := v.client("h3")
	defer end()
	if err := v.get(kept, "/", 2); err != nil {
		t.Fatal(err)
	}
	was := s.pid()
	replace("exec halfway usurps \"$@\"")
	var out, errs bytes.Buffer
	if err := askUpgrade(t.Context(), s.client, &out, &errs); err == nil || !strings.Contains(errs.String(), "signal: killed") {
		t.Fatalf("upgrade: %v\n%s%s\n%s", err, &out, &errs, s.log)
	}
	if !strings.Contains(s.log.String(), "usurped") {
		t.Fatalf("the successor was killed too early:\n%s", s.log)
	}
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
	watched := s.watchKernel(t, v)
	time.Sleep(4 * time.Second) // what governs no more is stale by then, and passes all
	watched()
	if is := s.pid(); is != was {
		t.Errorf("process %d serves, not %d", is, was)
	}
	s.endsWell(t)
}

// A process that is killed leaves nothing at the interface, and the next one begins as
// if there had been none.
func TestKilledNodeFreesItsInterface(t *testing.T) {
	s, v := judged(t)
	attached := func() bool {
		out, err := exec.Command("ip", "link", "show", "v0").CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(out), "xdpgeneric")
	}
	if !attached() {
		t.Fatal("no program is at the interface")
	}
	pid := s.signal(t, syscall.SIGKILL)
	s.await(t, "a free interface", func() bool { return zombie(pid) || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	s.await(t, "a free interface", func() bool { return !attached() })
	s = s.succeed(t)
	v.listen = s.listen
	s.await(t, "a kernel that judges", func() bool { return s.state().Admission.Mode == admit.Generic })
	c, end := v.client("h3")
	defer end()
	if err := v.get(c, "/", 2); err != nil {
		t.Error(err)
	}
	s.endsWell(t)
}
