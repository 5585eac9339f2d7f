package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spillway/cmd/spillway/doctor"
	"spillway/config"
	"spillway/edge/admin"
	"spillway/edge/admit"
)

func newDoctorCommand() *cobra.Command {
	var path, address string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE] [--admin ADDRESS] [--json]",
		Short: "Say what this machine lacks for the node",
		Long: `Look at this machine as the node of the configuration needs it: kernel and
privileges, interfaces and what native mode would meet there, limits of sockets,
connections and files, the clock, ports, certificates, and room on the disk. Each is
a line that begins with ok, warn or fail, and says what to do. While the node runs
its own rights and limits count, else those of this command. It changes nothing;
as root it sees more.

The exit code is 0 when all is well, 1 when something fails, and 2 when something
is to be warned of.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address != "" {
				if err := config.CheckAdmin(address); err != nil {
					return usageError{fmt.Errorf("--admin %s: %w", address, err)}
				}
			}
			return tellFindings(cmd.OutOrStdout(), examine(cmd.Context(), path, address), asJSON)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener, if it is not that of the file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}

// tellFindings prints the findings, and returns the verdict on all as an error.
func tellFindings(out io.Writer, all []doctor.Finding, asJSON bool) (err error) {
	worst := doctor.Worst(all)
	if asJSON {
		err = printIndented(out, examined{worst, all})
	} else {
		err = doctor.Write(out, all)
	}
	switch {
	case err != nil:
		return err
	case worst == doctor.Fail:
		return errReported
	case worst == doctor.Warn:
		return errWarned
	}
	return nil
}

// examined is what doctor --json prints. Its keys do not change from version to
// version.
type examined struct {
	Verdict  doctor.Verdict   `json:"verdict"`
	Findings []doctor.Finding `json:"findings"`
}

// examine looks at the machine, the configuration and the node.
func examine(ctx context.Context, path, address string) []doctor.Finding {
	c, err := config.Load(path, os.Environ())
	if err != nil {
		said := doctor.Finding{
			What: "configuration", Verdict: doctor.Fail, Result: firstLine(err.Error()),
			Remedy: "see spillway check; ports, folders and certificates are not looked at",
		}
		return append([]doctor.Finding{said}, doctor.Examine(doctor.Node{GSO: true}, time.Now())...)
	}
	all := []doctor.Finding{{What: "configuration", Verdict: doctor.OK, Result: path + " passes"}}
	n := nodeOf(c)
	var s nodeState
	switch err := admin.NewClient(cmp.Or(address, c.Admin)).Status(ctx, &s); {
	case err == nil:
		n.Process, n.Connections, n.ReceiveBuffer = s.PID, s.Admission.ConnectionsLimit, s.Visits.UDPBuffer
		all = append(all, running(&s), admits(&s, c.Admission.Kernel), remembers(s.Memory))
	case errors.Is(err, admin.ErrNotRunning):
		all = append(all, doctor.Finding{What: "node", Verdict: doctor.OK, Result: "does not run; the rights and limits below are those of this command"})
	default:
		all = append(all, doctor.Finding{What: "node", Verdict: doctor.Warn, Result: err.Error(), Remedy: "run this as root"})
	}
	return append(all, doctor.Examine(n, time.Now())...)
}

func running(s *nodeState) doctor.Finding {
	f := doctor.Finding{What: "node", Verdict: doctor.OK, Result: "runs, ready"}
	if s.Ready != "ok" {
		f.Verdict, f.Result, f.Remedy = doctor.Warn, "runs, not ready: "+s.Ready, "see spillway status"
	}
	return f
}

// admits says where the node judges packets, if they are to be judged.
func admits(s *nodeState, wanted string) doctor.Finding {
	f := doctor.Finding{What: "admission", Verdict: doctor.OK, Result: admissionLine(&s.Admission)}
	if s.Admission.Mode == admit.UserSpace && wanted != "off" {
		f.Verdict, f.Remedy = doctor.Warn, "mend that, or set admission.kernel to off if it cannot be"
	}
	return f
}

// nodeOf reads from a configuration what the doctor has to know.
func nodeOf(c *config.Config) doctor.Node {
	n := doctor.Node{GSO: c.Edge.HTTP3.GSO, Connections: admit.New(c.Admission, 1).State().ConnectionsLimit}
	https := listenAddress(c.Edge.Listen)
	n.TCP = append(n.TCP, https)
	if c.Edge.HTTP3.Enabled {
		n.UDP = append(n.UDP, https)
	}
	if c.Edge.HTTP != "off" {
		n.TCP = append(n.TCP, listenAddress(c.Edge.HTTP))
	}
	if c.Admission.Kernel != "off" {
		n.Pin = c.Admission.Pin
	}
	if c.Edge.State != "" {
		n.Folders = append(n.Folders, doctor.Folder{What: "state", Path: c.Edge.State})
	}
	if d := c.Cache.Disk; d.Path != "" {
		n.Folders = append(n.Folders, doctor.Folder{What: "cache", Path: d.Path, Size: d.Size})
	}
	if log := c.Edge.Log.Access; strings.HasPrefix(log, "/") {
		n.Folders = append(n.Folders, doctor.Folder{What: "log", Path: filepath.Dir(log)})
	}
	for _, p := range c.Edge.TLS.Pairs() {
		n.Certificates = append(n.Certificates, p.Cert)
	}
	return n
}

// listenAddress reads HOST:PORT, whose host may be empty or localhost.
func listenAddress(text string) netip.AddrPort {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a
	}
	a, _ := netip.ParseAddrPort("[::]" + text[strings.LastIndex(text, ":"):])
	return a
}
