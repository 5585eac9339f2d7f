package interop

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformanceOverHTTP3 asks for the very same failures as over HTTP/1.1: the
// rules of a cache are not those of a protocol.
func TestConformanceOverHTTP3(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cmd/spillway", "scripts/conformance"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/", "spillway/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "conformance"),
		"-http3", "-program", filepath.Join(dir, "spillway"), "-folder", "..")
	out, err := cmd.CombinedOutput()
	text := string(out)
	if _, why, ok := strings.Cut(text, "skipped: "); ok {
		t.Skip(strings.TrimSpace(why))
	}
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	t.Log("\n" + text)
}
