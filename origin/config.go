package origin

import (
	"time"

	"spillway/origin/limit"
	"spillway/origin/scale"
)

// Config describes one origin: a pool of servers that answer alike.
type Config struct {
	// Servers are the members of the pool: http://host:port, https://host:port,
	// h2c://host:port, which is HTTP/2 without TLS, or unix:/path, which is
	// HTTP/1.1 over a socket. A pool may mix them.
	Servers []string `koanf:"servers" format:"server" required:"true"`
	// Host is sent to the servers instead of the host that the client asked for,
	// and is the name that the certificate of an https server must have. Empty
	// forwards the client's, and asks for the certificate of the server's URL.
	Host string `koanf:"host"`
	// TLS says whom https servers must prove to be, and who the node is.
	TLS TLSConfig `koanf:"tls"`
	// HTTP2 is auto to use HTTP/2 with https servers that offer it, or off. h2c
	// servers speak nothing else. Empty means auto.
	HTTP2 string `koanf:"http2" default:"auto" enum:"auto,off"`
	// Resolve is how often the names of servers are looked up. When all addresses
	// are new, or one was missing from six answers in a row, connections to the
	// server are given up as they go idle, but not again for six answers. Zero looks
	// a name up for each new connection, and leaves those that there are alone.
	Resolve time.Duration `koanf:"resolve" unit:"duration" default:"10s"`
	// Limit bounds what the node learns about the capacity of the origin. The
	// word auto stands for the defaults.
	Limit limit.Config `koanf:"limit" unit:"auto"`
	Queue QueueConfig  `koanf:"queue"`
	// Protects names what the origin shares with functions, such as a database. Its
	// learned limit is never above the bound of that.
	Protects string `koanf:"protects" ref:"shared"`
	// ScaleOut says who is told when more servers are wanted.
	ScaleOut scale.Config `koanf:"scale_out"`

	ReadAhead ReadAheadConfig `koanf:"read_ahead"`
	// LongLived bounds the exchanges that outlive their permit: event streams,
	// upgrades, responses larger than the read-ahead whose visitors are slow, and
	// slow uploads that were too large to be kept. When it is reached, event
	// streams and upgrades are refused.
	LongLived int          `koanf:"long_lived" default:"1000" min:"1"`
	Health    HealthConfig `koanf:"health"`
	// SlowStart is how long a server that came back, or was added by a reload,
	// gets less than its share, which grows from a tenth. Zero gives it all at
	// once.
	SlowStart time.Duration `koanf:"slow_start" unit:"duration" default:"10s"`
	// RetryBudget bounds the requests that are sent a second time, as a share of
	// the requests of the last ten seconds; three a second are always allowed, of
	// which up to ten may come in one second. Zero sends nothing twice.
	RetryBudget float64 `koanf:"retry_budget" unit:"ratio" default:"20%" max:"100%"`
	// ConnectTimeout bounds connecting to a server, TLS included.
	ConnectTimeout time.Duration `koanf:"connect_timeout" unit:"duration" default:"2s" min:"1ms"`
	// Timeout bounds the wait for the response headers, retries included, each
	// wait of the node for the next bytes of a body that is no event stream, and
	// how long a response may hold its permit at the visitor's pace when no
	// long-lived place is free. At least 50 times the usual latency keeps abandoned
	// work from filling the origin unseen.
	Timeout time.Duration `koanf:"timeout" unit:"duration" default:"30s" min:"1ms"`
}

// TLSConfig describes how https servers and the node prove who they are. The
// files are read again when they change. There is no way to leave out the check
// of a server's certificate. The zero value trusts the authorities of the system
// and shows no certificate.
type TLSConfig struct {
	// CA is a PEM file of the authorities that may sign the servers' certificates.
	// They are trusted instead of those of the system, not beside them.
	CA string `koanf:"ca" format:"file"`
	// ServerName is asked for (SNI) and must stand in the certificate. Empty means
	// Host, or the host of the server's URL.
	ServerName string `koanf:"server_name"`
	// Cert and Key are PEM files of the certificate that the node shows to a
	// server that asks for one (mutual TLS). Both or none.
	Cert string `koanf:"cert" format:"file"`
	Key  string `koanf:"key" format:"file"`
}

// QueueConfig describes the short queue in front of the origin.
type QueueConfig struct {
	// Length is the number of waiting requests as a share of the learned limit.
	// Zero means no queue.
	Length float64 `koanf:"length" unit:"ratio" default:"50%" max:"1000%"`
	// Wait bounds the wait of a request that may spill. Zero, written auto, means
	// one baseline latency of the request's class.
	Wait time.Duration `koanf:"wait" unit:"duration,auto" default:"auto"`
	// UnsafeWait bounds the wait of a request that may not spill, or has nowhere to.
	// Where such requests queue without a pause it is one baseline latency.
	UnsafeWait time.Duration `koanf:"unsafe_wait" unit:"duration" default:"1s"`
}

// ReadAheadConfig bounds how far the node reads ahead of the visitor, so that a
// slow visitor does not hold the origin.
type ReadAheadConfig struct {
	// PerResponse is the most that is buffered of one response, in bytes.
	PerResponse int64 `koanf:"per_response" unit:"bytes" default:"1MiB" min:"4KiB"`
	// Total is the most that is buffered of all responses of the origin.
	Total int64 `koanf:"total" unit:"bytes" default:"64MiB" min:"64KiB"`
}

// HealthConfig describes how the node finds out whether a server is alive.
// Failing requests always count; probes are sent only when Path is set.
type HealthConfig struct {
	// Path is fetched from each server; any 2xx or 3xx is healthy. Empty means no
	// probes.
	Path string `koanf:"path" format:"path"`
	// Interval is the time between two probes of a server.
	Interval time.Duration `koanf:"interval" unit:"duration" default:"2s" min:"10ms"`
	// Timeout bounds one probe.
	Timeout time.Duration `koanf:"timeout" unit:"duration" default:"1s" min:"1ms"`
}
