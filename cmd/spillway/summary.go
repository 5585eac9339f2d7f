package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"spillway/config"
	"spillway/edge"
	"spillway/origin"
	"spillway/origin/faas/budget"
)

// summarize shows on ten lines what the node would do, so that a file that
// passes and is not meant shows as well.
func summarize(out io.Writer, c *config.Config, path string) {
	origins := map[string]origin.Config{}
	for name := range c.Origins {
		origins[name] = c.Origin(name)
	}
	for _, line := range []struct{ what, text string }{
		{"listen", listenText(c.Edge)},
		{"tls", certificatesText(c)},
		{"admission", admissionText(c)},
		{"origins", listed(origins, originText)},
		{"functions", listed(c.Functions, functionText)},
		{"budgets", listed(c.Budgets, budgetText)},
		{"cache", cacheText(c)},
		{"sites", sitesText(c.Sites)},
		{"admin", c.Admin},
		{"config", fmt.Sprintf("%s, hash %s, %s", path, c.Hash(), counted(len(c.Warnings()), "warning"))},
	} {
		fmt.Fprintf(out, "  %-10s %s\n", line.what, line.text)
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func listed[T any](entries map[string]T, text func(T) string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		all = append(all, fmt.Sprintf("%s (%s)", name, text(entries[name])))
	}
	return cmp.Or(strings.Join(all, ", "), "none")
}

func listenText(c edge.Config) string {
	protocols := "h1, h2, h3"
	if !c.HTTP3.Enabled {
		protocols = "h1, h2"
	}
	return fmt.Sprintf("%s (%s), http %s", c.Listen, protocols, c.HTTP)
}

// certificatesText shows the names, the issuer and the end of each certificate.
func certificatesText(c *config.Config) string {
	if c.Edge.TLS.SelfSigned {
		return "self-signed for " + strings.Join(hosts(c), ", ")
	}
	var all []string
	for _, p := range c.Edge.TLS.Pairs() {
		pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			all = append(all, p.Cert+" does not load any more")
			continue
		}
		leaf := pair.Leaf
		issuer := "issued by " + cmp.Or(leaf.Issuer.CommonName, strings.Join(leaf.Issuer.Organization, ", "), "nobody named")
		if leaf.CheckSignatureFrom(leaf) == nil || leaf.Issuer.String() == leaf.Subject.String() {
			issuer = "self-signed"
		}
		all = append(all, fmt.Sprintf("%s (%s, until %s)", strings.Join(leaf.DNSNames, " "), issuer, leaf.NotAfter.UTC().Format(time.DateOnly)))
	}
	return strings.Join(all, ", ")
}

// admissionText says where connections are admitted, and whether they are
// refused.
func admissionText(c *config.Config) string {
	where := "in the kernel where that can be"
	if c.Admission.Kernel == "off" {
		where = "in user space"
	}
	if !c.Admission.Enforce {
		return where + ", counts only"
	}
	return where + ", enforced"
}

func originText(o origin.Config) string {
	return fmt.Sprintf("%s, limit found within %d to %d", counted(len(o.Servers), "server"), o.Limit.Min, o.Limit.Max)
}

// functionText says who runs the function and who pays, and whether what it is
// reached by is there. Credentials of a cloud are not asked for: that would be a
// call.
func functionText(f config.Function) string {
	text := f.Provider
	if f.Provider == "process" {
		if _, err := os.Stat(f.Process.Socket); err != nil {
			text += ", no host at " + f.Process.Socket + " yet"
		}
	}
	if f.Budget == "" {
		return text + ", no budget"
	}
	return text + ", budget " + f.Budget
}

func budgetText(b budget.Config) string {
	var parts []string
	if b.PerHour > 0 {
		parts = append(parts, fmt.Sprintf("$%g an hour", b.PerHour))
	}
	if b.PerDay > 0 {
		parts = append(parts, fmt.Sprintf("$%g a day", b.PerDay))
	}
	if b.PerMonth > 0 {
		parts = append(parts, fmt.Sprintf("$%g a month", b.PerMonth))
	}
	return strings.Join(append(parts, "then "+b.OnExhausted), ", ")
}

func cacheText(c *config.Config) string {
	if c.Cache.Memory == 0 {
		return "stores nothing"
	}
	text := fmt.Sprintf("%s, objects up to %s", sizeText(c.Cache.Memory), sizeText(c.Cache.MaxObject))
	if d := c.Cache.Disk; d.Path != "" {
		text += fmt.Sprintf(", and %s in %s", sizeText(d.Size), d.Path)
	}
	return text
}

func sitesText(sites []edge.SiteConfig) string {
	routes, spilling := 0, 0
	for _, s := range sites {
		routes += len(s.Routes)
		for _, r := range s.Routes {
			if r.Overflow != nil {
				spilling++
			}
		}
	}
	return fmt.Sprintf("%s with %s, %d may spill", counted(len(sites), "site"), counted(routes, "route"), spilling)
}
