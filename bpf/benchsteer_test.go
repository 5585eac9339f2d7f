package bpf

import (
	"net"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// BenchmarkSteer prints nanoseconds per datagram of the program that chooses a socket,
// by the kernel's statistics, whose clock is in it, and those of a program that leaves
// the choice to the kernel.
func BenchmarkSteer(b *testing.B) {
	a := needKernel(b, Options{})
	statistics, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skipf("statistics of programs: %v", err)
	}
	b.Cleanup(func() { statistics.Close() })
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SkReuseport, License: "Dual MIT/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { empty.Close() })

	steered, other := newSteered(b, nil), newSteered(b, empty)
	for slot, conn := range steered.conns {
		if err := a.SetSocket(slot, conn); err != nil {
			b.Fatal(err)
		}
	}
	if err := a.Steer(steered.conns[0]); err != nil {
		b.Fatal(err)
	}
	if err := a.Route(0, len(steered.conns)); err != nil {
		b.Fatal(err)
	}
	steered.program = programOf(b, a, admissionProgSteer)
	for name, datagram := range map[string][]byte{
		"established": short(a.ids.New(2), 64),
		"new":         long(version1, initial, chosen8, 1200),
	} {
		b.Run(name, func(b *testing.B) {
			best := [2]float64{1e9, 1e9}
			for b.Loop() {
				for i, s := range []*steeredGroup{steered, other} {
					best[i] = min(best[i], s.nsPerDatagram(b, datagram))
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(best[0], "ns/packet")
			b.ReportMetric(best[1], "ns/empty")
		})
	}
}

// A steeredGroup is four sockets with a program, and one that sends to them.
type steeredGroup struct {
	conns   []*net.UDPConn
	sender  net.Conn
	program *ebpf.Program
}

func newSteered(b *testing.B, program *ebpf.Program) *steeredGroup {
	b.Helper()
	s := &steeredGroup{program: program}
	address := "127.0.0.1:0"
	for range 4 {
		conn, err := listenShared(address)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		address = conn.LocalAddr().String()
		s.conns = append(s.conns, conn)
	}
	if program != nil {
		err := withDescriptor(s.conns[0], func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD())
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	sender, err := net.Dial("udp4", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { sender.Close() })
	s.sender = sender
	return s
}

func (s *steeredGroup) nsPerDatagram(b *testing.B, datagram []byte) float64 {
	b.Helper()
	before, err := s.program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	const datagrams, atOnce = 1000, 50 // less than a socket holds
	for sent := range datagrams {
		if _, err := s.sender.Write(datagram); err != nil {
			b.Fatal(err)
		}
		for arrived := 0; sent%atOnce == atOnce-1 && arrived < atOnce; runtime.Gosched() {
			for _, conn := range s.conns {
				for {
					got, err := receiveNow(conn)
					if err != nil {
						b.Fatal(err)
					}
					if !got {
						break
					}
					arrived++
				}
			}
		}
	}
	after, err := s.program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return float64((after.Runtime - before.Runtime).Nanoseconds()) / float64(after.RunCount-before.RunCount)
}
