package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// results are the figures that benchmarks reported, one for each round.
type results map[measure][]float64

// A measure is one unit of one benchmark.
type measure struct{ folder, benchmark, unit string }

// cores is what the testing package puts behind the name of a benchmark.
var cores = regexp.MustCompile(`-\d+$`)

// read takes what a run of benchmarks wrote. Lines that are no result are left out.
func (r results) read(folder, text string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := cores.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
		for pair := range slices.Chunk(fields[2:], 2) {
			if len(pair) < 2 {
				continue
			}
			if v, err := strconv.ParseFloat(pair[0], 64); err == nil {
				m := measure{folder, name, pair[1]}
				r[m] = append(r[m], v)
			}
		}
	}
}

// median is that of all rounds.
func (r results) median(folder, benchmark, unit string) (v float64, ok bool) {
	all := slices.Sorted(slices.Values(r[measure{folder, benchmark, unit}]))
	if len(all) == 0 {
		return 0, false
	}
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2, true
}

// judge says what the aim of a figure comes to, and whether v keeps to it. Without an
// aim it says nothing.
func (r results) judge(f figure, v float64) (text string, met bool) {
	times := f.shown.times
	switch {
	case f.aim == none:
		return "", true
	case f.aim.above != "":
		than, ok := r.median(f.folder, f.aim.above, f.unit)
		return "above " + number(than*times), ok && v > than
	case f.aim.beside != "":
		than, ok := r.median(f.folder, f.aim.beside, f.unit)
		return "at most " + number(than*times+f.aim.most), ok && v*times <= than*times+f.aim.most
	}
	return "at most " + number(f.aim.most), v*times <= f.aim.most
}

// write prints the table, of one folder or of all, and returns how many aims are
// missed.
func (r results) write(w io.Writer, folder string) (missed int) {
	fmt.Fprintf(w, "%-32s %10s  %-16s %-21s %s\n", "Parts by themselves, medians", "measured", "", "least to most", "aim")
	for _, f := range figures {
		if folder != "" && folder != f.folder {
			continue
		}
		v, ok := r.median(f.folder, f.benchmark, f.unit)
		if !ok {
			fmt.Fprintf(w, "%-32s not measured: %s has no benchmark %s that reports %s\n", f.about, f.folder, f.benchmark, f.unit)
			continue
		}
		text, met := r.judge(f, v)
		if !met {
			text += ", missed"
			missed++
		}
		all, times := r[measure{f.folder, f.benchmark, f.unit}], f.shown.times
		spread := fmt.Sprintf("%s to %s", number(slices.Min(all)*times), number(slices.Max(all)*times))
		line := fmt.Sprintf("%-32s %10s  %-16s %-21s %s", f.about, number(v*times), cmp.Or(f.shown.unit, f.unit), spread, text)
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	return missed
}

// number shows three digits, or all of those before the point.
func number(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
