package bpftest

import (
	"net"
	"os"
	"strings"
	"testing"
)

// network names the one that the thread is in.
func network(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestOwnNetworkIsLeftAgain(t *testing.T) {
	before := network(t)
	t.Run("inside", func(t *testing.T) {
		t.Cleanup(func() { // after what OwnNetwork has done
			if after := network(t); after != before {
				t.Errorf("in %s afterwards, not in %s", after, before)
			}
		})
		OwnNetwork(t)
		if network(t) == before {
			t.Error("the network is everybody's")
		}
		all, err := net.Interfaces()
		if err != nil || len(all) != 1 || all[0].Flags&net.FlagLoopback == 0 || all[0].Flags&net.FlagUp == 0 {
			t.Errorf("interfaces %v, %v; want a loopback that is up", all, err)
		}
		if said := IP(t, "link add v0 type veth peer name v1", "link show v1"); !strings.Contains(said, "v1@v0") {
			t.Errorf("ip said %q", said)
		}
	})
}
