package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/waiting"
	"spillway/origin"
)

// validate checks what one setting alone cannot show.
func validate(c *Config, r *report) {
	validateListeners(c, r)
	validateState(c.Edge.State, r)
	validateTLS(c.Edge.TLS, r)
	validateECH(c.Edge.TLS.ECH, r)
	validateSizes(c, r)
	validateRules(c.Admission, r)
	validatePin(c.Admission.Pin, r)
	validateOrigins(c, r)
	validateBudgets(c, r)
	validateHosts(c.Sites, r)
	for i, site := range c.Sites {
		validateRoutes(site.Routes, index("sites", i)+".routes", r)
	}
}

func validateListeners(c *Config, r *report) {
	if c.Edge.Listen == "" {
		r.add("listen", "this must not be empty", "write :443")
	}
	if c.Edge.HTTP == "off" || c.Edge.HTTP == "" {
		return
	}
	host, port, _ := net.SplitHostPort(c.Edge.Listen)
	otherHost, otherPort, _ := net.SplitHostPort(c.Edge.HTTP)
	if port == otherPort && port != "0" && (host == otherHost || host == "" || otherHost == "") {
		r.add("http", fmt.Sprintf("port %s is taken by listen", port), "write another port, or off")
	}
}

// validateRules finds prefixes that stand twice: of two rules one would not hold.
func validateRules(c admit.Config, r *report) {
	first := map[netip.Prefix]string{}
	for _, list := range []struct {
		key      string
		prefixes []string
	}{{"admission.allow", c.Allow}, {"admission.deny", c.Deny}} {
		for i, text := range list.prefixes {
			p, err := admit.ParsePrefix(text)
			if err != nil {
				continue // it is said
			}
			if at, twice := first[p]; twice {
				r.add(index(list.key, i), text+" stands in "+at+" as well", "remove one")
				continue
			}
			first[p] = index(list.key, i)
		}
	}
}

// validateState finds a folder that cannot be made. Who checks need not be who
// runs the node, so that nothing is said of what either may write.
func validateState(folder string, r *report) {
	if folder == "" {
		return
	}
	if file := notFolder(folder); file != "" {
		r.add("state", "this cannot be a folder: "+file+" is a file", "name another, such as /var/lib/spillway")
	}
}

// bpfMagic is the type of a BPF file system (statfs(2)).
const bpfMagic = 0xcafe4a11

// validatePin finds a folder that no map can be pinned in. Who checks need not be who
// runs the node, so that nothing is said of what does not show.
func validatePin(folder string, r *report) {
	if folder == "" {
		return
	}
	if !filepath.IsAbs(folder) {
		r.add("admission.pin", fmt.Sprintf("%q is not an absolute path", folder), "write /sys/fs/bpf/spillway")
		return
	}
	at := filepath.Clean(folder)
	var s syscall.Statfs_t
	err := syscall.Statfs(at, &s)
	for ; errors.Is(err, fs.ErrNotExist) && at != "/"; err = syscall.Statfs(at, &s) {
		at = filepath.Dir(at)
	}
	if err == nil && uint32(s.Type) != bpfMagic {
		r.add("admission.pin", at+" is on no BPF file system", "mount -t bpf bpf /sys/fs/bpf, and name a folder there")
	}
}

// notFolder returns the part of the path that is there and is no folder, or an
// empty string.
func notFolder(path string) string {
	for path = filepath.Clean(path); ; path = filepath.Dir(path) {
		if info, err := os.Stat(path); err == nil {
			if info.IsDir() {
				return ""
			}
			return path
		}
		if path == filepath.Dir(path) {
			return ""
		}
	}
}

// validateTLS loads the certificates: a node without a valid one must not start.
func validateTLS(c edge.TLSConfig, r *report) {
	given := len(c.Pairs()) > 0
	switch {
	case !given && !c.SelfSigned:
		r.add("tls", "there is no certificate", "set cert and key, or self_signed: true for tests")
	case given && c.SelfSigned:
		r.add("tls.self_signed", "a certificate is given as well", "keep one of the two")
	case c.Cert != "" && c.Key == "":
		r.add("tls.cert", "its key is missing", "set tls.key")
	case c.Cert == "" && c.Key != "":
		r.add("tls.key", "its certificate is missing", "set tls.cert")
	default:
		eachPair(c, func(group string, p edge.CertificateConfig) { validatePair(p, group, r) })
	}
	var bad *edge.FileError
	if _, err := edge.ReadSecret(c.Secret); errors.As(err, &bad) {
		r.add("tls.secret", bad.Problem, bad.Remedy)
	}
}

func validateSizes(c *Config, r *report) {
	if c.Cache.Memory > 0 && c.Cache.MaxObject > c.Cache.Memory {
		r.add("cache.max_object", "this is more than cache.memory, so it would never be stored", "lower it, or raise cache.memory")
	}
	d := c.Cache.Disk
	if d.Path == "" {
		return
	}
	if c.Cache.Memory == 0 {
		r.add("cache.disk.path", "without cache.memory nothing is stored, and nothing comes to the disk", "give the cache memory, or remove disk")
	}
	if file := notFolder(d.Path); file != "" {
		r.add("cache.disk.path", "this cannot be a folder: "+file+" is a file", "name another, such as /var/cache/spillway")
	}
}

func validateOrigins(c *Config, r *report) {
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		o, key := c.Origins[name], "origins."+name
		if o.Limit.Min > o.Limit.Max {
			r.add(key+".limit.min", fmt.Sprintf("%d is more than max, %d", o.Limit.Min, o.Limit.Max), "lower it, or raise max")
		}
		if o.ReadAhead.PerResponse > o.ReadAhead.Total {
			r.add(key+".read_ahead.per_response", "this is more than the total of all responses", "lower it, or raise total")
		}
		validateOriginTLS(o, key, r)
		if setting, err := o.ScaleOut.Check(); err != nil {
			r.add(key+".scale_out."+setting, err.Error(), map[string]string{
				"webhook": "write https://scale.example.com/spillway",
				"secret":  "make one with openssl rand -hex 32, and write file:/etc/spillway/secrets/scale",
			}[setting])
		}
		first := map[string]int{}
		for i, server := range o.Servers {
			at := whereIs(server)
			if before, twice := first[at]; twice {
				r.add(index(key+".servers", i), fmt.Sprintf("this server stands twice; first as number %d", before+1), "remove one")
				continue
			}
			first[at] = i
		}
	}
}

// validateOriginTLS loads the files: without them no request would reach the
// origin.
func validateOriginTLS(o origin.Config, key string, r *report) {
	https := func(server string) bool { return strings.HasPrefix(strings.ToLower(server), "https:") }
	if o.TLS != (origin.TLSConfig{}) && !slices.ContainsFunc(o.Servers, https) {
		r.add(key+".tls", "no server of this origin is https", "remove it, or write https:// servers")
		return
	}
	if setting, err := o.TLS.Check(); err != nil {
		r.add(key+".tls."+setting, err.Error(), "")
	}
}

func validateBudgets(c *Config, r *report) {
	for _, name := range slices.Sorted(maps.Keys(c.Budgets)) {
		if !c.Budgets[name].Limited() {
			r.add("budgets."+name, "this budget bounds nothing", "set per_hour, per_day or per_month, such as per_day: $20")
		}
	}
}

var hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

func validateHosts(sites []edge.SiteConfig, r *report) {
	first := map[string]string{}
	for i, site := range sites {
		for j, host := range site.Hosts {
			key := index(index("sites", i)+".hosts", j)
			name := strings.TrimPrefix(host, "*.")
			lower := strings.ToLower(host)
			switch {
			case host != lower:
				r.add(key, fmt.Sprintf("%q has capitals; hosts are compared in small letters", host), "write "+lower)
			case net.ParseIP(strings.Trim(host, "[]")) == nil && !hostName.MatchString(name) || len(name) > 253:
				r.add(key, fmt.Sprintf("%q is not a host name", host), `write a name, *.name, or default; without port`)
			case first[host] != "":
				r.add(key, fmt.Sprintf("%q is answered by %s already", host, first[host]), "remove one")
			default:
				first[host] = index("sites", i)
			}
		}
	}
}

// validateRoutes reports routes that no request can reach, because an earlier
// one takes everything that they match.
func validateRoutes(routes []edge.RouteConfig, key string, r *report) {
	for j, later := range routes {
		if o := later.Overflow; o != nil {
			validateFunctions(o.To, index(key, j)+".overflow.to", r)
			validateFields(o.ExerciseFields, index(key, j)+".overflow.exercise_fields", r)
		}
		validateCaching(later.Cache, index(key, j)+".cache", r)
		if w := later.Waiting; w != nil && w.Page != "" {
			validatePage(w.Page, index(key, j)+".waiting.page", r)
		}
		for i, earlier := range routes[:j] {
			if covers(earlier.Match, later.Match) {
				r.add(index(key, j), fmt.Sprintf("no request gets here: %s matches %s first", index(key, i), earlier.Match.Path), "move it up")
				break
			}
		}
	}
}

// validateCaching finds keys that cannot be made, or would not do what they seem to.
func validateCaching(c cache.PolicyConfig, key string, r *report) {
	if err := cache.CheckSlice(c.Slice); err != nil {
		r.add(key+".slice", err.Error(), "write 0 to slice nothing, or at least 16KiB")
	}
	k := c.Key
	if k.Query == "none" && (len(k.IgnoreQuery)+len(k.OnlyQuery) > 0 || k.SortQuery) {
		r.add(key+".key.query", "none leaves nothing to ignore_query, only_query and sort_query", "remove them, or write all")
	}
	if len(k.IgnoreQuery) > 0 && len(k.OnlyQuery) > 0 {
		r.add(key+".key.ignore_query", "only_query says already which parameters count", "keep one of the two")
	}
	for i, name := range k.Headers {
		if err := cache.CheckKeyHeader(name); err != nil {
			remedy := "remove it"
			if strings.EqualFold(name, "Cookie") {
				remedy = "name those that matter in key.cookies"
			}
			r.add(index(key+".key.headers", i), err.Error(), remedy)
		}
	}
	for i, name := range k.Cookies {
		if strings.HasSuffix(name, "*") {
			r.add(index(key+".key.cookies", i), fmt.Sprintf("%q stands for many cookies, and a key has the values of single ones", name), "name each")
		}
	}
}

func validateFunctions(to []string, key string, r *report) {
	for i, name := range to {
		if slices.Contains(to[:i], name) {
			r.add(index(key, i), fmt.Sprintf("%q stands twice", name), "remove one")
		}
	}
}

// fieldName is a token, RFC 9110 section 5.1.
var fieldName = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")

// validateFields finds names that no header has: they would be equal for ever.
func validateFields(names []string, key string, r *report) {
	for i, name := range names {
		if !fieldName.MatchString(name) {
			r.add(index(key, i), fmt.Sprintf("%q is not the name of a header field", name), "write a name such as Content-Type")
		}
	}
}

// validatePage tries the template of a waiting room.
func validatePage(file, key string, r *report) {
	if _, err := waiting.ReadPage(file); err != nil {
		r.add(key, err.Error(), "correct the template, or leave page out for the node's own")
	}
}

// covers reports whether the earlier match takes all that the later would. It
// may miss exotic pairs of globs, and is never wrong when it says yes.
func covers(earlier, later edge.MatchConfig) bool {
	for _, method := range later.Methods {
		if len(earlier.Methods) > 0 && !slices.Contains(earlier.Methods, method) {
			return false
		}
	}
	if len(earlier.Methods) > 0 && len(later.Methods) == 0 {
		return false
	}
	prefix, star := strings.CutSuffix(earlier.Path, "*")
	simple := star && !strings.ContainsAny(prefix, `*[]{}\`)
	return earlier.Path == later.Path || simple && strings.HasPrefix(later.Path, prefix)
}
