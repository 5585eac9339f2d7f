package edge

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
)

// A selection finds the certificate for the name that a visitor asks for. It
// does so by a map: crypto/tls would try one certificate after the other, which
// a node with a thousand of them would feel in every handshake.
type selection struct {
	// names holds the certificates for a name, or for *.name, those that sign
	// fastest first.
	names map[string][]*tls.Certificate
	// standard is the default certificate, with those for the same names.
	standard []*tls.Certificate
}

// newSelection returns a selection out of one or more certificates, of which
// the first is the default one.
func newSelection(pairs []*certPair) *selection {
	s := &selection{names: map[string][]*tls.Certificate{}}
	for _, p := range pairs {
		for _, name := range p.cert.Leaf.DNSNames {
			name = strings.ToLower(name)
			s.names[name] = append(s.names[name], p.cert)
		}
		if p == pairs[0] || sameNames(p.cert.Leaf, pairs[0].cert.Leaf) {
			s.standard = append(s.standard, p.cert)
		}
	}
	for _, certs := range s.names {
		slices.SortStableFunc(certs, bySpeed)
	}
	slices.SortStableFunc(s.standard, bySpeed)
	return s
}

// pick returns the best certificate that the visitor can verify: one for the
// very name, for *.name, or the default one. When there is none the handshake
// fails, and whose it was shows in the alert.
func (s *selection) pick(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	_, parent, _ := strings.Cut(name, ".")
	able := *hello
	able.ServerName = "" // the map has compared the names, and the default has none in common
	var first *tls.Certificate
	for _, certs := range [][]*tls.Certificate{s.names[name], s.names["*."+parent], s.standard} {
		for _, cert := range certs {
			if able.SupportsCertificate(cert) == nil {
				return cert, nil
			}
			if first == nil {
				first = cert
			}
		}
	}
	return first, nil
}

func isRSA(leaf *x509.Certificate) bool {
	_, ok := leaf.PublicKey.(*rsa.PublicKey)
	return ok
}

// bySpeed puts RSA last: it signs twenty times slower than ECDSA.
func bySpeed(a, b *tls.Certificate) int {
	switch rsaA, rsaB := isRSA(a.Leaf), isRSA(b.Leaf); {
	case rsaA == rsaB:
		return 0
	case rsaB:
		return -1
	}
	return 1
}

// RSACost is what a certificate that ShownRSA returns costs.
const RSACost = "each new visitor costs 0.8 to 1.5 ms more CPU than with ECDSA P-256"

// ShownRSA returns the certificates with RSA keys that a selection has for visitors of
// today: those for a name that none with another key is for, or for no name at all.
func ShownRSA(leaves []*x509.Certificate) (shown []*x509.Certificate) {
	fast := map[string]bool{}
	for _, leaf := range leaves {
		for _, name := range leaf.DNSNames {
			name = strings.ToLower(name)
			fast[name] = fast[name] || !isRSA(leaf)
		}
	}
	slow := func(name string) bool { return !fast[strings.ToLower(name)] }
	for _, leaf := range leaves {
		if isRSA(leaf) && (len(leaf.DNSNames) == 0 || slices.ContainsFunc(leaf.DNSNames, slow)) {
			shown = append(shown, leaf)
		}
	}
	return shown
}

// sameNames reports whether two certificates are for the same names, such as
// the ECDSA and the RSA one of a site.
func sameNames(a, b *x509.Certificate) bool {
	return slices.Equal(slices.Sorted(slices.Values(a.DNSNames)), slices.Sorted(slices.Values(b.DNSNames)))
}
