package edge

import (
	"time"

	"spillway/edge/cache"
	"spillway/edge/overflow"
	"spillway/edge/waiting"
)

// Config describes the node's face to its visitors.
type Config struct {
	// Listen is the address of HTTP/3, HTTP/2 and HTTP/1.1.
	Listen string `koanf:"listen" format:"address" default:":443"`
	// HTTP is the address that redirects plain HTTP to HTTPS. The word off
	// switches it off.
	HTTP string `koanf:"http" format:"address,off" default:":80"`
	// State is the folder in which the node keeps its keys, and what budgets have
	// spent. Empty keeps them in memory only, so that a restart ends resumption.
	State string    `koanf:"state" format:"path" default:"/var/lib/spillway"`
	TLS   TLSConfig `koanf:"tls"`
	// TrustedProxies are the addresses whose X-Forwarded-For and Forwarded fields
	// are believed; Forwarded only where there is no X-Forwarded-For.
	TrustedProxies []string `koanf:"trusted_proxies" format:"prefix"`
	// ProxyProtocol are the addresses whose connections begin with a PROXY header,
	// each of them: without one a connection is closed, because a client behind the
	// proxy could else write it. After the header the connection is the visitor's:
	// its fields count only if the address in the header is in TrustedProxies.
	ProxyProtocol []string `koanf:"proxy_protocol" format:"prefix"`
	// PriorityHeader names the field in which proxies in TrustedProxies say how
	// important a request is: 0, the most, to 7. It goes before the priority of the
	// route. From anybody else the field is removed. Empty is none.
	PriorityHeader string `koanf:"priority_header" format:"field"`
	// Expose says how much of the reason stands in the Spillway header.
	Expose   string         `koanf:"expose" enum:"full,outcome,off" default:"outcome"`
	Log      LogConfig      `koanf:"log"`
	Timeouts TimeoutsConfig `koanf:"timeouts"`
	Limits   LimitsConfig   `koanf:"limits"`
	Overflow OverflowConfig `koanf:"overflow"`
	HTTP1    HTTP1Config    `koanf:"http1"`
	HTTP2    HTTP2Config    `koanf:"http2"`
	HTTP3    HTTP3Config    `koanf:"http3"`
	// ErrorPages are files that are sent instead of the node's own few words, by
	// status (404) or class (5xx). They are read when the configuration is loaded.
	ErrorPages map[string]string `koanf:"error_pages" format:"file"`
}

// TLSConfig says where certificates come from: files, or a self-signed one.
type TLSConfig struct {
	// Cert and Key are PEM files. They are read again when they change. They are
	// shown to visitors who ask for no name, or for one that no other covers.
	Cert string `koanf:"cert" format:"file"`
	Key  string `koanf:"key" format:"file"`
	// Certificates are further ones. A visitor gets the one for the name that it
	// asks for: exact names first, then *.name, then Cert, or the first of these
	// if there is no Cert.
	Certificates []CertificateConfig `koanf:"certificates"`
	// SelfSigned makes a certificate for the hosts of all sites, for tests.
	SelfSigned bool `koanf:"self_signed" default:"false"`
	// Secret is env:NAME or file:PATH, at least 32 bytes that several nodes share.
	// Their keys for tickets and address tokens are derived from it, so that a
	// visitor of one resumes at the others. Empty makes keys of the node's own.
	Secret string    `koanf:"secret" format:"secret"`
	ECH    ECHConfig `koanf:"ech"`
}

// CertificateConfig names a certificate and its key, PEM files.
type CertificateConfig struct {
	Cert string `koanf:"cert" format:"file" required:"true"`
	Key  string `koanf:"key" format:"file" required:"true"`
}

// ECHConfig switches Encrypted Client Hello on (RFC 9849): the names that
// visitors ask for are not readable on the network.
type ECHConfig struct {
	// PublicName is the name that is readable instead. Empty switches it off.
	PublicName string `koanf:"public_name"`
	// Keys is a PEM file (RFC 9934), which the node makes if it is not there and
	// reads again when it changes. Empty means ech.pem in the state folder.
	Keys string `koanf:"keys" format:"path"`
}

// Pairs returns the files of all certificates, the default one first. A
// self-signed certificate is not among them.
func (c TLSConfig) Pairs() []CertificateConfig {
	if c.Cert == "" && c.Key == "" {
		return c.Certificates
	}
	return append([]CertificateConfig{{Cert: c.Cert, Key: c.Key}}, c.Certificates...)
}

// LogConfig says where requests are noted, and what of the visitor.
type LogConfig struct {
	// Access is the file that the access log is appended to; stdout and stderr
	// name the standard streams, off switches it off. Empty means stdout.
	Access string `koanf:"access" default:"stdout"`
	// Client says how a line names the visitor: the address in full, the network
	// that it is in, a hash that holds for a day, or not at all. Empty means the
	// network.
	Client string `koanf:"client" enum:"full,prefix,hash,none" default:"prefix"`
	// Recorder is the folder into which the last minute of decisions is written when
	// requests begin to be shed. Empty means flights in the state folder, the word off
	// nowhere.
	Recorder string `koanf:"recorder" format:"path,off"`
}

// TimeoutsConfig bounds how long a visitor may keep the node waiting.
type TimeoutsConfig struct {
	// Header bounds the time to the end of a request's header.
	Header time.Duration `koanf:"header" unit:"duration" default:"10s" min:"10ms"`
	// Idle bounds the time without a request.
	Idle time.Duration `koanf:"idle" unit:"duration" default:"20s" min:"10ms"`
	// Stall bounds how far a visitor may fall behind with a body: the time without
	// progress, and how late the least rate makes it: 1 KiB/s for what it sends,
	// 8 KiB/s for what it takes.
	Stall time.Duration `koanf:"stall" unit:"duration" default:"30s" min:"10ms"`
	// Tunnel bounds the time without a byte on a WebSocket, and on a stream of gRPC
	// from the visitor.
	Tunnel time.Duration `koanf:"tunnel" unit:"duration" default:"10m" min:"1s"`
	// Drain bounds the time that requests in flight have to finish when the node
	// stops.
	Drain time.Duration `koanf:"drain" unit:"duration" default:"30s"`
}

// LimitsConfig bounds what one visitor may make the node hold.
type LimitsConfig struct {
	// HeaderBytes bounds the header of a request.
	HeaderBytes int64 `koanf:"header_bytes" unit:"bytes" default:"32KiB" min:"1KiB" max:"1MiB"`
	// BodyBytes bounds the body of a request.
	BodyBytes int64 `koanf:"body_bytes" unit:"bytes" default:"100MiB" min:"1KiB"`
	// Streams bounds the requests in flight on one connection.
	Streams int `koanf:"streams" default:"100" min:"1" max:"1000"`
}

// OverflowConfig bounds what the node holds so that requests can go elsewhere.
type OverflowConfig struct {
	// Buffer bounds the request bodies that are in memory at once while their
	// requests wait, so that they can be sent again. When it is full a request may
	// still wait for the origin, but its body is passed on as it comes, and the
	// request does not move to a function.
	Buffer int64 `koanf:"buffer" unit:"bytes" default:"64MiB"`
}

// HTTP1Config is how HTTP/1.1 is served.
type HTTP1Config struct {
	// FastPath answers hits before net/http sees the request. Off has it see all of
	// them; the answers are the same.
	FastPath string `koanf:"fast_path" enum:"on,off" default:"on"`
}

// HTTP2Config is how HTTP/2 is served.
type HTTP2Config struct {
	// FastPath answers hits before the HTTP/2 library sees the request. Off has it see
	// all of them; the answers are the same.
	FastPath string `koanf:"fast_path" enum:"on,off" default:"on"`
}

// HTTP3Config switches parts of QUIC off where a network or a kernel breaks
// them.
type HTTP3Config struct {
	// Enabled offers HTTP/3. When false, answers carry Alt-Svc: clear.
	Enabled bool `koanf:"enabled" default:"true"`
	// GSO sends many packets by one system call.
	GSO bool `koanf:"gso" default:"true"`
	// ECN marks packets, so that networks can signal congestion without loss.
	ECN bool `koanf:"ecn" default:"true"`
	// FastPath answers hits before the HTTP/3 library sees the request. Off has it see
	// all of them; the answers are the same.
	FastPath string `koanf:"fast_path" enum:"on,off" default:"on"`
	// AltSvcMaxAge is how long browsers remember that the node speaks HTTP/3.
	AltSvcMaxAge time.Duration `koanf:"alt_svc_max_age" unit:"duration" default:"1h" min:"1s"`
}

// SiteConfig describes what answers under a set of hosts.
type SiteConfig struct {
	// Hosts are names, or *.name for all names one level below. The word default
	// in quotes stands for every other host.
	Hosts  []string      `koanf:"hosts" required:"true"`
	Routes []RouteConfig `koanf:"routes" required:"true"`
}

// RouteConfig says where the requests that match go. The first match counts.
type RouteConfig struct {
	Match MatchConfig `koanf:"match"`
	// Origin names the origin that serves the route.
	Origin string `koanf:"origin" ref:"origins" required:"true"`
	// Priority says who goes first when requests wait for the origin: 0 is the most
	// important, 7 the least.
	Priority int `koanf:"priority" default:"4" min:"0" max:"7"`
	// Deadline is how long requests may take. One that the origin would probably
	// answer later goes to a function at once, if it may. Zero is none.
	Deadline time.Duration `koanf:"deadline" unit:"duration"`
	// Overflow says when and where requests leave the origin. Without it they
	// never do.
	Overflow *overflow.Config `koanf:"overflow"`
	// StaleOnOverload serves entries that expired less than this ago, before a
	// function is called. Zero means never.
	StaleOnOverload time.Duration `koanf:"stale_on_overload" unit:"duration"`
	// Waiting sends page visits to a waiting room when everything else is spent.
	// Nil does so only if a budget of the route's functions says wait.
	Waiting *waiting.Config `koanf:"waiting"`
	// ErrorPages are the route's own, and go before those of the node.
	ErrorPages map[string]string `koanf:"error_pages" format:"file"`
	// Cache says what is stored of the route, and under which keys. The zero value is
	// RFC 9111 as it stands.
	Cache cache.PolicyConfig `koanf:"cache" switch:"off"`
	// EarlyHints says what browsers are told while a page is fetched anew: what the
	// stored one has to load early (its Link fields), over HTTP/2 and HTTP/3, or
	// nothing. Empty is stored.
	EarlyHints string `koanf:"early_hints" enum:"off,stored" default:"stored"`
}

// MatchConfig selects requests.
type MatchConfig struct {
	// Path is a glob over the path as sent: * stands for any characters, slashes
	// included.
	Path string `koanf:"path" format:"glob" default:"/*"`
	// Methods restricts the match. Empty matches all.
	Methods []string `koanf:"methods" format:"method"`
}
