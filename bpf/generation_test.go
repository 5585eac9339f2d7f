package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A generation is a process of its own that holds programs and sockets and does what
// it is told. Its files come and go over a socket.
type generation struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	socket int
}

const (
	roleGeneration = "generation"
	filesEnv       = "SPILLWAY_TEST_FILES"
)

func startGeneration(t *testing.T, inherited ...*os.File) *generation {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	g := &generation{t: t, cmd: exec.Command("/proc/self/exe"), socket: pair[0]}
	g.cmd.ExtraFiles = append([]*os.File{theirs}, inherited...)
	var names []string
	for _, f := range inherited {
		names = append(names, f.Name())
	}
	g.cmd.Env = append(os.Environ(), childEnv+"="+roleGeneration, filesEnv+"="+strings.Join(names, ","))
	g.cmd.Stderr = os.Stderr
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.stdout = bufio.NewReader(output)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.kill()
		unix.Close(g.socket)
	})
	return g
}

// successor starts a process that gets the files of this one.
func (g *generation) successor() *generation {
	g.t.Helper()
	files := g.files()
	defer closeFiles(files)
	return startGeneration(g.t, files...)
}

// kill is SIGKILL.
func (g *generation) kill() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

// does tells the process what to do and returns what it says of it.
func (g *generation) does(command string, arguments ...any) string {
	g.t.Helper()
	if _, err := fmt.Fprintln(g.stdin, append([]any{command}, arguments...)...); err != nil {
		g.t.Fatal(err)
	}
	said, err := g.stdout.ReadString('\n')
	if err != nil {
		g.t.Fatalf("%s: the process said %q: %v", command, said, err)
	}
	return strings.TrimSpace(said)
}

// must tells it something to which it says ok.
func (g *generation) must(command string, arguments ...any) {
	g.t.Helper()
	if said := g.does(command, arguments...); said != "ok" {
		g.t.Fatalf("%s %v: %s", command, arguments, said)
	}
}

func (g *generation) number(command string, arguments ...any) int {
	g.t.Helper()
	said := g.does(command, arguments...)
	n, err := strconv.Atoi(said)
	if err != nil {
		g.t.Fatalf("%s: %s", command, said)
	}
	return n
}

// files asks for the process's Files.
func (g *generation) files() (files []*os.File) {
	g.t.Helper()
	g.must("files")
	text, rights := make([]byte, 4096), make([]byte, 4096)
	n, m, _, _, err := unix.Recvmsg(g.socket, text, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		g.t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) != 1 {
		g.t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		g.t.Fatal(err)
	}
	for i, name := range strings.Split(string(text[:n]), ",") {
		files = append(files, os.NewFile(uintptr(fds[i]), name))
	}
	return files
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// beGeneration obeys commands, one a line.
func beGeneration() {
	var self generationSelf
	for i, name := range strings.Split(os.Getenv(filesEnv), ",") {
		if name != "" {
			self.inherited = append(self.inherited, os.NewFile(uintptr(4+i), name))
		}
	}
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		said, err := self.obey(strings.Fields(commands.Text()))
		if err != nil {
			said = err.Error()
		}
		fmt.Println(strings.ReplaceAll(said, "\n", "; "))
	}
}

type generationSelf struct {
	*Admission
	inherited []*os.File
	socket    *net.UDPConn
}

func (g *generationSelf) obey(command []string) (string, error) {
	argument := ""
	if len(command) > 1 {
		argument = command[1]
	}
	switch command[0] {
	case "load":
		return "ok", g.load(argument)
	case "configure":
		level, err := strconv.Atoi(argument)
		if err != nil {
			return "", err
		}
		c := configured(Level(level))
		c.Source = Limit{PerSecond: 1e-3, Burst: 1}
		return "ok", g.Configure(c)
	case "attach", "detach":
		v0, err := net.InterfaceByName("v0")
		if err != nil {
			return "", err
		}
		if command[0] == "detach" {
			return "ok", g.Detach(v0.Index)
		}
		attached, err := g.Attach(v0.Index, Mode(argument))
		if err != nil {
			return "", err
		}
		return string(attached.Mode), nil
	case "files":
		return "ok", g.sendFiles()
	case "dropped":
		counts, err := g.Counts()
		return strconv.FormatUint(counts.Packets[DropRetry].Packets, 10), err
	case "refund":
		g.Refund(client4, false, time.Hour)
		return "ok", nil
	case "charge":
		g.Charge(client4, false, time.Hour, time.Hour)
		return "ok", nil
	case "owes":
		return strconv.FormatBool(g.Owes(client4, false) > 0), nil
	case "rules":
		rules, err := g.Rules()
		return strconv.Itoa(len(rules)), err
	case "deny":
		return "ok", g.SetRule(Rule{Prefix: netip.MustParsePrefix(argument)})
	case "close":
		return "ok", g.Close()
	}
	return g.steer(command[0], argument)
}

func (g *generationSelf) load(pin string) (err error) {
	ids, err := NewConnectionIDs(nil, testKeys)
	if err != nil {
		return err
	}
	g.Admission, err = Load(Options{UDPPort: testUDPPort, ConnectionIDs: ids, Inherited: g.inherited, Pin: pin})
	for _, f := range g.inherited {
		f.Close()
	}
	return err
}

func (g *generationSelf) sendFiles() error {
	files, err := g.Files()
	if err != nil {
		return err
	}
	var names []string
	var fds []int
	for _, f := range files {
		defer f.Close()
		names, fds = append(names, f.Name()), append(fds, int(f.Fd()))
	}
	return unix.Sendmsg(3, []byte(strings.Join(names, ",")), unix.UnixRights(fds...), nil, 0)
}

func (g *generationSelf) steer(command, argument string) (string, error) {
	switch command {
	case "listen": // in a slot, as the one that takes new flows
		slot, err := strconv.Atoi(argument)
		if err != nil {
			return "", err
		}
		if g.socket, err = listenShared("127.0.0.1:" + strconv.Itoa(testUDPPort)); err != nil {
			return "", err
		}
		err = errors.Join(g.SetSocket(slot, g.socket), g.Steer(g.socket), g.Route(slot, 1))
		return "ok", err
	case "received":
		n := 0
		for {
			got, err := receiveNow(g.socket)
			if err != nil {
				return "", err
			}
			if !got {
				return strconv.Itoa(n), nil
			}
			n++
		}
	case "hang-up":
		return "ok", g.socket.Close()
	}
	return "", errors.New("unknown command " + command)
}
