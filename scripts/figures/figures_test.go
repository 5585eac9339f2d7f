package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sample = `goos: linux
pkg: spillway/edge/cache
BenchmarkMillionSet-2   	     100	      1300 ns/op	      1250.5 cpu-ns/op	         0.998 peak/configured	       0 B/op
BenchmarkMillionCollect 	     100	      6500000 ns/op	         9.5 cpu-ms-more
BenchmarkHitRatio/spillway/scans-16	1	 9 ns/op	 .614 hits/request
BenchmarkHitRatio/otter/scans-16	1	 9 ns/op	 .583 hits/request
BenchmarkBroken-2
PASS
ok  	spillway/edge/cache	1.2s
`

func TestRead(t *testing.T) {
	r := results{}
	r.read(cacheFolder, sample)
	r.read(cacheFolder, "BenchmarkMillionSet-2 1 2 ns/op 1.002 peak/configured\nBenchmarkMillionSet-2 1 2 ns/op 1.3 peak/configured\n")
	f := func(want float64, benchmark, unit string) {
		t.Helper()
		if got, ok := r.median(cacheFolder, benchmark, unit); !ok || got != want {
			t.Errorf("%s, %s: %v %v, want %v", benchmark, unit, got, ok, want)
		}
	}
	f(1.002, "MillionSet", "peak/configured")
	f(1250.5, "MillionSet", "cpu-ns/op")
	f(9.5, "MillionCollect", "cpu-ms-more")
	f(.614, "HitRatio/spillway/scans", "hits/request")
	if v, ok := r.median(cacheFolder, "Broken", "ns/op"); ok {
		t.Errorf("a line without figures is read as %v", v)
	}
}

func TestTable(t *testing.T) {
	r := results{}
	r.read(cacheFolder, sample)
	r.read(edgeFolder, "BenchmarkHit 1 1 ns/op 12 allocs/op\nBenchmarkBareHit 1 1 ns/op 7 allocs/op\n")
	var out bytes.Buffer
	if missed := r.write(&out, ""); missed != 2 {
		t.Errorf("%d aims are missed, want 2: the collection and the allocations", missed)
	}
	for _, want := range []string{"6.500  ms               6.500 to 6.500        at most 5.000, missed", "above 0.583\n", "at most 11.0, missed", "disk: put of 100 KiB             not measured"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

func TestTableOfOneFolder(t *testing.T) {
	r := results{}
	r.read(bpfFolder, "BenchmarkPacket/established-2 1 0 ns/op 26 ns/packet 1.7 times-empty\n")
	var out bytes.Buffer
	if missed := r.write(&out, bpfFolder); missed != 1 {
		t.Errorf("%d aims are missed, want that of a packet", missed)
	}
	if text := out.String(); strings.Contains(text, cacheFolder) || strings.Contains(text, "disk") || !strings.Contains(text, "at most 25.0, missed") {
		t.Errorf("got\n%s", text)
	}
}

// What is compared with must be measured, too.
func TestGroups(t *testing.T) {
	all := groups()
	for _, f := range figures {
		for _, name := range []string{f.benchmark, f.aim.above, f.aim.beside} {
			top, _, _ := strings.Cut(name, "/")
			if top != "" && !slices.ContainsFunc(all, func(g group) bool { return g.folder == f.folder && slices.Contains(g.benchmarks, top) }) {
				t.Errorf("%s of %s is not run", name, f.folder)
			}
		}
	}
	for i, g := range all {
		if slices.ContainsFunc(all[:i], func(o group) bool { return o.folder == g.folder }) {
			t.Errorf("%s is built twice", g.folder)
		}
	}
}

// A benchmark that was renamed would go unmeasured. The packages have all that is
// named here.
func TestBenchmarksExist(t *testing.T) {
	for _, g := range groups() {
		folder := filepath.Join("../..", g.folder)
		text, err := exec.Command("grep", "-rhoE", `^func Benchmark\w+`, folder, "--include=*_test.go").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range g.benchmarks {
			if !slices.Contains(strings.Fields(string(text)), "Benchmark"+name) {
				t.Errorf("%s has no %s", g.folder, name)
			}
		}
	}
}
