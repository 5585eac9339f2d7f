package lambda

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// A target is a function as Lambda is asked for it.
type target struct {
	name      string // a name or an ARN, without alias and version
	qualifier string // the alias or version; empty for the latest
	region    string // that an ARN names; empty otherwise
}

var (
	arn           = regexp.MustCompile(`^(?:arn:aws[a-z-]*:lambda:([a-z0-9-]+):)?\d{12}:function:([^:]+)(?::([^:]+))?$`)
	functionName  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,140}$`)
	qualifierName = regexp.MustCompile(`^[A-Za-z0-9$_-]{1,128}$`)
)

func parseTarget(function string) (target, error) {
	var t target
	name := function
	if m := arn.FindStringSubmatch(function); m != nil {
		name, t.region, t.qualifier = m[2], m[1], m[3]
		t.name = function
		if t.qualifier != "" {
			t.name = strings.TrimSuffix(function, ":"+t.qualifier)
		}
	} else {
		t.name, t.qualifier, _ = strings.Cut(function, ":")
		name = t.name
		if t.qualifier == "" && t.name != function {
			return t, fmt.Errorf("function %q: nothing follows the colon", function)
		}
	}
	if !functionName.MatchString(name) || t.qualifier != "" && !qualifierName.MatchString(t.qualifier) {
		return t, fmt.Errorf("function %q is not a name, a name:alias or an ARN of a function", function)
	}
	return t, nil
}

// url is where the function is invoked. An ARN is one segment of the path, with its
// colons escaped.
func (t target) url(endpoint *url.URL) *url.URL {
	const before, after = "/2015-03-31/functions/", "/invocations"
	u := &url.URL{
		Scheme: endpoint.Scheme, Host: endpoint.Host,
		Path: before + t.name + after, RawPath: before + strings.ReplaceAll(t.name, ":", "%3A") + after,
	}
	if t.qualifier != "" {
		u.RawQuery = url.Values{"Qualifier": {t.qualifier}}.Encode()
	}
	return u
}

// parseEndpoint returns the endpoint that is configured, or AWS's for the region.
func parseEndpoint(configured, region string) (*url.URL, error) {
	if configured == "" {
		domain := "amazonaws.com"
		if strings.HasPrefix(region, "cn-") {
			domain = "amazonaws.com.cn"
		}
		return &url.URL{Scheme: "https", Host: "lambda." + region + "." + domain}, nil
	}
	u, err := url.Parse(configured)
	switch {
	case err != nil:
		return nil, fmt.Errorf("parse endpoint: %w", err)
	case u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("endpoint must be a scheme and a host, such as https://vpce-0.lambda.eu-central-1.vpce.amazonaws.com")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		// What a visitor sends must not cross a network in the clear.
		return nil, errors.New("endpoint must begin with https://; http:// is for this machine, such as 127.0.0.1")
	}
	return u, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
