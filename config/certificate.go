package config

import (
	"cmp"
	"crypto/ecdh"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"spillway/edge"
)

// validatePair loads a certificate and its key, and says what keeps them from
// being used.
func validatePair(p edge.CertificateConfig, group string, r *report) {
	cert, key := p.Cert, p.Key
	switch leaf, err := loadPair(cert, key); {
	case err != nil && !holds(cert, "CERTIFICATE"):
		r.add(group+".cert", "there is no certificate in "+cert, "name a PEM file that holds -----BEGIN CERTIFICATE-----")
	case err != nil && !holds(key, "PRIVATE KEY"):
		r.add(group+".key", "there is no private key in "+key, "name a PEM file that holds -----BEGIN PRIVATE KEY-----, not encrypted")
	case err != nil && strings.Contains(err.Error(), "does not match"):
		r.add(group+".key", "this key belongs to another certificate", "name the key that "+cert+" was made for")
	case err != nil:
		r.add(group+".cert", strings.TrimPrefix(err.Error(), "tls: "), "get the certificate again from who issued it")
	case time.Now().After(leaf.NotAfter):
		r.add(group+".cert", "the certificate expired on "+dateOf(leaf.NotAfter), "renew it")
	}
}

// validateECH checks the name that is published, and the keys if they are there
// already: the node makes those that are not.
func validateECH(c edge.ECHConfig, r *report) {
	switch name := c.PublicName; {
	case name == "" && c.Keys != "":
		r.add("tls.ech.keys", "the name that is readable instead is missing", "set tls.ech.public_name")
		return
	case name == "":
		return
	case !hostName.MatchString(name) || len(name) > 253 || !strings.Contains(name, "."):
		r.add("tls.ech.public_name", fmt.Sprintf("%q is not a host name", name), "write a name that the node has a certificate for, such as cover.example.com")
	}
	if c.Keys != "" {
		validateKeysOfECH(c.Keys, r)
	}
}

func validateKeysOfECH(path string, r *report) {
	const key = "tls.ech.keys"
	info, err := os.Stat(path)
	switch folder, _ := os.Stat(filepath.Dir(path)); {
	case errors.Is(err, fs.ErrNotExist) && folder == nil:
		r.add(key, "there is no folder "+filepath.Dir(path), "make it, and let the node write there")
	case errors.Is(err, fs.ErrNotExist): // the node makes it
	case err != nil || openable(path) != nil:
		bad := missingFile(path, cmp.Or(err, openable(path)))
		r.add(key, bad.message, bad.remedy)
	case info.Mode().Perm()&0o077 != 0:
		r.add(key, "others may have read the keys: the mode is "+modeOf(info), "delete the file, or chmod 0600 it if nobody has")
	case !holdsKeysOfECH(path):
		r.add(key, "there are no pairs of PRIVATE KEY and ECHCONFIG in "+path, "delete the file, and the node starts with a new key")
	}
}

// holdsKeysOfECH reports whether the file is made of pairs as RFC 9934 section 3
// has them.
func holdsKeysOfECH(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for pairs := 0; ; pairs++ {
		secret, rest := pem.Decode(text)
		if secret == nil {
			return pairs > 0
		}
		list, rest := pem.Decode(rest)
		if list == nil || secret.Type != "PRIVATE KEY" || list.Type != "ECHCONFIG" {
			return false
		}
		key, err := x509.ParsePKCS8PrivateKey(secret.Bytes)
		if _, ok := key.(*ecdh.PrivateKey); err != nil || !ok {
			return false
		}
		text = rest
	}
}

// eachPair visits the certificates by the names of their groups.
func eachPair(c edge.TLSConfig, visit func(group string, p edge.CertificateConfig)) {
	for i, p := range c.Pairs() {
		switch {
		case c.Cert == "":
			visit(index("tls.certificates", i), p)
		case i == 0:
			visit("tls", p)
		default:
			visit(index("tls.certificates", i-1), p)
		}
	}
}

func loadPair(cert, key string) (*x509.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return pair.Leaf, nil
}

// holds reports whether the file has a block of PEM of the kind.
func holds(path, kind string) bool {
	data, err := os.ReadFile(path)
	for err == nil {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return false
		}
		if block.Type == kind || strings.HasSuffix(block.Type, " "+kind) && block.Type != "ENCRYPTED "+kind {
			return true
		}
	}
	return false
}

func dateOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// renewBy is how long before its end a certificate should have been renewed:
// those that live for 90 days are, by custom, after 60.
const renewBy = 14 * 24 * time.Hour

// warnCertificates looks at the certificates as visitors will.
func warnCertificates(c *Config, r *report) {
	if c.Edge.TLS.SelfSigned {
		warnSelfSigned(c.Sites, r)
		return
	}
	var leaves []*x509.Certificate
	groups := map[*x509.Certificate]string{}
	eachPair(c.Edge.TLS, func(group string, p edge.CertificateConfig) {
		leaf, err := loadPair(p.Cert, p.Key)
		if err != nil {
			return // gone since it was validated; the listeners will say so
		}
		leaves = append(leaves, leaf)
		groups[leaf] = group
		warnPair(leaf, p, group, r)
	})
	for _, leaf := range edge.ShownRSA(leaves) {
		r.warn(groups[leaf]+".key", "this is an RSA key: "+edge.RSACost,
			"get a certificate with an ECDSA P-256 key, and list this one beside it if old clients need it")
	}
	none := func(host string) bool {
		return !slices.ContainsFunc(leaves, func(leaf *x509.Certificate) bool { return covered(leaf, host) })
	}
	if name := c.Edge.TLS.ECH.PublicName; name != "" && none(name) {
		r.warn("tls.ech.public_name", "no certificate of tls covers "+name, "get one that does; browsers whose ECH record is old fail without")
	}
	eachHost(c.Sites, func(key, host string) {
		if none(host) {
			r.warn(key, "no certificate of tls covers "+host, "get one that does; browsers refuse the others")
		}
	})
}

func warnPair(leaf *x509.Certificate, p edge.CertificateConfig, group string, r *report) {
	now := time.Now()
	switch {
	case now.Before(leaf.NotBefore):
		r.warn(group+".cert", "the certificate is not valid before "+dateOf(leaf.NotBefore), "wait, or set the clock of this machine")
	case now.Add(renewBy).After(leaf.NotAfter):
		r.warn(group+".cert", "the certificate expires on "+dateOf(leaf.NotAfter), "renew it now; the node takes the new file by itself")
	}
	if info, err := os.Stat(p.Key); err == nil && info.Mode().Perm()&0o007 != 0 {
		r.warn(group+".key", fmt.Sprintf("everyone on this machine may read the key: its mode is %s", modeOf(info)), "chmod 0640 "+p.Key)
	}
}

func modeOf(info fs.FileInfo) string { return fmt.Sprintf("%04o", info.Mode().Perm()) }

// covered reports whether visitors of the host accept the certificate. A
// wildcard of a site is covered by the same wildcard only.
func covered(leaf *x509.Certificate, host string) bool {
	return host == "default" || slices.Contains(leaf.DNSNames, host) || leaf.VerifyHostname(strings.Trim(host, "[]")) == nil
}

// warnSelfSigned points at the first host that visitors from outside would ask
// for.
func warnSelfSigned(sites []edge.SiteConfig, r *report) {
	said := false
	eachHost(sites, func(_, host string) {
		if !said && public(host) {
			said = true
			r.warn("tls.self_signed", "browsers refuse a self-signed certificate for "+host, "set tls.cert and tls.key before visitors come")
		}
	})
}

// reserved are the names of RFC 2606 and RFC 6762 that nobody outside can
// resolve, and those that private networks use.
var reserved = []string{"example", "example.com", "example.net", "example.org", "test", "invalid", "localhost", "local", "internal", "home.arpa"}

// public reports whether the host is a name of the open network.
func public(host string) bool {
	if !strings.Contains(host, ".") || strings.Trim(host, "0123456789.") == "" {
		return false // a name of one label, or an address
	}
	return !slices.ContainsFunc(reserved, func(zone string) bool {
		return host == zone || strings.HasSuffix(host, "."+zone)
	})
}

func eachHost(sites []edge.SiteConfig, visit func(key, host string)) {
	for i, site := range sites {
		for j, host := range site.Hosts {
			visit(index(index("sites", i)+".hosts", j), host)
		}
	}
}
