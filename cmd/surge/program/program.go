// Package program knows the programs that the test bench runs as processes of
// their own: where they are, where they listen, whether they answer, and what CPU time
// they take.
//
// Who starts a process ends it. It reads /proc, and so works on Linux only. A
// process that is gone is an error, not zero.
package program

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Path finds a program that was built beside this one.
func Path(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing: run make build first", path)
	}
	return path, nil
}

// listening is how our programs say where they listen: in a line of text, or in
// their log.
var listening = regexp.MustCompile(`(?:listening on (?:http://)?|listen="?\[)([\d.]+:\d+)`)

// Address returns where a program listens, once its output says so.
func Address(output string) (addr string, ok bool) {
	m := listening.FindStringSubmatch(output)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// CPU returns the CPU time that a process has used, with that of its children,
// living ones included. It is exact to a hundredth of a second.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may itself hold spaces.
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0, fmt.Errorf("read the state of process %d", pid)
	}
	var ticks int64
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the state of process %d: %w", pid, err)
		}
		ticks += n
	}
	used := time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
	for _, child := range children(pid) {
		if more, err := CPU(child); err == nil { // else it has just ended
			used += more
		}
	}
	return used, nil
}

func children(pid int) []int {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, path := range paths {
		b, _ := os.ReadFile(path)
		for field := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(field); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}
