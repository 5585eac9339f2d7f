package cache

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A clock tells how long ago something was, also if another process has written
// down when. As long as the machine runs it goes by the time since its start, which
// nobody sets; across a restart of the machine by the time of day.
type clock struct {
	boot  string // what tells this run of the machine from others; empty when unknown
	start time.Time
	// Between these it had been running at start: a moment is told by the
	// first and compared by the second. So nothing seems younger than it is.
	least, most time.Duration
}

// A moment is an instant as clocks of other processes understand it.
type moment struct {
	boot   string
	uptime time.Duration
	day    time.Time
}

func newClock() clock {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	least, known := uptime()
	c := clock{start: time.Now()}
	if most, _ := uptime(); err == nil && known {
		c.boot, c.least, c.most = strings.TrimSpace(string(id)), least, most
	}
	return c
}

// uptime is how long the machine has been running, asleep or not.
func uptime() (d time.Duration, known bool) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano()), err == nil
}

// moment describes an instant of this process.
func (c *clock) moment(t time.Time) moment {
	return moment{c.boot, c.least + t.Sub(c.start), t.Round(0)}
}

// since returns how long ago a moment was. It is not ok where the moment is to come:
// the clock was set back, and nobody knows how long ago it was.
func (c *clock) since(m moment, now time.Time) (d time.Duration, ok bool) {
	if d = now.Round(0).Sub(m.day); m.boot == c.boot && c.boot != "" {
		d = c.most + now.Sub(c.start) - m.uptime
	}
	return max(d, 0), d >= 0
}
