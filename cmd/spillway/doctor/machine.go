package doctor

import (
	"os"
	"strconv"
	"strings"
)

// A machine is read through /proc and /sys.
type machine struct {
	root    string // in front of them; empty is this machine
	process int    // whose rights and limits count; zero is this one
}

// read returns the text of a file without the space around it, or an empty one.
func (m machine) read(file string) string {
	text, err := os.ReadFile(m.root + file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// sysctl returns a setting of the kernel, and false where it does not show.
func (m machine) sysctl(name string) (int64, bool) {
	value, err := strconv.ParseInt(m.read("/proc/sys/"+strings.ReplaceAll(name, ".", "/")), 10, 64)
	return value, err == nil
}

// of returns a file of the process that counts.
func (m machine) of(file string) string {
	if m.process == 0 {
		return m.read("/proc/self/" + file)
	}
	return m.read("/proc/" + strconv.Itoa(m.process) + "/" + file)
}

// who names the process that counts.
func (m machine) who() string {
	if m.process == 0 {
		return "this command"
	}
	return "the node"
}

// field returns what follows a name at the beginning of a line.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
