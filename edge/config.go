package edge

import (
	"time"

	"spillway/edge/overflow"
)

// Config describes the node's face to its visitors.
type Config struct {
	// Listen is the address of HTTP/3, HTTP/2 and HTTP/1.1.
	Listen string `koanf:"listen" format:"address" default:":443"`
	// HTTP is the address that redirects plain HTTP to HTTPS. The word off
	// switches it off.
	HTTP string `koanf:"http" format:"address,off" default:":80"`
	// State is the folder in which the node keeps its keys. Empty keeps them in
	// memory only, so that a restart ends resumption.
	State string    `koanf:"state" format:"path" default:"/var/lib/spillway"`
	TLS   TLSConfig `koanf:"tls"`
	// TrustedProxies are the addresses whose X-Forwarded-For and Forwarded fields
	// are believed.
	TrustedProxies []string `koanf:"trusted_proxies" format:"prefix"`
	// Expose says how much of the reason stands in the Spillway header.
	Expose string `koanf:"expose" enum:"full,outcome,off" default:"outcome"`
	// AccessLog is the file that the access log is appended to; stdout and stderr
	// name the standard streams, off switches it off.
	AccessLog string         `koanf:"access_log" default:"stdout"`
	Timeouts  TimeoutsConfig `koanf:"timeouts"`
	Limits    LimitsConfig   `koanf:"limits"`
	HTTP3     HTTP3Config    `koanf:"http3"`
}

// TLSConfig says where certificates come from: files, or a self-signed one.
type TLSConfig struct {
	// Cert and Key are PEM files. They are read again when they change.
	Cert string `koanf:"cert" format:"file"`
	Key  string `koanf:"key" format:"file"`
	// SelfSigned makes a certificate for the hosts of all sites, for tests.
	SelfSigned bool `koanf:"self_signed" default:"false"`
}

// TimeoutsConfig bounds how long a visitor may keep the node waiting.
type TimeoutsConfig struct {
	// Header bounds the time to the end of a request's header.
	Header time.Duration `koanf:"header" unit:"duration" default:"10s" min:"10ms"`
	// Idle bounds the time without a request.
	Idle time.Duration `koanf:"idle" unit:"duration" default:"20s" min:"10ms"`
	// Stall bounds the time without progress in reading or writing a body; each
	// progress starts it anew.
	Stall time.Duration `koanf:"stall" unit:"duration" default:"30s" min:"10ms"`
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
	// KeptBodies bounds the request bodies that are kept in memory at once, so that
	// they can be sent again; beyond it a body is passed on as it comes, and its
	// request does not spill.
	KeptBodies int64 `koanf:"kept_bodies" unit:"bytes" default:"64MiB"`
	// Streams bounds the requests in flight on one connection.
	Streams int `koanf:"streams" default:"100" min:"1" max:"1000"`
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
	// Overflow says when and where requests leave the origin. Without it they
	// never do.
	Overflow *overflow.Config `koanf:"overflow"`
	// StaleOnOverload serves entries that expired less than this ago, before a
	// function is called. Zero means never.
	StaleOnOverload time.Duration `koanf:"stale_on_overload" unit:"duration"`
	// Cache says whether the route's responses are stored.
	Cache bool `koanf:"cache" default:"true"`
}

// MatchConfig selects requests.
type MatchConfig struct {
	// Path is a glob over the path as sent: * stands for any characters, slashes
	// included.
	Path string `koanf:"path" format:"glob" default:"/*"`
	// Methods restricts the match. Empty matches all.
	Methods []string `koanf:"methods" format:"method"`
}
