package origin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// socketPathMost is what the system takes as the path of a socket, less the
// closing zero.
const socketPathMost = 107

// An address is where a server is.
type address struct {
	text   string // as configured; names the server in logs, metrics and commands
	scheme string // http, https, h2c or unix
	host   string // with the port, if one is given; empty with unix
	socket string // the path, with unix
}

func (a address) String() string { return a.text }

// url returns the scheme and the host by which a transport that knows only this
// server is asked for it.
func (a address) url() (scheme, host string) {
	switch a.scheme {
	case "https":
		return "https", a.host
	case "unix":
		return "http", "localhost"
	}
	return "http", a.host
}

// name returns the host name that has to be looked up, if there is one.
func (a address) name() (name string, ok bool) {
	if a.host == "" {
		return "", false
	}
	name = hostname(a.host)
	_, err := netip.ParseAddr(name)
	return name, err != nil
}

// CheckServer says what is wrong with the address of a server, or nil.
func CheckServer(text string) error {
	_, err := parseServer(text)
	return err
}

func parseServer(text string) (address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return parseSocket(text, path)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return address{}, errors.New("the server is no URL") // the error would repeat a password
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c" || u.Hostname() == "":
		return address{}, fmt.Errorf("%q is neither http, https nor h2c with a host, nor unix with a path", u.Redacted())
	case u.User != nil:
		return address{}, fmt.Errorf("%q has a password, which would end up in logs", u.Redacted())
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return address{}, fmt.Errorf("%q has more than scheme, host and port; paths are forwarded as they come", text)
	}
	if u.Port() != "" {
		if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
			return address{}, fmt.Errorf("%q is not a port from 1 to 65535", u.Port())
		}
	}
	return address{text: text, scheme: u.Scheme, host: u.Host}, nil
}

func parseSocket(text, path string) (address, error) {
	switch {
	case !filepath.IsAbs(path):
		return address{}, fmt.Errorf("%q is not an absolute path", path)
	case len(path) > socketPathMost:
		return address{}, fmt.Errorf("the path of the socket is longer than %d bytes", socketPathMost)
	}
	return address{text: text, scheme: "unix", socket: path}, nil
}

// hostname returns a host without its port and brackets.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
}
