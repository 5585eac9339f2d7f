package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/bpf/bpftest"
)

// TestInspect asks about interfaces, and then tries what it said.
func TestInspect(t *testing.T) {
	a := needKernel(t, Options{})
	ownNamespace(t)
	lo, err := Inspect("lo")
	if err != nil || lo.Native != Unsupported || lo.Index != interfaceIndex(t, "lo") || len(lo.Costs)+len(lo.Needs) != 0 {
		t.Errorf("a loopback: %+v, %v", lo, err)
	}
	v0, err := Inspect("v0")
	if err != nil || v0.Native != Supported || v0.Driver != "veth" || v0.MTU != 1500 || len(v0.Needs) != 0 {
		t.Errorf("a cable: %+v, %v", v0, err)
	}
	for _, name := range []string{"v0", "v1"} {
		bpftest.IP(t, "link set "+name+" mtu 9000")
	}
	v0, err = Inspect("v0")
	if err != nil || v0.MTU != 9000 || len(v0.Needs) != 1 || !strings.Contains(v0.Needs[0], "9000") {
		t.Errorf("a cable for long frames: %+v, %v", v0, err)
	}
	if _, err := a.Attach(v0.Index, Native); err == nil {
		t.Error("attached where a frame does not fit into a buffer")
	}
	if _, err := Inspect("v2"); err == nil {
		t.Error("no interface, no error")
	}
}

// TestInspectAll compares with sysfs, which a namespace of its own has not.
func TestInspectAll(t *testing.T) {
	all, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Skip(err)
	}
	for _, entry := range all {
		i, err := Inspect(entry.Name())
		if err != nil {
			continue // a file of the bonding driver, or the test runs in another namespace
		}
		link, err := os.Readlink(filepath.Join("/sys/class/net", entry.Name(), "device/driver"))
		if err == nil && i.Driver != filepath.Base(link) {
			t.Errorf("%+v, driver %s", i, link)
		}
		t.Logf("%+v", i)
	}
}

func TestVirtioNeeds(t *testing.T) {
	f := func(features string, needs string) {
		t.Helper()
		got := strings.Join(virtioNeeds(features), "")
		if (got == "") != (needs == "") || !strings.Contains(got, needs) {
			t.Errorf("%s: %q, want %q", features, got, needs)
		}
	}
	f("", "")
	f("1000010000000000", "")
	f("1100010000000000", "checksums")
	f("1100010110111011", "merges")
	f("1000010000100000", "merges")
	f("1110010110111011", "") // the guest may turn it off
}

// TestNetlink asks the kernel, and for what is not there.
func TestNetlink(t *testing.T) {
	if _, err := xdpFeatures(1 << 30); !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("no such interface: %v", err)
	}
}

func FuzzNetlink(f *testing.F) {
	q := question{family: 20, attribute: netdevIndex, answer: netdevXDPFeatures, value: []byte("netdev\x00")}
	q.attribute = q.answer
	f.Add(q.message())
	f.Add(question{family: unix.NLMSG_ERROR, value: make([]byte, 20)}.message())
	f.Fuzz(func(t *testing.T, message []byte) {
		if value, err := q.read(message); err != nil && value != nil {
			t.Errorf("%x and %v", value, err)
		}
	})
}
