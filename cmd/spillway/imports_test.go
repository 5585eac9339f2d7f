package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rules say who may import whom. A change here is a change of the design.
type rules struct {
	module string
	// graph lists, for each package of the module, the packages of the module that
	// it may import. A name that ends in /... stands for all below it, the word all
	// for every package but those that are testOnly.
	graph map[string][]string
	// owners lists, for each module of others, the packages that may import it.
	owners map[string][]string
	// testOnly are packages that only tests may import, and each other.
	testOnly []string
	// folders are the top-level folders that may hold packages.
	folders []string
}

var layout = rules{
	module: "spillway",
	graph: map[string][]string{
		"bpf":         {},
		"bpf/bpftest": {},

		"cmd/spillway":         {"all"},
		"cmd/spillway/demo":    {"all"},
		"cmd/spillway/doctor":  {"bpf", "edge"},
		"cmd/spillway/interop": {},

		// The test bench counts for itself; it shares words with the node, not code.
		"cmd/surge":                         {"cmd/surge/..."},
		"cmd/surge/bench":                   {"cmd/surge/..."},
		"cmd/surge/contest":                 {"cmd/surge/..."},
		"cmd/surge/contest/foreign":         {"cmd/surge/..."},
		"cmd/surge/contest/foreign/interop": {},
		"cmd/surge/contest/ideal":           {"cmd/surge/origin"},
		"cmd/surge/contest/load":            {},
		// The rules of others are tried in our own listeners, so that they differ in
		// nothing else.
		"cmd/surge/contest/rival":     {"bpf", "config", "edge", "edge/admit", "origin"},
		"cmd/surge/crowd":             {"cmd/surge/unit", "edge/outcome"},
		"cmd/surge/flood":             {"cmd/surge/program"},
		"cmd/surge/functions":         {"cmd/surge/serve", "cmd/surge/unit", "cmd/thumbnail/picture"},
		"cmd/surge/origin":            {"cmd/surge/serve", "cmd/surge/unit", "cmd/thumbnail/picture"},
		"cmd/surge/peers":             {"cmd/surge/bench", "cmd/surge/program", "cmd/surge/report"},
		"cmd/surge/peers/interop":     {},
		"cmd/surge/program":           {},
		"cmd/surge/report":            {"cmd/surge/crowd", "edge/outcome"},
		"cmd/surge/serve":             {},
		"cmd/surge/unit":              {},
		"cmd/surge/wan":               {"cmd/surge/serve", "cmd/surge/unit"},
		"cmd/thumbnail":               {"cmd/thumbnail/picture"},
		"cmd/thumbnail/picture":       {},
		"cmd/thumbnail/picture/paint": {},

		// Only cmd and config know the configuration as a whole.
		"config": {
			"edge", "edge/admit", "edge/cache", "edge/waiting",
			"origin", "origin/faas", "origin/faas/budget", "origin/faas/lambda", "origin/faas/process", "origin/faas/web",
		},

		"edge": {
			"edge/admit", "edge/cache", "edge/exercise", "edge/outcome", "edge/overflow", "edge/recorder", "edge/waiting",
			"origin", "origin/limit", "origin/scale", "origin/faas", "origin/faas/budget",
		},
		"edge/admin":      {"edge/outcome"},
		"edge/admit":      {"edge/outcome"},
		"edge/cache":      {"edge/cache/disk", "edge/coding", "edge/outcome"},
		"edge/cache/disk": {},
		"edge/coding":     {},
		"edge/exercise":   {},
		"edge/outcome":    {},
		"edge/overflow":   {"edge/outcome"},
		"edge/recorder":   {"edge/outcome"},
		"edge/waiting":    {},
		"edge/edgetest":   {"all", "edge/synctest"},
		"edge/leaktest":   {},
		"edge/synctest":   {},

		"origin":                     {"origin/limit", "origin/scale", "edge/outcome"},
		"origin/limit":               {"edge/outcome"},
		"origin/remote":              {},
		"origin/scale":               {"origin/remote"},
		"origin/faas":                {"origin/faas/budget", "edge/outcome"},
		"origin/faas/budget":         {"edge/outcome"},
		"origin/faas/lambda":         {"origin/faas", "origin/faas/sign"},
		"origin/faas/lambda/interop": {},
		"origin/faas/process":        {"origin/faas", "edge/outcome"},
		"origin/faas/sign":           {},
		"origin/faas/web":            {"origin/faas", "origin/remote", "edge/outcome"},

		"scripts/conformance":         {"edge/admin"},
		"scripts/conformance/interop": {},
		"scripts/figures":             {},
		"scripts/licenses":            {},
		"scripts/sbom":                {},
	},
	owners: map[string][]string{
		"charm.land/bubbletea/v2":                  {"cmd/spillway/demo", "cmd/surge"},
		"charm.land/lipgloss/v2":                   {"cmd/spillway/demo", "cmd/surge"},
		"github.com/VictoriaMetrics/metrics":       {"cmd/spillway", "edge"},
		"github.com/andybalholm/brotli":            {"edge/coding"},
		"github.com/aws/aws-lambda-go":             {"cmd/thumbnail"},
		"github.com/aws/aws-sdk-go-v2":             {"cmd/surge/functions", "origin/faas/sign"},
		"github.com/aws/smithy-go":                 {"origin/faas/sign"},
		"github.com/cilium/ebpf":                   {"bpf"},
		"github.com/dunglas/httpsfv":               {"cmd/surge/crowd", "edge", "edge/cache"},
		"github.com/failsafe-go/failsafe-go":       {"cmd/surge/contest/rival"},
		"github.com/go-viper/mapstructure/v2":      {"config"},
		"github.com/gobwas/glob":                   {"config", "edge"},
		"github.com/goccy/go-yaml":                 {"config"},
		"github.com/klauspost/compress":            {"edge/coding"},
		"github.com/knadh/koanf/providers/confmap": {"config"},
		"github.com/knadh/koanf/v2":                {"config"},
		"github.com/pires/go-proxyproto":           {"edge"},
		"github.com/quic-go/qpack":                 {"edge"},
		"github.com/quic-go/quic-go":               {"cmd/surge/bench", "cmd/surge/contest/load", "cmd/surge/crowd", "cmd/surge/flood", "cmd/surge/peers", "edge", "edge/edgetest", "scripts/conformance"},
		"github.com/spf13/cobra":                   {"cmd/spillway", "cmd/surge", "cmd/surge/bench", "cmd/surge/contest", "cmd/surge/contest/rival", "cmd/surge/flood", "cmd/surge/functions", "cmd/surge/origin", "cmd/surge/peers", "cmd/surge/wan"},
		"go.uber.org/goleak":                       {"edge/leaktest"},
		"golang.org/x/image":                       {"cmd/thumbnail/picture"},
		"golang.org/x/net":                         {"cmd/surge/bench", "edge"},
		"golang.org/x/sys":                         {"bpf", "bpf/bpftest", "cmd/spillway", "cmd/spillway/demo", "cmd/spillway/doctor", "cmd/surge/crowd", "cmd/surge/flood", "edge", "edge/admin", "edge/cache", "origin/faas/process"},
		"golang.org/x/term":                        {"cmd/spillway", "cmd/surge"},
		"golang.org/x/text":                        {"edge/waiting"},
		"rsc.io/qr":                                {"cmd/thumbnail/picture"},
	},
	testOnly: []string{"bpf/bpftest", "edge/edgetest", "edge/leaktest", "edge/synctest"},
	folders:  []string{"bpf", "cmd", "config", "edge", "origin", "scripts"},
}

func TestLayout(t *testing.T) {
	for _, broken := range layout.check(t, "../..") {
		t.Error(broken)
	}
}

// TestLayoutFindsWhatBreaksIt runs the check on a small module that breaks each
// rule once.
func TestLayoutFindsWhatBreaksIt(t *testing.T) {
	fixture := rules{
		module:   "fixture",
		graph:    map[string][]string{"edge": {"edge/leaf"}, "edge/leaf": {}, "edge/tests": {"all"}, "cmd": {"all"}, "gone": {}},
		owners:   map[string][]string{"example.com/quic": {"edge"}, "example.com/unused": {"edge"}},
		testOnly: []string{"edge/tests"},
		folders:  []string{"cmd", "edge"},
	}
	got := fixture.check(t, "testdata/layout")
	want := []string{
		"cmd imports edge/tests, which is for tests only",
		"edge imports example.com/unknown, which has no owner",
		"edge/leaf has no package comment",
		"edge/leaf imports edge, which the layout does not allow",
		"edge/leaf imports example.com/quic, which belongs to edge",
		"edge/util is not in the layout",
		"example.com/unused is not imported by anyone any more",
		"gone is in the layout and not there",
		"other is not in the layout",
		"other is not one of the top-level folders cmd, edge",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// check walks the files itself: the test cache notices files that a test reads,
// but not those that a go list of its own would.
func (r rules) check(t *testing.T, root string) []string {
	t.Helper()
	packages := readPackages(t, root)
	used := map[string]bool{}
	var broken []string
	for _, name := range sortedKeys(packages) {
		pkg := packages[name]
		if top, _, _ := strings.Cut(name, "/"); !slices.Contains(r.folders, top) {
			broken = append(broken, fmt.Sprintf("%s is not one of the top-level folders %s", name, strings.Join(r.folders, ", ")))
		}
		if !pkg.documented {
			broken = append(broken, name+" has no package comment")
		}
		allowed, known := r.graph[name]
		if !known {
			broken = append(broken, name+" is not in the layout")
			continue
		}
		for _, imported := range pkg.imports {
			if ours, ok := strings.CutPrefix(imported, r.module+"/"); ok {
				broken = append(broken, r.ours(name, ours, allowed)...)
			} else if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
				broken = append(broken, r.others(name, imported, used)...)
			}
		}
	}
	for name := range r.graph {
		if packages[name] == nil {
			broken = append(broken, name+" is in the layout and not there")
		}
	}
	for module := range r.owners {
		if !used[module] {
			broken = append(broken, module+" is not imported by anyone any more")
		}
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

func (r rules) ours(name, imported string, allowed []string) []string {
	if slices.Contains(r.testOnly, imported) && !slices.Contains(r.testOnly, name) {
		return []string{fmt.Sprintf("%s imports %s, which is for tests only", name, imported)}
	}
	for _, pattern := range allowed {
		below, all := strings.CutSuffix(pattern, "...")
		if pattern == "all" || pattern == imported || all && strings.HasPrefix(imported, below) {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s imports %s, which the layout does not allow", name, imported)}
}

func (r rules) others(name, imported string, used map[string]bool) []string {
	for module, owners := range r.owners {
		if imported != module && !strings.HasPrefix(imported, module+"/") {
			continue
		}
		used[module] = true
		if slices.Contains(owners, name) {
			return nil
		}
		return []string{fmt.Sprintf("%s imports %s, which belongs to %s", name, imported, strings.Join(owners, ", "))}
	}
	return []string{fmt.Sprintf("%s imports %s, which has no owner", name, imported)}
}

// onePackage is what the rules want to know of a package. Its tests do not
// count.
type onePackage struct {
	documented bool
	imports    []string
}

func readPackages(t *testing.T, root string) map[string]*onePackage {
	t.Helper()
	packages := map[string]*onePackage{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && file != root && skipped(entry.Name()) {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name := path.Dir(filepath.ToSlash(relative))
		pkg := packages[name]
		if pkg == nil {
			pkg = &onePackage{}
			packages[name] = pkg
		}
		pkg.documented = pkg.documented || parsed.Doc != nil
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			pkg.imports = append(pkg.imports, imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// skipped folders are those that the go command skips, and those of npm.
func skipped(name string) bool {
	return name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

func sortedKeys(m map[string]*onePackage) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
