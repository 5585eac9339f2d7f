package peers

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A figure beside others is none when the others have left.
func TestWhatIsBesideMustLast(t *testing.T) {
	f := func(beside string, await bool, want string) {
		t.Helper()
		main := exec.Command("printf", visitBegins+"\n"+visitEnds+"\n{}\n")
		r := &running{pid: os.Getpid(), beside: exec.Command("sh", "-c", beside)}
		out, err := r.watch(main, clientSurge, work{Shape: probing})
		if err != nil || out != "{}\n" {
			t.Errorf("said %q, error %v", out, err)
		}
		for await && len(r.left) == 0 {
			time.Sleep(time.Millisecond)
		}
		switch err := r.endBeside(); {
		case want == "" && err != nil:
			t.Error(err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("error %v, want %s", err, want)
		}
	}
	f("exec sleep 60", false, "")
	f("exit 3", true, "ended too early: exit status 3")
}
