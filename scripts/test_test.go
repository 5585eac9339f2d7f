package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerdicts has a package tested whose test ends as it is told, word by word.
func TestVerdicts(t *testing.T) {
	f := func(words string, passed bool, left string, says ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "verdicts")
		if err := os.WriteFile(file, []byte(words), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("./test", "plain", "./scripts/testdata/verdicts")
		cmd.Env = append(os.Environ(), "VERDICTS="+file, "SPILLWAY_REQUIRE=1", "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		if (err == nil) != passed {
			t.Errorf("%s: %v\n%s", words, err, out)
		}
		for _, line := range says {
			if !strings.Contains(string(out), line) {
				t.Errorf("%s: the output is without %q:\n%s", words, line, out)
			}
		}
		if rest := read(t, file); rest != left {
			t.Errorf("%s: after the last run there is left %q, want %q\n%s", words, rest, left, out)
		}
	}

	const flaky = "test: TestTold failed beside the others, and passed 3 times alone"
	f("pass", true, "", "test: ok")
	f("fail pass pass pass left", true, "left", "it was told to fail", flaky, "test: ok")
	f("fail pass fail pass left", false, "left", "test: not passed")
	f("fail fail fail fail left", false, "left", "test: not passed")
	f("fail panic pass pass", false, "pass pass", "test: not passed")
	f("fail skip pass pass left", false, "left", "TestTold/by_a_word: it was told to skip", "test: not passed")
	f("skip pass", false, "pass", "TestTold/by_a_word: it was told to skip", "test: not passed")
	f("panic pass", false, "pass", "panic: it was told to", "test: not passed")
	f("exit pass", false, "pass", "test: not passed")
	f("race pass", false, "pass", "WARNING: DATA RACE", "test: not passed")
	t.Setenv("OTHERS", "fail") // four of them, which is no accident
	f("pass pass", false, "pass", "test: not passed")
}

// TestExcuses reads what go test prints of packages that failed, and asks which of their
// tests another run could excuse.
func TestExcuses(t *testing.T) {
	f := func(want string, printed ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "again")
		cmd := exec.Command("awk", "-v", "again="+file, "-f", "report.awk")
		cmd.Stdin = strings.NewReader(strings.Join(printed, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := read(t, file); got != want {
			t.Errorf("%q: got %q, want %q", printed, got, want)
		}
	}

	const begin, end = "=== RUN   TestA", "FAIL\tx/y\t0.1s"
	f("x/y TestA\n", begin, "--- FAIL: TestA (0.00s)", "FAIL", end)
	f("x/y TestA\n", begin, "--- FAIL: TestA (0.00s)", "    --- FAIL: TestA/part (0.00s)", "FAIL", end, "FAIL")
	f("x/y TestA\n", begin, "--- FAIL: TestA (0.00s)", "    a_test.go:1: another program says:", "        --- FAIL: TestOther (0.00s)", "FAIL", end)
	f("x/y\n", begin, "--- FAIL: TestA (0.00s)", "=== RUN   TestB", "signal: killed", end)
	f("x/y\n", begin, "--- FAIL: TestA (0.00s)", "    WARNING: DATA RACE", "FAIL", end)
	f("x/y\n", "PASS", "goroutines are left behind the last test", end)
	f("x/y\n", "FAIL\tx/y [build failed]", "FAIL")
	f("x/y\nx/z TestA\n", end, begin, "--- FAIL: TestA (0.00s)", "FAIL", "FAIL\tx/z\t0.1s", "FAIL")
}
