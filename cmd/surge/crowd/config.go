package crowd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"spillway/cmd/surge/unit"
)

// The protocols a crowd can speak.
const (
	H1 = "h1"
	H2 = "h2"
	H3 = "h3"
)

// How visitors come by their connections.
const (
	PerVisitor = "per-visitor" // everybody dials, as people who never came before do
	Pooled     = "pooled"      // visitors behind one address share its connections
)

// Config says what crowd comes, from where, and what it asks for. The zero value
// of a field with a default means the default.
type Config struct {
	// URLs are what every visitor asks for. {visitor} stands for the visitor's
	// number and {seed} for Seed. They must name one scheme, host and port.
	URLs []string

	// Connect is the host:port dialed instead of the one in the URLs.
	Connect string

	Protocol    string  // H1, H2 or H3 (default)
	Connections string  // PerVisitor (default) or Pooled
	Addresses   Profile // CarrierNAT or Single (default)
	// OwnSockets gives every visitor over HTTP/3 a socket of its own. It costs more
	// than one socket for each address, and lets a relay tell visitors apart.
	OwnSockets bool

	// Phases are the arrivals; see ParsePhases. Capacity is the rate that a
	// multiple such as 10x refers to; it is only reported.
	Phases   []Phase
	Capacity float64

	// Timeout is the patience of a visitor, from the intended time of its
	// arrival to the last byte of each answer. Default 5s.
	Timeout time.Duration

	// MaxInFlight protects this machine: a visitor that arrives while as many
	// are present is not sent, and counts as an error. Default 4096.
	MaxInFlight int

	Seed uint64

	Insecure bool           // do not verify the certificate
	RootCAs  *x509.CertPool // nil: the system's
	Resume   bool           // let visitors resume each other's TLS sessions

	// SlowShare of the visitors read their answers at SlowRate bytes per second.
	SlowShare float64
	SlowRate  int64

	// Hold event streams of HoldURL are opened at the start and kept open.
	Hold    int
	HoldURL string
}

func (c Config) withDefaults() Config {
	if c.Protocol == "" {
		c.Protocol = H3
	}
	if c.Connections == "" {
		c.Connections = PerVisitor
	}
	if c.Addresses == "" {
		c.Addresses = Single
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 4096
	}
	return c
}

func (c Config) validate() error {
	switch {
	case len(c.URLs) == 0:
		return errors.New("no URL: name at least one")
	case len(c.Phases) == 0:
		return errors.New("no phases: name at least one, such as 10x:20s")
	case c.Protocol != H1 && c.Protocol != H2 && c.Protocol != H3:
		return fmt.Errorf("protocol %q: must be h1, h2 or h3", c.Protocol)
	case c.Connections != PerVisitor && c.Connections != Pooled:
		return fmt.Errorf("connections %q: must be per-visitor or pooled", c.Connections)
	case c.Addresses != CarrierNAT && c.Addresses != Single:
		return fmt.Errorf("addresses %q: must be carrier-nat or single", c.Addresses)
	case c.Timeout < 0:
		return fmt.Errorf("timeout %s: must be positive", c.Timeout)
	case c.MaxInFlight < 0:
		return fmt.Errorf("max in flight %d: must be positive", c.MaxInFlight)
	case c.SlowShare < 0 || c.SlowShare > 1:
		return fmt.Errorf("slow share %g: must be between 0 and 100%%", c.SlowShare)
	case c.SlowShare > 0 && c.SlowRate <= 0:
		return errors.New("slow visitors need a rate, such as 16KiB")
	case c.Hold < 0:
		return fmt.Errorf("hold %d: must be positive", c.Hold)
	case c.Hold > 0 && c.HoldURL == "":
		return errors.New("event streams to hold need a URL")
	}
	return nil
}

// ParseSlow reads which share of the visitors is slow, and how many bytes a second
// they read: 5%:16KiB.
func ParseSlow(s string) (share float64, rate int64, err error) {
	var (
		of                  unit.Share
		bytes               unit.Bytes
		first, second, both = strings.Cut(s, ":")
	)
	if !both {
		return 0, 0, fmt.Errorf("slow visitors %q: must be SHARE:RATE, such as 5%%:16KiB", s)
	}
	if err := errors.Join(of.Set(first), bytes.Set(second)); err != nil {
		return 0, 0, err
	}
	if bytes == 0 {
		return 0, 0, errors.New("slow visitors who read nothing: the rate must be above 0")
	}
	return float64(of), int64(bytes), nil
}
