package interop

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance asks for the very same failures as over HTTP/1.1, with fast paths and
// without: the rules of a cache are not those of a protocol.
func TestConformance(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cmd/spillway", "scripts/conformance"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/", "spillway/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	for _, protocol := range []string{"-http2", "-http3"} {
		for _, fastPath := range []string{"on", "off"} {
			t.Run(protocol+" "+fastPath, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "conformance"),
					protocol, "-fast-path", fastPath, "-program", filepath.Join(dir, "spillway"), "-folder", "..")
				out, err := cmd.CombinedOutput()
				text := string(out)
				if _, why, ok := strings.Cut(text, "skipped: "); ok {
					t.Skip(strings.TrimSpace(why))
				}
				if err != nil {
					t.Errorf("%v\n%s", err, text)
				}
				t.Log("\n" + text)
			})
		}
	}
}
