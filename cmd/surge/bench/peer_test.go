package bench

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"spillway/cmd/surge/program"
)

func TestUnknownPeer(t *testing.T) {
	f := &field{dir: t.TempDir()}
	if err := f.start("apache"); err == nil || errors.Is(err, program.ErrMissing) {
		t.Errorf("a peer that does not exist: %v", err)
	}
}

// The programs that are ours lie beside the one that runs, and beside this one there
// is none: what was begun is ended.
func TestFieldWithoutOurPrograms(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	if _, err := newField(t.Context()); err == nil {
		t.Error("there is no node, and nothing is said")
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

// nginx itself reads what we write for it.
func TestNginxConfig(t *testing.T) {
	dir := t.TempDir()
	text := nginxConfig(dir, "127.0.0.1:9000", "127.0.0.1:9001")
	for _, want := range []string{"listen 127.0.0.1:9000 ssl http2;", "proxy_pass http://127.0.0.1:9001;", "proxy_cache_lock on;", "access_log " + dir} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	nginx, err := program.Find("nginx")
	if err != nil {
		t.Skip("nginx ", err)
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := errors.Join(WriteCertificate(filepath.Join(dir, "both.pem")), writeConfig(config, text)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(nginx, "-t", "-q", "-c", config, "-e", filepath.Join(dir, "error.log")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

func TestVarnishArguments(t *testing.T) {
	args := varnishArguments("/dir", "127.0.0.1:9000", "127.0.0.1:9001")
	for _, pair := range [][2]string{{"-a", "127.0.0.1:9000"}, {"-b", "127.0.0.1:9001"}, {"-n", "/dir/work"}, {"-p", "feature=+http2"}} {
		if i := slices.Index(args, pair[0]); i < 0 || args[i+1] != pair[1] {
			t.Errorf("%s is not followed by %s in %q", pair[0], pair[1], args)
		}
	}
}
