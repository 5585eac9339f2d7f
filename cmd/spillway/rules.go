package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"spillway/config"
	"spillway/edge/admit"
)

// A ruleReport is what a command has done to the rules. Its keys in JSON do not
// change from version to version.
type ruleReport struct {
	Done string `json:"done"` // allowed, denied or cleared
	// Rules are those that were set or removed.
	Rules []admit.Rule `json:"rules"`
}

// readFor reads how long something is to hold. Empty is as long as the process lives.
func readFor(query url.Values, now time.Time) (until time.Time, err error) {
	text := query.Get("for")
	if text == "" {
		return until, nil
	}
	d, err := positiveDuration(text)
	if err != nil {
		return until, fmt.Errorf("for: %w", err)
	}
	return now.Add(d), nil
}

// serveRule sets a rule: POST /admission/allow?prefix=PREFIX or /admission/deny, with
// for=TIME beside it; for deny also operator=ADDRESS, who asks, and force=1.
func (n *node) serveRule(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	rule := admit.Rule{Allow: r.URL.Path == "/admission/allow"}
	var err error
	if rule.Prefix, err = admit.ParsePrefix(query.Get("prefix")); err == nil {
		rule.Until, err = readFor(query, time.Now())
	}
	if err == nil {
		err = n.configured(rule.Prefix)
	}
	if err == nil && !rule.Allow && !query.Has("force") {
		n.mu.Lock()
		c := n.config
		n.mu.Unlock()
		err = slip(rule.Prefix, query["operator"], ownAddresses(), c)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := n.admit.SetRule(rule); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if n.missed(w) {
		return
	}
	report := ruleReport{Done: "denied", Rules: []admit.Rule{rule}}
	if rule.Allow {
		report.Done = "allowed"
	}
	n.log.Info(report.Done+" by the operator", "prefix", rule.Prefix, "until", untilText(rule.Until))
	writeIndented(w, report)
}

const sayAgain = "an upgrade is under way; say it again when the new process serves"

// missed tells whoever gave a command that the successor of this process may not have
// heard of it. It is asked when the command has been obeyed: what was before release is
// handed over.
func (n *node) missed(w http.ResponseWriter) bool {
	if !n.released.Load() {
		return false
	}
	http.Error(w, sayAgain, http.StatusConflict)
	return true
}

// commanded returns the rules in force that do not stand in the configuration: those of
// commands, and of the node itself.
func (n *node) commanded() []admit.Rule {
	return slices.DeleteFunc(n.admit.Rules(), func(rule admit.Rule) bool { return n.configured(rule.Prefix) != nil })
}

// restoreRules has the kernel judge by the rules of this process again. A successor that
// is no more may have changed what both have.
func (n *node) restoreRules() error {
	ours := n.admit.Rules()
	theirs, err := n.kernel.Rules()
	for _, rule := range theirs {
		if !slices.ContainsFunc(ours, func(r admit.Rule) bool { return r.Prefix == rule.Prefix }) {
			err = errors.Join(err, n.kernel.RemoveRule(rule.Prefix))
		}
	}
	for _, rule := range ours {
		err = errors.Join(err, n.kernel.SetRule(rule))
	}
	return err
}

// inheritRules puts the rules in force that commands gave the process before, and takes
// those of its configuration away that this one's is without: the kernel has them still.
func (n *node) inheritRules() {
	stay := n.inherited.rules
	for _, rule := range rulesOf(n.config) {
		stay = append(stay, rule.Rule)
	}
	for _, rule := range n.admit.Rules() {
		if slices.ContainsFunc(stay, func(r admit.Rule) bool { return r.Prefix == rule.Prefix }) {
			continue
		}
		if err := n.admit.RemoveRule(rule.Prefix); err != nil {
			n.log.Warn("a rule of the process before stays", "prefix", rule.Prefix, "error", err)
		}
	}
	for _, rule := range n.inherited.rules {
		if err := n.admit.SetRule(rule); err != nil {
			n.log.Warn("a rule of the process before is not in force", "prefix", rule.Prefix, "error", err)
		}
	}
}

// serveClear removes what commands, or the node itself, have set: POST
// /admission/clear?prefix=PREFIX, or all of it. What sources owe is forgotten as well
// when all of it is.
func (n *node) serveClear(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	all := n.commanded()
	if query.Has("prefix") {
		prefix, err := admit.ParsePrefix(query.Get("prefix"))
		if err == nil {
			err = n.configured(prefix)
		}
		all = slices.DeleteFunc(all, func(rule admit.Rule) bool { return rule.Prefix != prefix })
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("there is no rule for %s; spillway admission show lists them", prefix)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	} else {
		n.admit.Forget()
	}
	for _, rule := range all {
		if err := n.admit.RemoveRule(rule.Prefix); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	if n.missed(w) {
		return
	}
	n.log.Info("rules cleared by the operator", "rules", len(all), "prefix", cmp.Or(query.Get("prefix"), "all"))
	writeIndented(w, ruleReport{Done: "cleared", Rules: all})
}

// A configuredRule is a rule, and the setting that it follows from.
type configuredRule struct {
	admit.Rule
	key string
}

// rulesOf returns the rules that a configuration asks for. Proxies are allowed: all of
// their visitors come from one address, and the node limits those by their own.
func rulesOf(c *config.Config) (rules []configuredRule) {
	listed := map[netip.Prefix]bool{}
	for _, r := range c.Admission.Rules() {
		listed[r.Prefix] = true
		rules = append(rules, configuredRule{r, "admission." + listOf(r)})
	}
	add := func(key string, proxies []string) {
		for _, text := range proxies {
			p, err := admit.ParsePrefix(text)
			if err != nil || p.Bits() == 0 || listed[p] { // who believes everybody allows nobody by it
				continue
			}
			listed[p] = true
			rules = append(rules, configuredRule{admit.Rule{Prefix: p, Allow: true}, key})
		}
	}
	add("proxy_protocol", c.Edge.ProxyProtocol)
	add("trusted_proxies", c.Edge.TrustedProxies)
	return rules
}

// configured says that a prefix is ruled by the configuration, or nil.
func (n *node) configured(prefix netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, rule := range rulesOf(n.config) {
		if rule.Prefix == prefix {
			return fmt.Errorf("%s stands in %s of the configuration; change it there, then spillway reload", prefix, rule.key)
		}
	}
	return nil
}

func listOf(r admit.Rule) string {
	if r.Allow {
		return "allow"
	}
	return "deny"
}

// setRules puts the rules of c in force, and removes those of old that c is without.
func (n *node) setRules(old, c *config.Config) {
	now := rulesOf(c)
	for _, rule := range rulesOf(old) {
		if !slices.ContainsFunc(now, func(r configuredRule) bool { return r.Prefix == rule.Prefix }) {
			n.logRule(rule, n.admit.RemoveRule(rule.Prefix))
		}
	}
	for _, rule := range now {
		n.logRule(rule, n.admit.SetRule(rule.Rule))
	}
}

func (n *node) logRule(r configuredRule, err error) {
	if err != nil {
		n.log.Warn("a rule of the configuration is not in force", "key", r.key, "prefix", r.Prefix, "error", err)
	}
}

// slip says whom a denial would keep out who is surely not meant, or nil: everybody,
// who asks for it, this machine, or the proxies of a configuration.
func slip(prefix netip.Prefix, operators []string, own []netip.Addr, c *config.Config) error {
	const force = "; say --force if you mean it"
	if prefix.Bits() == 0 {
		return fmt.Errorf("%s is everybody%s", prefix, force)
	}
	for _, text := range operators {
		if addr, err := netip.ParseAddr(text); err == nil && prefix.Contains(addr.Unmap().WithZone("")) {
			return fmt.Errorf("%s holds %s, from where you are logged in%s", prefix, addr, force)
		}
	}
	for _, addr := range own {
		if prefix.Contains(addr) {
			return fmt.Errorf("%s holds %s, an address of this machine%s", prefix, addr, force)
		}
	}
	for key, list := range map[string][]string{"trusted_proxies": c.Edge.TrustedProxies, "proxy_protocol": c.Edge.ProxyProtocol} {
		for _, text := range list {
			if p, err := admit.ParsePrefix(text); err == nil && p.Overlaps(prefix) {
				return fmt.Errorf("%s overlaps %s of %s, through which visitors come%s", prefix, text, key, force)
			}
		}
	}
	return nil
}

// ownAddresses are those of this machine. Without them slip has one guard less.
func ownAddresses() (own []netip.Addr) {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap().WithZone(""))
		}
	}
	return own
}

func untilText(until time.Time) string {
	if until.IsZero() {
		return "the next restart"
	}
	return until.Local().Format(time.DateTime)
}

func (r *ruleReport) write(out io.Writer) error {
	for _, rule := range r.Rules {
		fmt.Fprintf(out, "%s is %s", rule.Prefix, r.Done)
		switch {
		case r.Done == "cleared":
			fmt.Fprintln(out)
		case rule.Until.IsZero():
			fmt.Fprintf(out, " until the next restart; to keep it, write it into admission.%s of the configuration\n", listOf(rule))
		default:
			fmt.Fprintf(out, " until %s\n", untilText(rule.Until))
		}
	}
	if len(r.Rules) == 0 {
		fmt.Fprintln(out, "there were no rules but those of the configuration")
	}
	return nil
}

// operators returns the addresses from which whoever calls this command has logged in,
// as far as that shows: sudo takes the variables of SSH away, so those of the shell
// above it count too.
func operators() (addresses []string) {
	note := func(environment string) {
		for variable := range strings.FieldsFuncSeq(environment, func(c rune) bool { return c == 0 }) {
			name, value, _ := strings.Cut(variable, "=")
			address, _, _ := strings.Cut(value, " ")
			if name == "SSH_CONNECTION" && !slices.Contains(addresses, address) {
				addresses = append(addresses, address)
			}
		}
	}
	for process := "self"; process != "" && process != "0"; {
		folder := filepath.Join("/proc", process)
		environment, _ := os.ReadFile(filepath.Join(folder, "environ")) // of others, root's alone
		note(string(environment))
		process = parentOf(folder)
	}
	return addresses
}

// parentOf returns the number of a process's parent, or nothing.
func parentOf(folder string) string {
	status, _ := os.ReadFile(filepath.Join(folder, "status"))
	for line := range strings.Lines(string(status)) {
		if parent, found := strings.CutPrefix(line, "PPid:"); found {
			return strings.TrimSpace(parent)
		}
	}
	return ""
}
