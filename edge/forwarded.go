package edge

import (
	"net/http"
	"net/netip"
	"strings"
)

// forwardedFor returns the last address of X-Forwarded-For that no trusted proxy
// answers for, or of Forwarded (RFC 7239) when there is none of those. What
// stands before it was written by the client and proves nothing. A hop whose
// address nobody can tell ends the search at the proxy that told of it.
//
// Only what one field says counts: two that were written by different proxies
// cannot be put in order.
func forwardedFor(h http.Header, peer netip.Addr, proxies []netip.Prefix) netip.Addr {
	field, lastOf, read := h["X-Forwarded-For"], strings.LastIndexByte, nodeAddr
	if len(field) == 0 {
		field, lastOf, read = h["Forwarded"], lastUnquoted, elementAddr
	}
	addr, list := peer, strings.Join(field, ",")
	for more := true; more; {
		var member string
		if member, list, more = cutLast(list, lastOf(list, ',')); member == "" {
			continue // empty members are nothing (RFC 9110 section 5.6.1.2)
		}
		hop := read(member)
		if !hop.IsValid() {
			return addr
		}
		if addr = hop; !within(addr, proxies) {
			return addr
		}
	}
	return addr
}

// cutLast cuts a list at the last of its separators, which is at i.
func cutLast(list string, i int) (last, before string, more bool) {
	return strings.Trim(list[i+1:], " \t"), list[:max(i, 0)], i >= 0
}

// lastUnquoted returns the place of the last separator that is in no quoted
// string, or -1. It looks from the end, which the nearest proxy wrote: a quote
// that a client never closes hides nothing behind it.
func lastUnquoted(s string, separator byte) int {
	quoted := false
	for i := len(s) - 1; i >= 0; i-- {
		switch {
		case s[i] == '"' && (len(s[:i])-len(strings.TrimRight(s[:i], `\`)))%2 == 0:
			quoted = !quoted
		case s[i] == separator && !quoted:
			return i
		}
	}
	return -1
}

// elementAddr returns what a forwarded-element (RFC 7239 section 4) names as
// for. It is not valid if that is unknown, an obfuscated identifier (section 6),
// missing or malformed.
func elementAddr(element string) netip.Addr {
	var addr netip.Addr
	found := false
	for more := true; more; {
		var pair string
		pair, element, more = cutLast(element, lastUnquoted(element, ';'))
		name, value, _ := strings.Cut(pair, "=")
		text, ok := unquote(value)
		isFor := strings.EqualFold(name, "for")
		if !ok || strings.ContainsAny(name, `"\`) || isFor && found { // each parameter stands once
			return netip.Addr{}
		}
		if isFor {
			addr, found = nodeAddr(text), true
		}
	}
	return addr
}

// unquote returns the value of a token or a quoted string (RFC 9110 section
// 5.6.4).
func unquote(value string) (text string, ok bool) {
	inner, quoted := strings.CutPrefix(value, `"`)
	if !quoted {
		return value, !strings.ContainsAny(value, `"\`)
	}
	var b strings.Builder
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == '"':
			return b.String(), i == len(inner)-1
		case c == '\\' && i+1 < len(inner):
			i++
			b.WriteByte(inner[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// nodeAddr returns the address of a node of RFC 7239 section 6, whose IPv6
// addresses are in brackets, or of X-Forwarded-For, whose are usually not. Either
// may have a port. It is not valid for anything else.
func nodeAddr(node string) netip.Addr {
	addr, err := netip.ParseAddr(node)
	if err == nil {
		return plainAddr(addr)
	}
	host, port, hasPort := strings.Cut(node, ":")
	inner, bracketed := strings.CutPrefix(node, "[")
	if bracketed {
		var closed bool
		host, port, closed = strings.Cut(inner, "]")
		if port, hasPort = strings.CutPrefix(port, ":"); !closed || port != "" && !hasPort {
			return netip.Addr{}
		}
	}
	addr, err = netip.ParseAddr(host)
	if err != nil || addr.Is6() != bracketed || hasPort && !isNodePort(port) {
		return netip.Addr{}
	}
	return plainAddr(addr)
}

// isNodePort reports whether s is a port, or stands for one (RFC 7239 section 6).
func isNodePort(s string) bool {
	name, obfuscated := strings.CutPrefix(s, "_")
	if obfuscated {
		return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
			return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
		})
	}
	return 1 <= len(s) && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}
