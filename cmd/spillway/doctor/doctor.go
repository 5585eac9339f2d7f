// Package doctor looks at the machine of a node as an experienced operator would:
// at what the kernel may and can do, at the limits that a crowd meets first, at
// what will run out or expire, and at who stands in the way. For each thing it says
// what it saw and what to do.
//
// It only looks. What cannot be seen, because the system is another
// one or does not show it, is said and is no reason to fail.
package doctor

import (
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"
	"time"
)

// A Verdict is what a finding means for the node.
type Verdict string

// The verdicts. A node that fails does not start, or will not go on for long.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
)

// A Finding is what was seen of one thing. Its keys in JSON do not change from
// version to version.
type Finding struct {
	What    string  `json:"what"`
	Verdict Verdict `json:"verdict"`
	Result  string  `json:"result"`
	// Remedy is what to do; empty where the verdict is ok.
	Remedy string `json:"remedy,omitempty"`
}

func ok(what, format string, a ...any) Finding {
	return Finding{What: what, Verdict: OK, Result: fmt.Sprintf(format, a...)}
}

func (v Verdict) of(what, remedy, format string, a ...any) Finding {
	return Finding{What: what, Verdict: v, Result: fmt.Sprintf(format, a...), Remedy: remedy}
}

// A Node is what the doctor has to know of the node.
type Node struct {
	// Process is that of the running node; zero while it does not run.
	Process int
	// TCP and UDP are where visitors are served; port 0 is any that is free.
	TCP, UDP []netip.AddrPort
	// GSO is the setting http3.gso.
	GSO bool
	// Connections is how many it may hold.
	Connections int64
	// ReceiveBuffer is what each UDP socket of the running node has, in bytes; zero while
	// it does not run.
	ReceiveBuffer int64
	Folders       []Folder
	// Pin is the setting admission.pin.
	Pin string
	// Certificates are the files of the certificates.
	Certificates []string
}

// A Folder is where the node writes.
type Folder struct {
	What string // what for, in a word
	Path string
	Size int64 // that its files may reach, in bytes; zero is little
}

// Examine looks at all there is to look at.
func Examine(n Node, now time.Time) []Finding {
	m := machine{process: n.Process}
	all := []Finding{m.kernel(), m.privileges(n)}
	all = append(all, Interfaces()...)
	if len(n.UDP) > 0 {
		all = append(all, m.receives(n.ReceiveBuffer), m.limit(sendBuffer), gso(n.GSO))
	}
	all = append(all, m.limit(synCookies), m.limit(acceptQueue), m.conntrack(), m.files(n.Connections), clock())
	all = append(all, m.ports("tcp", n.TCP)...)
	all = append(all, m.ports("udp", n.UDP)...)
	for _, f := range n.Folders {
		all = append(all, space(f))
	}
	if n.Pin != "" {
		all = append(all, m.pinned(n.Pin))
	}
	for _, file := range n.Certificates {
		all = append(all, certificate(file, now))
	}
	return append(all, signing(n.Certificates)...)
}

// Worst returns the verdict on all.
func Worst(all []Finding) Verdict {
	worst := OK
	for _, f := range all {
		if f.Verdict == Fail || f.Verdict == Warn && worst == OK {
			worst = f.Verdict
		}
	}
	return worst
}

// Write prints a line for each finding.
func Write(out io.Writer, all []Finding) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, f := range all {
		text := f.Result
		if f.Remedy != "" {
			text += "; " + f.Remedy
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Verdict, f.What, text)
	}
	return w.Flush()
}
