package main

import "strings"

// A figure is what one benchmark reports in one unit, and what it should be.
type figure struct {
	about     string
	folder    string
	benchmark string // without the word Benchmark and the number of cores
	unit      string
	shown     shown
	aim       aim
}

// A shown is how a figure is written: times a factor, in another unit.
type shown struct {
	times float64
	unit  string // empty is that of the benchmark
}

var (
	asIs = shown{times: 1}
	inMs = shown{times: 1e-6, unit: "ms"}
)

// An aim is what a figure should be: at most a number, or that much more than
// another benchmark reports in the same unit, or above what another reports.
type aim struct {
	most          float64
	beside, above string
}

// none is the aim of what is there to be compared with.
var none aim

func atMost(v float64) aim                       { return aim{most: v} }
func atMostMore(benchmark string, v float64) aim { return aim{most: v, beside: benchmark} }
func above(benchmark string) aim                 { return aim{above: benchmark} }

const (
	cacheFolder = "edge/cache"
	diskFolder  = "edge/cache/disk"
	edgeFolder  = "edge"
	bpfFolder   = "bpf"
)

// figures are those of the table, in its order.
var figures = []figure{
	{"hit ratio, Zipf .9", cacheFolder, "HitRatio/spillway", "hits/request", asIs, above("HitRatio/otter")},
	{"  otter", cacheFolder, "HitRatio/otter", "hits/request", asIs, none},
	{"  LRU", cacheFolder, "HitRatio/lru", "hits/request", asIs, none},
	{"the same with scans", cacheFolder, "HitRatio/spillway/scans", "hits/request", asIs, above("HitRatio/otter/scans")},
	{"  otter", cacheFolder, "HitRatio/otter/scans", "hits/request", asIs, none},
	{"  LRU", cacheFolder, "HitRatio/lru/scans", "hits/request", asIs, none},

	{"a million of 1 KiB: get", cacheFolder, "MillionGet", "cpu-ns/op", asIs, none},
	{"  set into a full store", cacheFolder, "MillionSet", "cpu-ns/op", asIs, none},
	{"  peak of memory under churn", cacheFolder, "MillionSet", "peak/configured", asIs, atMost(1.25)},
	{"  the same, sizes mixed", cacheFolder, "MixedSet", "peak/configured", asIs, atMost(1.25)},
	{"  a forced collection", cacheFolder, "MillionCollect", "ns/op", inMs, atMost(5)},
	{"  CPU of it, beyond that of an empty store", cacheFolder, "MillionCollect", "cpu-ms-more", asIs, none},
	{"get of 1 KiB", cacheFolder, "GetBySize/1KiB", "cpu-ns/op", asIs, none},
	{"get of 100 KiB, no copy", cacheFolder, "GetBySize/100KiB", "cpu-ns/op", asIs, none},
	{"  bytes on the heap", cacheFolder, "GetBySize/100KiB", "B/op", asIs, atMost(1024)},
	{"purge of 10,000 of a tag", cacheFolder, "PurgeTag", "ns/op", inMs, atMost(10)},
	{"  CPU of it", cacheFolder, "PurgeTag", "cpu-ns/op", inMs, none},
	{"  softly", cacheFolder, "PurgeTagSoftly", "ns/op", inMs, atMost(10)},
	{"  CPU of it", cacheFolder, "PurgeTagSoftly", "cpu-ns/op", inMs, none},

	{"allocations of a hit", edgeFolder, "Hit", "allocs/op", asIs, atMostMore("BareHit", 4)},
	{"  of a bare handler", edgeFolder, "BareHit", "allocs/op", asIs, none},

	{"packet of a connection", bpfFolder, "Packet/established", "ns/packet", asIs, atMost(25)},
	{"  beside an empty program", bpfFolder, "Packet/established", "times-empty", asIs, none},
	{"packet that begins one, 1 source", bpfFolder, "Packet/new/sources=1", "ns/packet", asIs, none},
	{"  10,000 sources", bpfFolder, "Packet/new/sources=10000", "ns/packet", asIs, none},
	{"  a million", bpfFolder, "Packet/new/sources=1000000", "ns/packet", asIs, none},
	{"  beside an empty program", bpfFolder, "Packet/new/sources=1000000", "times-empty", asIs, none},
	{"dropped packet, 1 source", bpfFolder, "Packet/drop/sources=1", "ns/packet", asIs, none},
	{"  10,000 sources", bpfFolder, "Packet/drop/sources=10000", "ns/packet", asIs, none},
	{"  a million", bpfFolder, "Packet/drop/sources=1000000", "ns/packet", asIs, atMost(45)},
	{"  beside an empty program", bpfFolder, "Packet/drop/sources=1000000", "times-empty", asIs, none},
	{"  an empty program, a million", bpfFolder, "Packet/drop/sources=1000000", "ns/empty", asIs, none},
	{"maps of the kernel", bpfFolder, "Maps", "MiB", asIs, atMost(4)},

	{"disk: put of 100 KiB", diskFolder, "Put/100KiB", "cpu-ns/op", asIs, none},
	{"disk: get of 100 KiB", diskFolder, "Get/100KiB", "cpu-ns/op", asIs, none},
	{"disk: written for each byte", diskFolder, "Turnover/100KiB", "written/asked", asIs, atMost(1.1)},
	{"  with bodies of 1 KiB", diskFolder, "Turnover/1KiB", "written/asked", asIs, atMost(1.1)},
}

// A group is the benchmarks of one folder, each named once.
type group struct {
	folder     string
	benchmarks []string
}

// groups are what has to be run for the figures.
func groups() []group {
	var all []group
	seen := map[string]bool{}
	for _, f := range figures {
		name, _, _ := strings.Cut(f.benchmark, "/")
		if seen[f.folder+name] {
			continue
		}
		seen[f.folder+name] = true
		if n := len(all); n == 0 || all[n-1].folder != f.folder {
			all = append(all, group{folder: f.folder})
		}
		last := &all[len(all)-1]
		last.benchmarks = append(last.benchmarks, name)
	}
	return all
}
