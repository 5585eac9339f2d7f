package edge

import (
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// redirectTimeout bounds a whole exchange over plain HTTP.
const redirectTimeout = 5 * time.Second

// newRedirect returns the server of plain HTTP. It sends visitors to the same
// host, path and query over HTTPS, and does nothing else.
func newRedirect(hosts func() []string, port int, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:        redirect(hosts, port),
		ReadTimeout:    redirectTimeout,
		WriteTimeout:   redirectTimeout,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(panicsOnly{log.Handler()}, slog.LevelDebug),
	}
	s.SetKeepAlivesEnabled(false) // nothing more is to be had here
	return s
}

// redirect answers requests for the given hosts. Host is the one thing of a
// request that names where to go, and only hosts of the sites are gone to, so
// that the node redirects nobody elsewhere.
func redirect(hosts func() []string, port int) http.Handler {
	suffix := ""
	if port != 443 {
		suffix = ":" + strconv.Itoa(port)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := plainHost(r.Host)
		if host == "" || r.URL.Path == "" || r.URL.Path[0] != '/' {
			http.Error(w, "400 Bad Request", http.StatusBadRequest)
			return
		}
		if !served(hosts(), host) {
			http.Error(w, "421 Misdirected Request", http.StatusMisdirectedRequest)
			return
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		to := "https://" + host + suffix + r.URL.EscapedPath()
		if r.URL.RawQuery != "" || r.URL.ForceQuery {
			to += "?" + r.URL.RawQuery
		}
		w.Header()["Location"] = []string{to}
		// RFC 9110 section 15.4.9: 308 keeps the method and the body. Clients of
		// old know only 301, which does the same for GET and HEAD.
		status := http.StatusPermanentRedirect
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			status = http.StatusMovedPermanently
		}
		w.WriteHeader(status)
	})
}

// plainHost returns the name or address in a Host field, without port and in
// lower case; or nothing, if it is not made of what names and addresses are.
func plainHost(field string) string {
	host := field
	if h, port, err := net.SplitHostPort(field); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
			return ""
		}
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return ""
	}
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:", c)
	}
	if len(host) > 253 || strings.ContainsFunc(host, odd) {
		return ""
	}
	return host
}

// served reports whether a host is one of the sites'.
func served(hosts []string, host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(hosts, func(h string) bool {
		h = strings.ToLower(h)
		return h == host || h == defaultHost || parent != "" && h == "*."+parent
	})
}
