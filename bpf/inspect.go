package bpf

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Support is what can be told of native mode without trying it.
type Support string

// The answers.
const (
	Supported   Support = "yes"
	Unsupported Support = "no"
	Unknown     Support = "unknown" // neither the kernel (before 6.3) nor this package can tell
)

// An Interface is what an operator wants to know of a network interface before asking
// for native mode there.
type Interface struct {
	Name  string
	Index int
	MTU   int // in bytes
	// Ethernet is false where no mode is to be had (ErrNotEthernet).
	Ethernet bool
	// Driver is the kernel's name of it, empty if it has none.
	Driver string
	// Native says whether the driver has native mode at all.
	Native Support
	// Needs are sentences about what stands in the way of native mode now. They are
	// known for some drivers, so that Attach may be refused without any.
	Needs []string
	// Costs are sentences about what native mode takes from the interface.
	Costs []string
}

// A driver is what is known of one that has native mode.
type driver struct {
	maxMTU int // beyond which a frame is more than one buffer; zero is a page's
	costs  []string
}

// pageMTU is what fits into a page of 4 KiB beside the headroom of XDP, the end of a
// socket buffer, and a header with a VLAN tag.
const pageMTU = 4096 - 256 - 320 - 22

const (
	restarts = "The link is interrupted when native mode begins and ends, because the driver makes its queues anew."
	noMerge  = "What the device merges (LRO, GRO_HW) is turned off, so that more and smaller packets arrive."
	halfFree = "It is refused while more than half of the queues are in use."
	queues   = "The driver takes a transmit queue for each processor, even though nothing is sent by them."
)

// drivers are those of common machines, as of Linux 6.12.
var drivers = map[string]driver{
	"bnxt_en":    {costs: []string{restarts, noMerge, queues}},
	"ena":        {costs: []string{restarts, queues, halfFree}},
	"gve":        {maxMTU: 2048 - 16, costs: []string{restarts, noMerge, queues, halfFree}},
	"hv_netvsc":  {costs: []string{restarts, noMerge}},
	"i40e":       {maxMTU: 3072 - 26, costs: []string{restarts, queues}},
	"ice":        {costs: []string{restarts, queues}},
	"igc":        {maxMTU: 1500, costs: []string{restarts}},
	"ixgbe":      {costs: []string{restarts, queues}},
	"mlx4_en":    {costs: []string{restarts, queues}},
	"mlx5_core":  {costs: []string{restarts, noMerge, queues}},
	"veth":       {},
	"virtio_net": {costs: []string{noMerge, queues}},
}

// Inspect tells of an interface what native mode would meet there. It reads sysfs and
// asks the kernel, needs no privilege, and changes nothing.
func Inspect(name string) (Interface, error) {
	found, err := net.InterfaceByName(name)
	if err != nil {
		return Interface{}, fmt.Errorf("inspect interface %s: %w", name, err)
	}
	i := Interface{Name: name, Index: found.Index, MTU: found.MTU, Driver: driverOf(name), Native: Unknown}
	if i.Ethernet, err = hasEthernet(i.Index); err != nil {
		return Interface{}, fmt.Errorf("inspect interface %s: %w", name, err)
	}
	known, listed := drivers[i.Driver]
	features, err := xdpFeatures(i.Index)
	switch {
	case i.Driver == "", !i.Ethernet, err == nil && features&xdpBasic == 0:
		i.Native = Unsupported
		return i, nil
	case err == nil, listed:
		i.Native = Supported
	}
	i.Costs = known.costs
	if !listed {
		i.Costs = []string{"This driver is not known here; most interrupt the link, turn off LRO and take transmit queues."}
	}
	limit := known.maxMTU
	if limit == 0 {
		limit = pageMTU
	}
	if i.MTU > limit {
		i.Needs = append(i.Needs, fmt.Sprintf("The MTU is %d; a frame must fit into one buffer, which is up to about %d.", i.MTU, limit))
	}
	if i.Driver == "virtio_net" {
		features, err := os.ReadFile(filepath.Join("/sys/class/net", name, "device/features"))
		if err == nil {
			i.Needs = append(i.Needs, virtioNeeds(string(features))...)
		}
	}
	return i, nil
}

// driverOf asks sysfs, and for interfaces without a device the driver itself.
func driverOf(name string) string {
	if link, err := os.Readlink(filepath.Join("/sys/class/net", name, "device/driver")); err == nil {
		return filepath.Base(link)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// The features of a virtio network device (virtio 1.2 section 5.1.3).
const (
	virtioGuestChecksum = 1
	virtioControl       = 2 // of what the guest gets merged
	virtioGuestTSO4     = 7
	virtioGuestUFO      = 10
)

// virtioNeeds looks for what the host spares the guest and the guest cannot refuse: the
// driver has no native mode then. The features are written as in sysfs, bit 0 first.
func virtioNeeds(bits string) []string {
	has := func(bit int) bool { return bit < len(bits) && bits[bit] == '1' }
	if has(virtioControl) {
		return nil
	}
	for bit := virtioGuestTSO4; bit <= virtioGuestUFO; bit++ {
		if has(bit) {
			return []string{"The host merges packets, and does not let the guest turn that off: offer VIRTIO_NET_F_CTRL_GUEST_OFFLOADS there."}
		}
	}
	if has(virtioGuestChecksum) {
		return []string{"The host leaves out checksums, and does not let the guest turn that off: offer VIRTIO_NET_F_CTRL_GUEST_OFFLOADS there."}
	}
	return nil
}
