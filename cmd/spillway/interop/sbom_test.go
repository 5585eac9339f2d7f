package interop

import (
	"debug/buildinfo"
	"encoding/json"
	"os/exec"
	"testing"
)

// TestSBOM asks that the bill of materials names every module that is linked
// into the program, and the standard library.
func TestSBOM(t *testing.T) {
	info, err := buildinfo.ReadFile(spillway)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "run", "spillway/scripts/sbom", spillway).Output()
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(out, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || bill.SpecVersion != "1.5" || len(bill.Components) != len(info.Deps)+1 {
		t.Errorf("%s %s of %d components, the program has %d modules", bill.BOMFormat, bill.SpecVersion, len(bill.Components), len(info.Deps))
	}
	listed := map[string]bool{}
	for _, c := range bill.Components {
		if c.PURL != "pkg:golang/"+c.Name+"@"+c.Version {
			t.Errorf("%s %s has the URL %s", c.Name, c.Version, c.PURL)
		}
		listed[c.Name+" "+c.Version] = true
	}
	for _, m := range info.Deps {
		if !listed[m.Path+" "+m.Version] {
			t.Errorf("%s %s is missing", m.Path, m.Version)
		}
	}
}
