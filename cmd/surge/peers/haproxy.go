package peers

import (
	"fmt"
	"os"
	"path/filepath"

	"spillway/cmd/surge/program"
)

// prepareHAProxy sets up one thread with a cache.
func prepareHAProxy(b *bed, _ *contender, folder string, s *server) (program.Spec, error) {
	path, args, err := b.root.find("haproxy")
	if err != nil {
		return program.Spec{}, err
	}
	if s.address, err = program.FreeAddress(); err != nil {
		return program.Spec{}, err
	}
	config := filepath.Join(folder, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(haproxyConfig(s.address, b.certificate, b.source.Address())), 0o600); err != nil {
		return program.Spec{}, err
	}
	return program.Spec{Path: path, Args: append(args, "-db", "-f", config)}, nil
}

// haproxyConfig turns HTTP/3 on even where the library lacks what HAProxy would like
// of it (limited-quic), which Debian's does. It keeps no log: one in a file would be
// another program's.
func haproxyConfig(address, certificate, origin string) string {
	return fmt.Sprintf(`global
	limited-quic
	nbthread 1
	maxconn 8000
cache hits
	total-max-size 64
	max-object-size 200000
	max-age 3600
defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
frontend visitors
	bind %[1]s ssl crt %[2]s alpn h2,http/1.1 ssl-min-ver TLSv1.3 allow-0rtt
	bind quic4@%[1]s ssl crt %[2]s alpn h3 allow-0rtt
	http-request cache-use hits
	http-response cache-store hits
	default_backend app
backend app
	server app %[3]s
`, address, certificate, origin)
}
