package remote

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SignatureField is the field of a request that says who it is from.
const SignatureField = "X-Spillway-Signature"

// LeastKey is the length of the shortest key that is taken, in bytes: a shorter one
// could be found by trying.
const LeastKey = 32

// Sign puts the signature of a request with that body into its header:
//
//	v1,KEY,TIME,NONCE,MAC
//
// KEY tells keys apart while one replaces the other: the first 8 digits of the
// HMAC of "key". TIME is in seconds since 1970, NONCE differs from request to
// request, and MAC is the HMAC of the method, the path with its query, the host,
// TIME, NONCE and the SHA-256 of the body, a line each, without a newline at the
// end. All sums are SHA-256 in lower-case hexadecimal. Who checks it should refuse
// what is older or newer than five minutes, and compare in constant time.
func Sign(r *http.Request, body []byte, key string, now time.Time) {
	at, nonce := strconv.FormatInt(now.Unix(), 10), rand.Text()
	content := sha256.Sum256(body)
	lines := []string{r.Method, r.URL.RequestURI(), cmp.Or(r.Host, r.URL.Host), at, nonce, hex.EncodeToString(content[:])}
	sum := mac(key, strings.Join(lines, "\n"))
	r.Header.Set(SignatureField, strings.Join([]string{"v1", mac(key, "key")[:8], at, nonce, sum}, ","))
}

func mac(key, text string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}
