package interop

import (
	"crypto/tls"
	"encoding/xml"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A h2specReport is what h2spec writes, in the form of JUnit.
type h2specReport struct {
	Suites []struct {
		Cases []struct {
			Package string    `xml:"package,attr"`
			Name    string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// TestH2Spec runs h2spec's cases of RFC 7540 and RFC 7541 against the node. The
// failures must be those of testdata/h2spec.txt, no more and no fewer.
func TestH2Spec(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	dir := t.TempDir()
	program, file := filepath.Join(dir, "h2spec"), filepath.Join(dir, "report.xml")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// It ends with an error when a case fails; the report says which.
	out, _ := exec.Command(program, "-t", "-k", "-h", "127.0.0.1", "-p", n.port, "-P", "/bytes/1024", "-o", "5", "-j", file).CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report h2specReport
	if err := xml.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	known := knownFailures(t)
	cases := 0
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			cases++
			name := c.Package + "\t" + c.Name
			failed := c.Failure != nil || c.Error != nil
			if failed && !known[name] {
				t.Errorf("failed: %s", name)
			} else if !failed && known[name] {
				t.Errorf("passes now, and is to be taken out of testdata/h2spec.txt: %s", name)
			}
			if c.Skipped != nil {
				t.Errorf("left out: %s", name)
			}
			delete(known, name)
		}
	}
	for name := range known {
		t.Errorf("h2spec has no such case: %s", name)
	}
	if cases < 140 {
		t.Errorf("h2spec ran %d cases only:\n%s", cases, out)
	}
	n.atRest(t)
	testDownload(t, func(a ask) reply { return n.curl(t, "--http2", a) }, "1024")
}

func knownFailures(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("testdata/h2spec.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 {
			t.Fatalf("not three fields: %q", line)
		}
		known[fields[0]+"\t"+fields[1]] = true
	}
	return known
}

// TestH2SpecFailuresAreHarmless sends what the known failures are about, and
// asks that nothing of it reaches the origin.
func TestH2SpecFailuresAreHarmless(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	for name, field := range map[string]hpack.HeaderField{
		"/connection": {Name: "connection", Value: "keep-alive"},
		"/te":         {Name: "te", Value: "trailers, deflate"},
	} {
		framer := n.frames(t)
		var block strings.Builder
		encoder := hpack.NewEncoder(&block)
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "GET"},
			{Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: "localhost:" + n.port},
			{Name: ":path", Value: name},
			field,
		} {
			if err := encoder.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		err := framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if status := firstStatus(t, framer); status != "400" {
			t.Errorf("%s was answered %s", name, status)
		}
		if a, ok := o.arrived(name); ok {
			t.Errorf("the origin saw %+v", a)
		}
	}

	framer := n.frames(t)
	err := framer.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = framer.ReadFrame()
	}
	got := n.curl(t, "--http2", ask{method: http.MethodGet, target: "/bytes/1024"})
	if got.status != "200" {
		t.Errorf("afterwards the node answers %s", got.status)
	}
}

// frames opens a connection of HTTP/2 and says hello.
func (n *node) frames(t *testing.T) *http2.Framer {
	t.Helper()
	conn, err := tls.Dial("tcp", n.addr, n.tls("h2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return framer
}

func firstStatus(t *testing.T, framer *http2.Framer) string {
	t.Helper()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			return h.PseudoValue("status")
		}
	}
}
