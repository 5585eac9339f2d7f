package config

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gobwas/glob"

	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/origin"
	"spillway/origin/faas"
)

// form checks a text against a form of the schema and returns the value to use.
// Empty texts pass: whether a setting may be empty is said by its required tag.
func (c *checker) form(format, text string) (any, *fault) {
	if text == "" || format == "" {
		return text, nil
	}
	switch format {
	case "address":
		return text, checkAddress(text)
	case "admin":
		return text, checkAdmin(text)
	case "url":
		return text, checkURL(text)
	case "server":
		return text, checkServer(text)
	case "path":
		return text, checkPath(text)
	case "target":
		return text, checkTarget(text)
	case "file":
		return c.readable(text)
	case "glob":
		return text, checkGlob(text)
	case "field":
		return text, checkField(text)
	case "cookie":
		return text, checkCookie(text)
	case "parameter":
		return text, checkParameter(text)
	case "status":
		return text, nil // it is for the names of a map's entries
	case "method":
		return text, checkMethod(text)
	case "prefix":
		return text, checkPrefix(text)
	case "secret":
		return text, c.checkSecret(text)
	case "time":
		return text, checkTime(text)
	case "server_id":
		return text, checkServerID(text)
	}
	panic("BUG: no form is called " + format)
}

func checkTime(text string) *fault {
	if _, err := faas.ParseTime(text); err != nil {
		return faultf("write 2026-12-01T18:00Z, with Z for UTC or a distance from it such as +01:00", "%q is not a time", text)
	}
	return nil
}

func checkServerID(text string) *fault {
	if _, err := admit.ParseServerID(text); err != nil {
		return faultf("write 2 to 16 hexadecimal digits in quotes, such as \"0a1b2c3d4e5f6071\"", "%s", err)
	}
	return nil
}

// maxSocketPath is what sockaddr_un holds, less the closing zero.
const maxSocketPath = 107

func checkAddress(text string) *fault {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return faultf("write HOST:PORT, such as :443 or 127.0.0.1:8443", "%q is not an address with a port", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return faultf("ports are 0 to 65535", "%q is not a port", port)
	} else if n == 0 && host == "" {
		return faultf("write :443", "port 0 on every address would be another port at each start")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return faultf("listeners are opened on addresses of this machine", "%q is not an IP address", host)
	}
	return nil
}

func checkAdmin(text string) *fault {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		switch {
		case !filepath.IsAbs(path):
			return faultf("write unix:/run/spillway/admin.sock", "%q is not an absolute path", path)
		case len(path) > maxSocketPath:
			return faultf("the system allows "+strconv.Itoa(maxSocketPath)+" bytes", "the path of the socket is too long")
		}
		return nil
	}
	if bad := checkAddress(text); bad != nil {
		return faultf("write unix:/run/spillway/admin.sock or 127.0.0.1:9443", "%q is neither unix:PATH nor an address with a port", text)
	}
	host, _, _ := net.SplitHostPort(text)
	if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
		return faultf("write 127.0.0.1, [::1] or unix:PATH", "the admin listener has no login, so it must not be reachable from outside; %q is not a loopback address", text)
	}
	return nil
}

// CheckAdmin checks an address of the admin listener, as the configuration
// does.
func CheckAdmin(text string) error {
	if bad := checkAdmin(text); bad != nil {
		return bad
	}
	return nil
}

func checkURL(text string) *fault {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return faultf("write a URL such as http://10.0.0.5:8080", "%q is not an http or https URL", text)
	case u.User != nil:
		return faultf("remove what stands before the @", "a URL with a password would end up in logs")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return faultf("remove it", "%q has a query or a fragment", text)
	case u.Port() != "":
		if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
			return faultf("ports are 1 to 65535", "%q is not a port", u.Port())
		}
	}
	return nil
}

func checkServer(text string) *fault {
	if err := origin.CheckServer(text); err != nil {
		return faultf("write http://HOST:PORT, https://HOST:PORT, h2c://HOST:PORT or unix:/PATH", "%s", err)
	}
	return nil
}

func checkPath(text string) *fault {
	if !strings.HasPrefix(text, "/") {
		return faultf("write /"+text, "%q does not start with a slash", text)
	}
	return nil
}

// checkTarget checks the path of a request, which goes out as it stands.
func checkTarget(text string) *fault {
	if bad := checkPath(text); bad != nil {
		return bad
	}
	if u, err := url.Parse("http://host" + text); err != nil || u.EscapedPath() != text {
		return faultf("write what a client sends, without a query: /a%20b for a space", "%q is not the path of a request", text)
	}
	return nil
}

// readable returns the absolute name of a file that can be opened for reading.
// Relative names start at the folder of the configuration.
func (c *checker) readable(text string) (any, *fault) {
	path := text
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.dir, path)
	}
	if err := openable(path); err != nil {
		return nil, missingFile(path, err)
	}
	return path, nil
}

// missingFile says why a file that a setting or a command names is of no use.
func missingFile(path string, err error) *fault {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return faultf("create it, or name another", "there is no file %s", path)
	case errors.Is(err, fs.ErrPermission):
		return faultf("let it, by chown or chmod, or run as another user", "user %d may not read %s", os.Geteuid(), path)
	case errors.Is(err, fs.ErrInvalid):
		return faultf("name a file", "%s is a folder or a device", path)
	}
	return faultf("name a file that can be read", "%s", err)
}

func openable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	// Opening a pipe could wait for ever.
	if !info.Mode().IsRegular() {
		return &os.PathError{Op: "open", Path: path, Err: os.ErrInvalid}
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func checkGlob(text string) *fault {
	if text[0] != '/' && text[0] != '*' {
		return faultf("write /"+text, "%q does not start with a slash", text)
	}
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		return faultf("routes match paths only", "%q holds the character %q", text, text[i])
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return faultf("write it percent-encoded, as browsers send it", "%q holds a space or control character", text)
	}
	if _, err := glob.Compile(text); err != nil {
		return faultf("* stands for any characters; put a backslash before [, { or \\", "%q is not a pattern: %s", text, err)
	}
	return nil
}

// httpToken is a token of RFC 9110 section 5.6.2.
var httpToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// checkMethod asks for capitals: methods are case-sensitive (RFC 9110 section
// 9.1), and get would never match.
func checkMethod(text string) *fault {
	switch {
	case !httpToken.MatchString(text):
		return faultf("write a method such as GET", "%q is not a method", text)
	case text != strings.ToUpper(text):
		return faultf("write "+strings.ToUpper(text), "methods are case-sensitive, and %q is never sent", text)
	}
	return nil
}

func checkField(text string) *fault {
	if !httpToken.MatchString(text) {
		return faultf("write a name such as X-Priority", "%q is not the name of a header field", text)
	}
	return nil
}

// checkCookie takes names as RFC 6265 section 4.1.1 has them; a star at the end is
// one of their characters.
func checkCookie(text string) *fault {
	if !httpToken.MatchString(text) {
		return faultf("write a name such as session", "%q is not the name of a cookie", text)
	}
	return nil
}

var parameter = regexp.MustCompile(`^[A-Za-z0-9_-]*[A-Za-z0-9_*-]$`)

// checkParameter takes the names that all servers read alike.
func checkParameter(text string) *fault {
	if !parameter.MatchString(text) {
		return faultf("use letters, digits, - and _, such as utm_source; a star at the end stands for any characters",
			"%q is not a name of parameters that all servers read alike", text)
	}
	return nil
}

func checkPrefix(text string) *fault {
	if _, err := netip.ParseAddr(text); err == nil {
		return nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return faultf("write one, such as 10.0.0.0/8", "%q is neither an address nor a prefix", text)
	}
	if p != p.Masked() {
		return faultf("write "+p.Masked().String(), "%s has bits set behind its length", text)
	}
	return nil
}

// refersElsewhere reports whether a secret is named, and not written out.
func refersElsewhere(text string) bool {
	return strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:")
}

// checkSecret checks that what a reference names can be read. The value itself
// is read by the owner of the setting.
func (c *checker) checkSecret(text string) *fault {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		if !slices.ContainsFunc(c.environ, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			return faultf("set it, or write file:/etc/spillway/secrets/NAME", "the environment has no variable %s", name)
		}
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		if !filepath.IsAbs(path) {
			return faultf("write file:/etc/spillway/secrets/NAME", "%q is not an absolute path", path)
		}
		if err := openable(path); err != nil {
			return missingFile(path, err)
		}
	}
	return nil
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$`)

// checkName checks the name of an entry of a map. Names become metric labels
// and parts of environment variables; those of secrets are header fields, others are
// statuses.
func checkName(name, format string) *fault {
	if format == "secret" {
		if !httpToken.MatchString(name) {
			return faultf("use letters, digits and -", "%q is not the name of a header field", name)
		}
		return nil
	}
	if format == "status" {
		if _, err := cache.NegativeStatus(name); err != nil {
			return faultf("write a status such as 404, or all of them as 4xx or 5xx", "%s", err)
		}
		return nil
	}
	if !plainName.MatchString(name) {
		return faultf("use letters, digits, - and _, at most 63", "%q is not a name", name)
	}
	return nil
}
