package doctor

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newMachine makes a machine of files, given as path and text in turn. Of the node's
// process 7 they are under /proc/7.
func newMachine(t *testing.T, process int, files ...string) machine {
	t.Helper()
	m := machine{root: t.TempDir(), process: process}
	for i := 0; i < len(files); i += 2 {
		file := filepath.Join(m.root, files[i])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(files[i+1]+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// check compares a finding with the verdict and a part of what is said. What is not
// ok has a remedy, and what is has none.
func check(t *testing.T, got Finding, want Verdict, said string) {
	t.Helper()
	if got.Verdict != want || !strings.Contains(got.Result, said) {
		t.Errorf("%s: %s %q, want %s %q", got.What, got.Verdict, got.Result, want, said)
	}
	if (got.Remedy == "") != (got.Verdict == OK) {
		t.Errorf("%s: %s with the remedy %q", got.What, got.Verdict, got.Remedy)
	}
}

func TestKernel(t *testing.T) {
	f := func(release string, want Verdict, said string) {
		t.Helper()
		check(t, newMachine(t, 0, "/proc/sys/kernel/osrelease", release).kernel(), want, said)
	}
	f("4.19.0-27-amd64", Warn, "which takes 5.12")
	f("5.11.22", Warn, "which takes 5.12")
	f("5.12.0", OK, "but not beside another")
	f("6.1.0-18-amd64", OK, "but not beside another")
	f("6.6.1", OK, "beside another XDP program as well")
	f("10.0", OK, "beside another XDP program as well")
	check(t, machine{root: t.TempDir()}.kernel(), Warn, "does not show")
}

func TestPrivileges(t *testing.T) {
	https := Node{TCP: []netip.AddrPort{netip.MustParseAddrPort("[::]:443")}}
	high := Node{TCP: []netip.AddrPort{netip.MustParseAddrPort("[::]:8443")}}
	const initial, mapped = "         0          0 4294967295", "0 100000 65536"
	f := func(n Node, process int, effective, users string, want Verdict, said string) {
		t.Helper()
		of := "/proc/self/"
		if process != 0 {
			of = "/proc/7/"
		}
		m := newMachine(t, process, of+"status", "Name:\tspillway\nCapEff:\t"+effective, of+"uid_map", users,
			"/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024")
		check(t, m.privileges(n), want, said)
	}
	f(https, 7, "000000c000001400", initial, OK, "the node may judge packets")
	f(https, 0, "000001ffffffffff", initial, OK, "this command may judge packets")
	f(https, 7, "0000000000000400", initial, Warn, "the node has no CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON:")
	f(https, 7, "0000008000001400", initial, Warn, "the node has no CAP_PERFMON:")
	f(https, 7, "000001ffffffffff", mapped, Warn, "in a user namespace alone")
	f(https, 0, "0000000000000000", initial, Fail, "CAP_NET_BIND_SERVICE is missing")
	f(high, 0, "0000000000000000", initial, Warn, "no CAP_BPF")
	// One that runs has its ports.
	f(https, 7, "0000000000000000", initial, Warn, "no CAP_BPF")
	check(t, machine{root: t.TempDir()}.privileges(https), Warn, "do not show")
}

func TestLimits(t *testing.T) {
	f := func(got func(machine) Finding, want Verdict, said string, files ...string) {
		t.Helper()
		check(t, got(newMachine(t, 7, files...)), want, said)
	}
	of := func(l limit) func(machine) Finding { return func(m machine) Finding { return m.limit(l) } }
	receive, queue, cookies := of(receiveBuffer), of(acceptQueue), of(synCookies)
	f(receive, OK, "7500000 bytes", "/proc/sys/net/core/rmem_max", "7500000")
	f(receive, Warn, "212992 bytes, not 7500000", "/proc/sys/net/core/rmem_max", "212992")
	f(receive, Warn, "does not show")
	privileged := func(m machine) Finding { return m.receives(7 << 20) }
	f(privileged, OK, "7 MiB for each socket", "/proc/sys/net/core/rmem_max", "212992")
	held := func(m machine) Finding { return m.receives(212992) }
	f(held, Warn, "212992 bytes, not 7500000", "/proc/sys/net/core/rmem_max", "212992")
	f(held, Warn, "212992 bytes for each socket, not 7340032", "/proc/sys/net/core/rmem_max", "7500000")
	f(func(m machine) Finding { return m.receives(0) }, OK, "7500000 bytes", "/proc/sys/net/core/rmem_max", "7500000")
	f(queue, OK, "16384 connections", "/proc/sys/net/core/somaxconn", "16384")
	f(queue, Warn, "4096 connections may wait to be accepted, not 16384", "/proc/sys/net/core/somaxconn", "4096")
	f(cookies, OK, "set to 1", "/proc/sys/net/ipv4/tcp_syncookies", "1")
	f(cookies, Warn, "set to 0, not 1", "/proc/sys/net/ipv4/tcp_syncookies", "0")
	const count, most = "/proc/sys/net/netfilter/nf_conntrack_count", "/proc/sys/net/netfilter/nf_conntrack_max"
	f(machine.conntrack, OK, "not tracked")
	f(machine.conntrack, OK, "50 of 100", count, "50", most, "100")
	f(machine.conntrack, Warn, "51 of 100", count, "51", most, "100")
	f(machine.conntrack, Fail, "full, 100", count, "100", most, "100")
	files := func(m machine) Finding { return m.files(5000) }
	const limits = "Limit  Soft Limit  Hard Limit  Units\nMax processes  1  1  processes\nMax open files            "
	f(files, OK, "may open 5000", "/proc/7/limits", limits+"5000  1048576  files")
	f(files, Warn, "may open 4999, and has 5000", "/proc/7/limits", limits+"4999  1048576  files")
	f(files, OK, "", "/proc/7/limits", limits+"unlimited unlimited files")
	f(files, Warn, "does not show")
}

// TestLimitsAreThoseOfTheInstallation compares what is asked for with what the
// installation sets.
func TestLimitsAreThoseOfTheInstallation(t *testing.T) {
	const file = "../../../scripts/systemd/sysctl.conf"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []limit{receiveBuffer, sendBuffer, acceptQueue} {
		if got := number(field(string(text), l.name+" = ")); got != l.least {
			t.Errorf("%s sets %s to %d, and %d is asked for", file, l.name, got, l.least)
		}
	}
}

func TestPort(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	line := func(address, state, inode string) string {
		return "   0: " + address + " 00000000:0000 " + state + " 00000000:00000000 00:00000000 00000000     0        0 " + inode + " 1 0\n"
	}
	https := netip.MustParseAddrPort("[::]:443")
	f := func(process int, prepare func(m machine), want Verdict, said string) {
		t.Helper()
		// 01BB is 443; state 01 is a connection of a visitor, 0A listens.
		m := newMachine(t, process, "/proc/net/tcp", head+line("0100007F:01BB", "01", "5"),
			"/proc/net/tcp6", head+line("00000000000000000000000000000000:0050", "0A", "6"), "/proc/12/comm", "nginx")
		if prepare != nil {
			prepare(m)
		}
		check(t, m.port("tcp", https), want, said)
	}
	listening := func(m machine) {
		text := head + line("00000000000000000000000000000000:01BB", "0A", "98") +
			line("00000000000000000000000000000000:01BB", "0A", "99")
		if err := os.WriteFile(m.root+"/proc/net/tcp6", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(m machine, process, inode string) {
		listening(m)
		folder := filepath.Join(m.root, "proc", process, "fd")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("socket:["+inode+"]", filepath.Join(folder, "4")); err != nil {
			t.Fatal(err)
		}
	}
	held := func(process string) func(m machine) {
		return func(m machine) { hold(m, process, "99") }
	}
	f(0, nil, OK, "free")
	f(7, nil, Warn, "nobody is there")
	f(7, held("7"), OK, "the node's")
	f(7, held("12"), Fail, "in use by nginx (process 12)")
	f(0, held("12"), Fail, "in use by nginx (process 12)")
	// The process before still has its own socket for HTTP/3.
	f(7, func(m machine) { hold(m, "12", "98"); hold(m, "7", "99") }, OK, "the node's")
	f(0, listening, Fail, "in use")
	f(7, listening, OK, "only root can see")
}

// TestPortOfThisMachine finds a socket of the test's own.
func TestPortOfThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := netip.MustParseAddrPort(l.Addr().String())
	check(t, machine{process: os.Getpid()}.port("tcp", a), OK, "the node's")
}

func TestSpace(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "file"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, space(Folder{"cache", folder, 1 << 60}), Warn, "is to reach")
	if got := used(folder); got != 4096 {
		t.Errorf("%d bytes are used", got)
	}
	// What does not exist yet is made in what does.
	if got := space(Folder{"state", filepath.Join(folder, "a", "b"), 0}); !strings.Contains(got.Result, " left") {
		t.Errorf("a folder that is not there: %+v", got)
	}
	check(t, space(Folder{"state", filepath.Join(folder, "file", "b"), 0}), Warn, "does not show")
}

func TestPinnedMaps(t *testing.T) {
	folder := t.TempDir()
	check(t, machine{}.pinned(folder), OK, "the node does not run")
	check(t, machine{}.pinned(folder+"/missing"), OK, "the node does not run")
	check(t, machine{process: 7}.pinned(folder), Warn, "none in "+folder)
	check(t, machine{process: 7}.pinned(folder+"/missing"), Warn, "a restart forgets")
	if err := os.WriteFile(filepath.Join(folder, "sources"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, machine{process: 7}.pinned(folder), OK, "1 in "+folder)
}

func TestCertificate(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	write := func(ends ...time.Time) string {
		t.Helper()
		var text []byte
		for _, end := range ends {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}
			der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		file := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	day := 24 * time.Hour
	check(t, certificate(write(now.Add(15*day)), now), OK, "good until 2026-11-16")
	check(t, certificate(write(now.Add(13*day)), now), Warn, "expires on 2026-11-14")
	check(t, certificate(write(now.Add(90*day), now.Add(13*day)), now), Warn, "expires on 2026-11-14")
	check(t, certificate(write(now.Add(-day)), now), Fail, "expired on 2026-10-31")
	check(t, certificate(write(), now), Fail, "no certificate")
	check(t, certificate("/nonexistent", now), Warn, "no such file")
}

// TestExamine looks at this machine, whatever it is like.
func TestExamine(t *testing.T) {
	all := Examine(Node{TCP: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, GSO: true}, time.Now())
	for _, f := range all {
		if f.What == "" || f.Result == "" || (f.Remedy == "") != (f.Verdict == OK) {
			t.Errorf("%+v", f)
		}
	}
	var out strings.Builder
	if err := Write(&out, all); err != nil || strings.Count(out.String(), "\n") != len(all) {
		t.Errorf("%d findings are written as\n%s%v", len(all), &out, err)
	}
	if _, err := json.Marshal(all); err != nil {
		t.Error(err)
	}
}

func TestWorst(t *testing.T) {
	f := func(want Verdict, verdicts ...Verdict) {
		t.Helper()
		var all []Finding
		for _, v := range verdicts {
			all = append(all, Finding{Verdict: v})
		}
		if got := Worst(all); got != want {
			t.Errorf("the worst of %v is %s", verdicts, got)
		}
	}
	f(OK)
	f(OK, OK)
	f(Warn, OK, Warn, OK)
	f(Fail, Warn, Fail, Warn)
}

func TestSigning(t *testing.T) {
	slow, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(key crypto.Signer, names ...string) string {
		t.Helper()
		c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	f := func(warned int, files ...string) {
		t.Helper()
		all := signing(files)
		if len(all) != warned {
			t.Errorf("%d findings, want %d: %v", len(all), warned, all)
		}
		for _, found := range all {
			check(t, found, Warn, "RSA: each new visitor costs")
		}
	}
	both := write(slow, "a.test", "b.test")
	f(0)
	f(0, "/nonexistent", write(fast, "a.test"))
	f(1, both)
	f(1, both, write(fast, "a.test")) // b.test has none
	f(0, both, write(fast, "b.test"), write(fast, "a.test"))
	f(1, write(slow)) // for an address
}
