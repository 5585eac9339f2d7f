package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	install = "/tmp/spillway/scripts/install.sh --binary /tmp/spillway/bin/spillway"
	older   = "/tmp/spillway/scripts/install.sh --binary /tmp/spillway/old/spillway"
	remove  = "/tmp/spillway/scripts/install.sh --uninstall"

	// sums are the contents, modes and owners of what was installed.
	sums = `find /usr/local /etc/spillway /etc/default /etc/systemd/system /etc/*.d \
		-exec stat -c '%n %A %U:%G' {} + -type f -exec sha256sum {} + | sort`

	// files are all files but those that the system itself changes as it runs. The
	// lists of users are compared by what they hold.
	files = `find / -xdev -not -type d |
		grep -Ev '^/(tmp|run|var/(log/journal|lib/systemd|cache)|etc/(passwd-|group-|shadow-|gshadow-|\.pwd\.lock))' |
		sort; cat /etc/passwd /etc/group`
)

// TestInstall goes through the life of an installation: first steps, upgrade,
// reload, removal.
func TestInstall(t *testing.T) {
	m := boot(t, "node")
	before := m.do(t, files)

	t.Run("a port in use is said before anything changes", func(t *testing.T) {
		m.do(t, "systemd-run --quiet --unit=squatter /tmp/spillway/bin/surge origin --listen 127.0.0.1:443")
		m.wait(t, "ss -Hlnt 'sport = :443' | grep -q 127.0.0.1:443")
		m.fails(t, install, "port 443 is in use")
		m.do(t, "systemctl stop squatter")
		same(t, before, m.do(t, files))
	})
	t.Run("what is missing is said", func(t *testing.T) {
		m.fails(t, "setpriv --clear-groups --reuid=nobody --regid=nogroup "+install, "this needs root")
		m.fails(t, "unshare --mount sh -c 'mount -t tmpfs tmpfs /run/systemd && "+install+"'", "systemd does not run here")
	})
	t.Run("a program for another machine is refused", func(t *testing.T) {
		m.do(t, `printf '\177ELF\2\1\1' >/tmp/foreign && chmod +x /tmp/foreign`)
		m.fails(t, "/tmp/spillway/scripts/install.sh --binary /tmp/foreign", "/tmp/foreign does not run here")
		same(t, before, m.do(t, files))
	})
	t.Run("a dry run changes nothing", func(t *testing.T) {
		m.prints(t, install+" --dry-run", "would start spillway.service")
		same(t, before, m.do(t, files))
	})
	t.Run("no message bus is needed", func(t *testing.T) {
		m.prints(t, "unshare --mount sh -c 'mount -t tmpfs tmpfs /run/dbus && "+install+" --dry-run'", "would start spillway.service")
	})
	t.Run("the first configuration lacks the folder of the log alone", func(t *testing.T) {
		m.fails(t, "/tmp/spillway/bin/spillway check /tmp/spillway/config/install.yaml", "there is no folder /var/log/spillway; name")
		m.prints(t, "/tmp/spillway/bin/spillway check --json /tmp/spillway/config/install.yaml | grep -c '\"message\"'", "1\n")
	})
	t.Run("a configuration that does not pass is said before anything changes", func(t *testing.T) {
		m.do(t, "(cat /tmp/spillway/config/install.yaml; echo 'colour: red') >/tmp/red.yaml")
		m.fails(t, install+" --config /tmp/red.yaml", "does not accept /tmp/red.yaml")
		same(t, before, m.do(t, files))
	})
	t.Run("what is not ours is not replaced", func(t *testing.T) {
		m.do(t, "echo mine >/etc/systemd/system/spillway.service")
		m.fails(t, install, "/etc/systemd/system/spillway.service is there already")
		m.do(t, remove)
		m.prints(t, "cat /etc/systemd/system/spillway.service && rm /etc/systemd/system/spillway.service", "mine")
		same(t, before, m.do(t, files))
	})
	t.Run("the node runs at once, also after a failure in the middle", func(t *testing.T) {
		m.do(t, "mount --bind /bin/false /bin/systemd-sysusers")
		m.fails(t, older, "the users could not be made")
		m.do(t, "umount /bin/systemd-sysusers")
		m.prints(t, older, "start spillway.service")
		m.wait(t, "spillway status")
		m.prints(t, "spillway status", "v0.0.1")
		m.prints(t, "curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1", "503")
		m.prints(t, "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1", "301")
		m.prints(t, "test -S /run/spillway/admin.sock && systemctl is-enabled spillway", "enabled")
		m.prints(t, "systemctl show spillway -p NRestarts", "NRestarts=0")
		m.prints(t, "spillway check --strict /etc/spillway/spillway.yaml", " 0 warnings")
	})
	t.Run("the node has four capabilities and no rights", func(t *testing.T) {
		status := m.do(t, "cat /proc/$(systemctl show spillway -p MainPID --value)/status")
		// CAP_NET_BIND_SERVICE is bit 10, CAP_NET_ADMIN 12, CAP_PERFMON 38, CAP_BPF 39.
		for _, want := range []string{"CapEff:\t000000c000001400", "CapBnd:\t000000c000001400", "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(status, want) {
				t.Errorf("/proc/PID/status is without %q", want)
			}
		}
		m.prints(t, "stat -c %U /proc/$(systemctl show spillway -p MainPID --value)", "spillway")
		m.prints(t, "getent passwd spillway", "/usr/sbin/nologin")
	})
	t.Run("the kernel judges packets for the node", func(t *testing.T) {
		m.do(t, "ip link add edge0 type veth peer name edge1 && ip link set edge0 up && ip link set edge1 up && ip route add default dev edge0")
		m.do(t, "systemctl restart spillway")
		m.wait(t, "spillway admission show | grep '^mode  *generic$'")
		m.prints(t, "spillway doctor --json || test $? -ne 1", "the node may judge packets")
		m.do(t, "systemctl stop spillway && ip link delete edge0 && systemctl start spillway")
		m.wait(t, "spillway admission show | grep '^nothing better  *no interface for'")
	})
	t.Run("a second run changes nothing", func(t *testing.T) {
		was, pid := m.do(t, sums), m.do(t, "systemctl show spillway -p MainPID")
		m.prints(t, older, "nothing to change")
		same(t, was, m.do(t, sums))
		same(t, pid, m.do(t, "systemctl show spillway -p MainPID"))
	})
	t.Run("an upgrade keeps the configuration", func(t *testing.T) {
		m.do(t, "sed -i 's/127.0.0.1:8080/127.0.0.1:8081/' /etc/spillway/spillway.yaml")
		was := m.do(t, "sha256sum /etc/spillway/spillway.yaml")
		m.do(t, "mount --bind /bin/false /bin/systemd-tmpfiles")
		m.fails(t, install, "the folders could not be made")
		m.do(t, "umount /bin/systemd-tmpfiles")
		m.do(t, "echo SPILLWAY_CACHE__MEMORY=much >/etc/spillway/environment")
		m.fails(t, install, "does not accept /etc/spillway/spillway.yaml")
		m.do(t, "rm /etc/spillway/environment")
		m.do(t, install+" --no-start")
		m.prints(t, "spillway status", "v0.0.1")
		m.prints(t, install, "upgrade spillway.service")
		m.wait(t, "spillway status")
		if out := m.do(t, "spillway status"); strings.Contains(out, "v0.0.1") {
			t.Errorf("the old program still runs:\n%s", out)
		}
		same(t, was, m.do(t, "sha256sum /etc/spillway/spillway.yaml"))
		m.do(t, "test ! -e /etc/spillway/spillway.yaml.new")
	})
	t.Run("a unit of the operator's that does not upgrade is restarted", func(t *testing.T) {
		edit := "sed -i 's/spillway %s/spillway %s/' /etc/systemd/system/spillway.service && systemctl daemon-reload"
		m.do(t, fmt.Sprintf(edit, "upgrade", "reload"))
		m.prints(t, older, "restart spillway.service")
		m.do(t, fmt.Sprintf(edit, "reload", "upgrade"))
		m.prints(t, install, "upgrade spillway.service")
	})
	t.Run("a node that refuses an upgrade goes on", func(t *testing.T) {
		m.do(t, "cp -a /etc/spillway/spillway.yaml /root/good && echo 'state: /var/lib/spillway/other' >>/etc/spillway/spillway.yaml")
		m.fails(t, older, "goes on with the program that it has")
		if out := m.do(t, "spillway status"); strings.Contains(out, "v0.0.1") {
			t.Errorf("the other program runs:\n%s", out)
		}
		m.do(t, "mv /root/good /etc/spillway/spillway.yaml")
		m.prints(t, install, "upgrade spillway.service")
	})
	t.Run("a newer default is put beside the configuration", func(t *testing.T) {
		was := m.do(t, "sha256sum /etc/spillway/spillway.yaml")
		m.prints(t, install+" --config /tmp/spillway/scripts/provision/spillway.yaml", "install /etc/spillway/spillway.yaml.new")
		same(t, was, m.do(t, "sha256sum /etc/spillway/spillway.yaml"))
		m.prints(t, "stat -c '%a %U:%G' /etc/spillway/spillway.yaml.new", "640 root:spillway")
	})
	t.Run("a reload that does not pass fails and changes nothing", func(t *testing.T) {
		m.do(t, "cp -a /etc/spillway/spillway.yaml /root/good && echo 'colour: red' >>/etc/spillway/spillway.yaml")
		m.fails(t, "systemctl reload spillway", "")
		m.wait(t, "journalctl -u spillway | grep colour")
		m.do(t, "cp /root/good /etc/spillway/spillway.yaml && echo 'cache: {memory: 33MiB}' >>/etc/spillway/spillway.yaml")
		m.fails(t, "spillway reload", "cannot change while the node runs")
		m.wait(t, "spillway status --admin unix:/run/spillway/admin.sock | grep ready")
		m.do(t, "cp /root/good /etc/spillway/spillway.yaml && rm /root/good && spillway reload")
		m.wait(t, "journalctl -u spillway | grep -q reloaded")
	})
	t.Run("a reload and a restart lose no request", func(t *testing.T) {
		m.do(t, "systemd-run --quiet --unit=visitor sh -c 'while curl -sk -m 60 -o /dev/null https://127.0.0.1 && "+
			"curl -s -m 60 -o /dev/null http://127.0.0.1; do echo served; done'")
		m.wait(t, "journalctl -u visitor | grep -q served")
		main := "systemctl show spillway -p MainPID --value"
		was := m.do(t, main)
		for range 2 { // the second waits for the first
			m.do(t, "systemctl reload spillway")
		}
		if is := m.do(t, main); is == was {
			t.Errorf("systemd follows process %s still", was)
		}
		m.prints(t, "spillway status --json | grep '\"pid\"'", strings.TrimSpace(m.do(t, main)))
		m.prints(t, "systemctl show spillway -p NFileDescriptorStore", "NFileDescriptorStore=2")
		m.do(t, "systemctl restart spillway")
		m.prints(t, "curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1", "503")
		m.prints(t, "systemctl is-active visitor && systemctl stop visitor", "active")
		m.prints(t, "systemctl show spillway -p Result -p NRestarts", "NRestarts=0")
		// A process that is killed is started anew, be it the first one or a successor.
		m.do(t, "systemctl reload spillway")
		m.wait(t, "! spillway status | grep -q draining")
		m.do(t, "kill -KILL $("+main+")")
		m.wait(t, "systemctl show spillway -p NRestarts | grep -q NRestarts=1 && spillway status")
	})
	t.Run("functions run apart from the node", func(t *testing.T) {
		m.prints(t, install+" --functions", "start spillway-functions.service")
		m.wait(t, "test -S /run/spillway-functions/functions.sock")
		event := `{"version":"2.0","rawPath":"/overlay/harbour.jpg","rawQueryString":"text=you&w=320",` +
			`"requestContext":{"http":{"method":"GET","path":"/overlay/harbour.jpg"}}}`
		call := "curl -s --unix-socket /run/spillway-functions/functions.sock " +
			"http://f/2015-03-31/functions/thumb/invocations -d '" + event + "'"
		as := "setpriv --clear-groups --reuid=spillway-functions --regid=spillway-functions "
		m.prints(t, as+call, `"statusCode":200`)
		node := "setpriv --reuid=spillway --regid=spillway --groups=$(sed -n 's/^Groups:\\s*//p' " +
			"/proc/$(systemctl show spillway -p MainPID --value)/status | tr -s ' ' , | sed 's/,$//') "
		m.prints(t, node+call, `"statusCode":200`)
		m.fails(t, "setpriv --clear-groups --reuid=spillway --regid=spillway "+call, "")
		m.fails(t, "setpriv --clear-groups --reuid=nobody --regid=nogroup "+call, "")
		m.prints(t, "grep -h ^CapBnd /proc/$(systemctl show spillway-functions -p MainPID --value)/status", "0000000000000000")
		m.fails(t, as+"cat /etc/spillway/spillway.yaml", "Permission denied")
		m.fails(t, "ls /proc/$(systemctl show spillway-functions -p MainPID --value)/root/etc/spillway/spillway.yaml", "")
	})
	t.Run("the units hold what they promise", func(t *testing.T) {
		// In tenths of systemd's measure of exposure, of which 10 is all a service may do.
		for unit, exposure := range map[string]int{"spillway": 21, "spillway-functions": 18} {
			m.do(t, fmt.Sprintf("systemd-analyze security --no-pager --threshold=%d %s", exposure, unit))
			if out := m.do(t, "systemd-analyze verify /etc/systemd/system/"+unit+".service 2>&1"); out != "" {
				t.Errorf("systemd-analyze verify %s: %s", unit, out)
			}
		}
	})
	t.Run("a stop drains and succeeds", func(t *testing.T) {
		m.do(t, "systemctl stop spillway")
		m.prints(t, "systemctl show spillway -p Result -p ExecMainStatus", "Result=success\nExecMainStatus=0")
		m.do(t, "systemctl start spillway")
	})
	t.Run("what is removed leaves configuration, state and logs", func(t *testing.T) {
		m.do(t, remove)
		for _, line := range added(before, m.do(t, files)) {
			kept := slices.ContainsFunc([]string{
				"/etc/spillway/", "/etc/default/spillway-functions", "/var/lib/spillway/", "/var/cache/spillway/", "/var/log/spillway/",
				"spillway:x:", "spillway-functions:x:",
			}, func(start string) bool { return strings.HasPrefix(line, start) })
			if !kept {
				t.Errorf("left behind: %s", line)
			}
		}
		m.do(t, "test -e /etc/spillway/spillway.yaml && test -e /var/lib/spillway/self-signed.pem")
		m.prints(t, remove, "nothing is left to remove")
	})
	t.Run("what is purged leaves nothing", func(t *testing.T) {
		m.do(t, remove+" --purge")
		same(t, before, m.do(t, files))
	})
}

func same(t *testing.T, was, is string) {
	t.Helper()
	for _, line := range added(was, is) {
		t.Errorf("new: %s", line)
	}
	for _, line := range added(is, was) {
		t.Errorf("gone: %s", line)
	}
}

// added returns the lines of is that are not in was.
func added(was, is string) []string {
	known := map[string]bool{}
	for line := range strings.Lines(was) {
		known[line] = true
	}
	var lines []string
	for line := range strings.Lines(is) {
		if !known[line] {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}
