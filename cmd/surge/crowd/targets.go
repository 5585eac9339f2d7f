package crowd

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// targets are the requests of every visitor: one authority, some paths.
type targets struct {
	scheme    string
	authority string // host:port, as dialed
	urls      []template
}

// A template is a URL with its placeholders cut out, so that a visitor's URL is
// put together without searching.
type template struct {
	parts []string // literal, placeholder, literal, ...
}

func newTargets(c Config) (targets, error) {
	var t targets
	for _, raw := range c.URLs {
		tmpl, u, err := parseTarget(raw, c)
		if err != nil {
			return targets{}, fmt.Errorf("url %q: %w", raw, err)
		}
		scheme, authority := u.Scheme, hostPort(u)
		if t.authority != "" && (scheme != t.scheme || authority != t.authority) {
			return targets{}, fmt.Errorf("url %q: a visitor has one connection, so every URL must be on %s://%s", raw, t.scheme, t.authority)
		}
		t.scheme, t.authority = scheme, authority
		t.urls = append(t.urls, tmpl)
	}
	return t, nil
}

func parseTarget(raw string, c Config) (template, *url.URL, error) {
	tmpl, err := parseTemplate(raw)
	if err != nil {
		return template{}, nil, err
	}
	u, err := url.Parse(tmpl.expand(c.Seed, 0))
	switch {
	case err != nil:
		return template{}, nil, err
	case u.Scheme != "https" && u.Scheme != "http":
		return template{}, nil, fmt.Errorf("scheme %q: must be https or http", u.Scheme)
	case u.Scheme == "http" && c.Protocol != H1:
		return template{}, nil, fmt.Errorf("%s needs https", c.Protocol)
	case u.Hostname() == "":
		return template{}, nil, fmt.Errorf("no host")
	}
	return tmpl, u, nil
}

func parseTemplate(raw string) (template, error) {
	var t template
	for rest := raw; ; {
		literal, after, found := strings.Cut(rest, "{")
		t.parts = append(t.parts, literal)
		if !found {
			return t, nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed || name != "visitor" && name != "seed" {
			return template{}, fmt.Errorf("placeholder at %q: only {visitor} and {seed} are known", "{"+after)
		}
		t.parts = append(t.parts, name)
		rest = tail
	}
}

func (t template) expand(seed, visitor uint64) string {
	if len(t.parts) == 1 {
		return t.parts[0]
	}
	var b strings.Builder
	for i, part := range t.parts {
		switch {
		case i%2 == 0:
			b.WriteString(part)
		case part == "seed":
			b.WriteString(strconv.FormatUint(seed, 10))
		default:
			b.WriteString(strconv.FormatUint(visitor, 10))
		}
	}
	return b.String()
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
