package origin

import (
	"net/http"
	"net/netip"
	"strings"
)

// setForwarded tells the origin who asked, in both customary forms:
// X-Forwarded-* and Forwarded (RFC 7239). A trusted proxy's are in h already.
func setForwarded(h http.Header, in *http.Request, c Client) {
	addr := c.Addr.Unmap().WithZone("")
	host := c.Host
	if host == "" {
		host = in.Host
	}
	values := make([]string, 4) // one allocation for four fields
	set := func(i int, name, value string) {
		values[i] = value
		h[name] = values[i : i+1 : i+1]
	}
	before, elements := h["X-Forwarded-For"], h["Forwarded"]
	if c.Visitor.IsValid() && c.Visitor != addr {
		// What a proxy said in one of the two forms is said in the other, too.
		if len(before) == 0 {
			before = []string{c.Visitor.String()}
		}
		if len(elements) == 0 {
			elements = []string{element(c.Visitor, "", "")}
		}
	}
	if addr.IsValid() {
		set(0, "X-Forwarded-For", extend(before, addr.String()))
	}
	set(1, "Forwarded", extend(elements, element(addr, host, c.Proto)))
	// These two are about the visitor's own request: a trusted proxy knows
	// better.
	if len(h["X-Forwarded-Proto"]) == 0 && c.Proto != "" {
		set(2, "X-Forwarded-Proto", c.Proto)
	}
	if len(h["X-Forwarded-Host"]) == 0 && host != "" {
		set(3, "X-Forwarded-Host", host)
	}
}

// extend appends a member to a list that may be spread over several fields.
func extend(list []string, member string) string {
	if len(list) == 0 {
		return member
	}
	return strings.Join(list, ", ") + ", " + member
}

// element is one forwarded-element of RFC 7239 section 4.
func element(addr netip.Addr, host, proto string) string {
	b := make([]byte, 0, 128)
	b = append(b, "for="...)
	switch {
	case !addr.IsValid():
		b = append(b, "unknown"...) // RFC 7239 section 6.2
	case addr.Is4():
		b = addr.AppendTo(b)
	default:
		// RFC 7239 section 6: in brackets and quoted.
		b = append(b, `"[`...)
		b = addr.AppendTo(b)
		b = append(b, `]"`...)
	}
	if host != "" {
		b = appendValue(append(b, ";host="...), host)
	}
	if proto != "" {
		b = appendValue(append(b, ";proto="...), proto)
	}
	return string(b)
}

// appendValue appends a token as it is and anything else quoted (RFC 9110
// section 5.6.4).
func appendValue(b []byte, value string) []byte {
	if isToken(value) {
		return append(b, value...)
	}
	b = append(b, '"')
	for i := 0; i < len(value); i++ {
		if c := value[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, value[i])
	}
	return append(b, '"')
}

// isToken follows RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !alphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
