package doctor

import (
	"fmt"
	"net"
	"strings"

	"spillway/bpf"
)

// Interfaces says of each interface that is up what native mode would meet there. In
// generic mode all judge packets that have Ethernet headers, so that it is no reason to
// warn: which of them visitors come in by, the node says.
func Interfaces() (all []Finding) {
	links, err := net.Interfaces()
	for _, link := range links {
		if link.Flags&net.FlagUp == 0 || link.Flags&net.FlagLoopback != 0 {
			continue
		}
		what := "interface " + link.Name
		if i, err := bpf.Inspect(link.Name); err != nil {
			all = append(all, Warn.of(what, "run this where the node runs", "%v", err))
		} else {
			all = append(all, ok(what, "%s", nativeText(i)))
		}
	}
	if len(all) == 0 {
		return []Finding{Warn.of("interfaces", "run this where the node runs", "none is up but the loopback: %v", err)}
	}
	return all
}

// nativeText says whether native mode can be asked for, what stands in its way, and
// what it takes.
func nativeText(i bpf.Interface) string {
	driver := i.Driver
	if driver == "" {
		driver = "without a driver"
	}
	text := fmt.Sprintf("%s, MTU %d; native mode: ", driver, i.MTU)
	switch {
	case !i.Ethernet:
		return fmt.Sprintf("%s, MTU %d; packets are not judged here, as they have no Ethernet headers", driver, i.MTU)
	case i.Native == bpf.Unsupported:
		return text + "the driver has none"
	case len(i.Needs) > 0:
		return text + "not as it is. " + strings.Join(i.Needs, " ")
	case i.Native == bpf.Unknown:
		text += "whether the driver has it shows by trying."
	default:
		text += "the driver has it."
	}
	return strings.Join(append([]string{text}, i.Costs...), " ")
}
