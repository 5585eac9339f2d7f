package flood

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A usage is what became of the time of one core, in hundredths of a second.
type usage struct{ all, softirq, idle int64 }

// coreUsage reads how a core was used since the machine was started.
func coreUsage(core int) (usage, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return usage{}, err
	}
	return parseUsage(b, core)
}

// parseUsage reads the line of a core: user, nice, system, idle, iowait, irq,
// softirq, steal (proc(5)).
func parseUsage(stat []byte, core int) (usage, error) {
	name := "cpu" + strconv.Itoa(core)
	for lines := bufio.NewScanner(bytes.NewReader(stat)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 9 || fields[0] != name {
			continue
		}
		var u usage
		for i, field := range fields[1:9] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return u, fmt.Errorf("read the use of core %d: %w", core, err)
			}
			u.all += ticks
			switch i {
			case 3, 4:
				u.idle += ticks
			case 5, 6:
				u.softirq += ticks
			}
		}
		return u, nil
	}
	return usage{}, fmt.Errorf("read the use of core %d: there is none", core)
}

// since returns shares of the time between two readings.
func (u usage) since(before usage) (softirq, idle float64) {
	all := float64(max(u.all-before.all, 1))
	return float64(u.softirq-before.softirq) / all, float64(u.idle-before.idle) / all
}

// share is how much of a core some time is.
func share(used, of time.Duration) float64 { return used.Seconds() / of.Seconds() }
