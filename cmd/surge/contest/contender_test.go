package contest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"spillway/config"
)

// stageFor is a stage on which nothing runs yet, with the files of one.
func stageFor(t *testing.T, name string) *stage {
	t.Helper()
	s := &stage{
		ctx: t.Context(), dir: t.TempDir(), plan: &plan{scenario: scenarioNamed(t, name)},
		originURL: "http://127.0.0.1:9000", functionsURL: "http://127.0.0.1:9100",
	}
	if err := s.makeCertificate(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpillwayConfigurationLoads(t *testing.T) {
	for _, scenario := range Scenarios() {
		s := stageFor(t, scenario.Name)
		for _, limit := range []string{"auto", "{min: 6, max: 6}"} {
			if _, err := config.Parse("spillway.yaml", []byte(s.spillwayConfig(limit)), nil); err != nil {
				t.Errorf("%s: %v", scenario.Name, err)
			}
		}
	}
}

// No number of the origin is given to Spillway.
func TestSpillwayIsGivenNoNumber(t *testing.T) {
	text := stageFor(t, "mix").spillwayConfig("auto")
	_, origins, _ := strings.Cut(text, "origins:\n")
	origins, _, _ = strings.Cut(origins, "functions:\n")
	if want := `  app: { servers: ["http://127.0.0.1:9000"], limit: auto }` + "\n"; origins != want {
		t.Errorf("origins:\n%swant\n%s", origins, want)
	}
}

func TestHAProxyAcceptsItsConfiguration(t *testing.T) {
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("haproxy is not installed")
	}
	s := stageFor(t, "plain")
	listener, _, err := s.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := s.write("haproxy.cfg", s.haproxyConfig(6))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(haproxy, "-c", "-f", file)
	cmd.ExtraFiles = []*os.File{listener}
	out, err := cmd.CombinedOutput()
	if err != nil || regexp.MustCompile(`\[(WARNING|ALERT)\]`).Match(out) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestContendersByName(t *testing.T) {
	for _, c := range contenders() {
		got, err := contender(c.Name)
		if err != nil || got.Name != c.Name || c.About == "" || c.Protocol == "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if c, err := contender("fixed-12"); err != nil || c.Name != "fixed-12" || limitOf(c.Name) != 12 {
		t.Errorf("fixed-12: %+v, %v", c, err)
	}
	for _, name := range []string{"", "fixed-", "fixed-0", "fixed-x", "haproxy"} {
		if _, err := contender(name); err == nil {
			t.Errorf("there is a contender %q", name)
		}
	}
}
