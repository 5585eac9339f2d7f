package bpf

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// How often the kernel runs a program in one call: shorter than a time slice, and
// before that until its maps are full.
const (
	benchRepeat = 200_000
	benchFill   = 4_000_000
)

// compareNS returns nanoseconds per run of two programs on a frame, in turns, the best
// of many tries: what others do on the machine only adds.
func compareNS(b *testing.B, program, other *ebpf.Program, frame []byte) (ns, otherNS float64) {
	b.Helper()
	best := [2]time.Duration{1 << 62, 1 << 62}
	for b.Loop() {
		for i, p := range []*ebpf.Program{program, other} {
			_, d, err := p.Benchmark(frame, benchRepeat, nil)
			if err != nil {
				b.Fatal(err)
			}
			best[i] = min(best[i], d)
		}
	}
	return float64(best[0].Nanoseconds()), float64(best[1].Nanoseconds())
}

// forward is a program that gives each run another source address and goes on to
// the program with that index: the cost of it stands under every figure.
func forward(b *testing.B, to *ebpf.Program, sources int) *ebpf.Program {
	b.Helper()
	programs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { programs.Close() })
	if err := programs.Put(uint32(0), uint32(to.FD())); err != nil {
		b.Fatal(err)
	}
	const source = 14 + 12
	spec := passEverything.Copy()
	spec.Instructions = asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetPrandomU32.Call(),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, source+4),
		asm.JGT.Reg(asm.R4, asm.R3, "next"),
		asm.Mod.Imm(asm.R0, int32(sources)),
		asm.StoreMem(asm.R2, source, asm.R0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("next"),
		asm.LoadMapPtr(asm.R2, programs.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		b.Fatalf("%+v", err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

// passEverything is the least that a program can do.
var passEverything = &ebpf.ProgramSpec{
	Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual MIT/GPL",
	Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
}

func emptyProgram(b *testing.B) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(passEverything)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}

// BenchmarkPacket prints nanoseconds per packet, by the kernel's own count, and how
// often that is what an empty program takes in the same run. Where sources change, a
// program that changes them stands in front of both.
func BenchmarkPacket(b *testing.B) {
	a := needKernel(b, Options{})
	program := programOf(b, a, admissionProgAdmitXdp)
	empty := emptyProgram(b)
	own := a.ids.New(1)
	first := udp4(long(version1, initial, chosen8, 1200))
	strict := configured(Guarded)
	strict.Source = Limit{PerSecond: 0.01, Burst: 0}
	strict.QUICTrickle, strict.TCPTrickle = Limit{PerSecond: 1, Burst: 1}, Limit{PerSecond: 1, Burst: 1}
	strict.Sample = 1024
	generous := configured(Guarded)
	generous.Source = Limit{PerSecond: 1e9, Burst: 1e6}
	generous.QUIC = Limit{PerSecond: 1e9, Burst: 1e6}
	generous.Sample = 1024
	for _, c := range []struct {
		name    string
		frame   []byte
		config  Config
		sources int
	}{
		{"other", ipv4(client4, protocolUDP, 0, 0, udp(53, make([]byte, 64))), generous, 0},
		{"established-tcp", ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, ackFlag)), generous, 0},
		{"established", udp4(short(own, 64)), generous, 0},
		{"established-ipv6", udp6(short(own, 64)), generous, 0},
		{"sibling", first, generous, 0},
		{"new", first, generous, 1},
		{"new", first, generous, 10_000},
		{"new", first, generous, 1_000_000},
		{"syn", ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag)), generous, 1_000_000},
		{"drop", first, strict, 1},
		{"drop", first, strict, 10_000},
		{"drop", first, strict, 1_000_000},
		{"drop-syn", ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, synFlag)), strict, 1_000_000},
	} {
		name := c.name
		if c.sources > 0 {
			name = fmt.Sprintf("%s/sources=%d", c.name, c.sources)
		}
		b.Run(name, func(b *testing.B) {
			c.config.Stale = maxSpan
			if err := a.Configure(c.config); err != nil {
				b.Fatal(err)
			}
			run, base := program, empty
			if c.sources > 0 {
				run, base = forward(b, program, c.sources), forward(b, empty, c.sources)
			}
			if _, _, err := run.Benchmark(c.frame, benchFill, nil); err != nil {
				b.Fatal(err)
			}
			var ns, floor float64
			counted := judged(b, a, func() { ns, floor = compareNS(b, run, base, c.frame) })
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ns, "ns/packet")
			b.ReportMetric(floor, "ns/empty")
			b.ReportMetric(ns/floor, "times-empty")
			b.Log(counted)
		})
	}
}

// BenchmarkMaps prints how much memory the maps take with all rules that there may be.
func BenchmarkMaps(b *testing.B) {
	a := needKernel(b, Options{})
	bytes := fullMapBytes(b, a)
	for b.Loop() {
		if _, err := a.MapBytes(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(bytes)/(1<<20), "MiB")
}
