package cache

import (
	"time"

	"spillway/edge/cache/disk"
)

// Config sets the size and the limits of a cache.
type Config struct {
	// Memory bounds the bytes that entries hold in memory, outside of the heap:
	// bodies, headers, keys and index. Bodies on their way in, and copies for slow
	// readers where no more may be pinned, may take a quarter of it on top. Zero
	// switches the cache off: nothing is stored, and identical requests are still
	// collapsed.
	Memory int64 `koanf:"memory" unit:"bytes" default:"512MiB"`
	// MaxObject is the largest body that is stored, and that requests share while
	// it arrives, in bytes. Of a larger object parts up to that many bytes are
	// stored. Nothing of 4 GiB or more is.
	MaxObject int64 `koanf:"max_object" unit:"bytes" default:"8MiB" min:"1KiB"`
	// ShareCookies lets answers that set a cookie be stored and shared, with the
	// cookie, if they state their freshness (RFC 9111 section 7.3). An origin must
	// then set none that is meant for one visitor.
	ShareCookies bool `koanf:"share_cookies"`
	// CollapseWaiters bounds how many requests wait for one fetch; what comes on
	// top goes down the ladder.
	CollapseWaiters int `koanf:"collapse_waiters" default:"10000" min:"1"`
	// CollapseWait bounds how long a request waits for the headers of a fetch in
	// flight before it goes down the ladder.
	CollapseWait time.Duration `koanf:"collapse_wait" unit:"duration" default:"5s" min:"10ms"`
	// StaleWait bounds how long a request waits for the header of a fetch while an
	// expired entry may answer when there is an error (stale-if-error): then it gets
	// that, and the fetch goes on and is stored. Zero waits as long as for any answer.
	StaleWait time.Duration `koanf:"stale_wait" unit:"duration" default:"1s"`
	Purge     PurgeConfig   `koanf:"purge"`
	// Disk is a larger tier below the memory.
	Disk disk.Config `koanf:"disk"`
}

// Purging returns who may purge, as the cache was configured.
func (c *Cache) Purging() PurgeConfig { return c.config.Purge }

// PurgeConfig says who may purge over the network, and who sees the tags.
type PurgeConfig struct {
	// From are the addresses from which the method PURGE is taken. Without any it is
	// refused; the operator purges over the admin listener.
	From []string `koanf:"from" format:"prefix"`
	// ShowTags leaves Surrogate-Key and Cache-Tag in responses, for caches between
	// the node and its visitors. Without it they end here: they tell strangers what
	// a site is made of, and nothing to browsers.
	ShowTags bool `koanf:"show_tags" default:"false"`
}
