package functions

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signatureLife is how old or how far ahead a signature may be, as at AWS.
const signatureLife = 5 * time.Minute

// A denial says why a caller is not accepted.
type denial struct{ kind, message string }

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/, ]+)/(\d{8})/([a-z0-9-]+)/lambda/aws4_request, ` +
	`SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}$`)

// authenticate checks the signature of a call, version 4, if the emulator has a
// key. It signs what it got anew, with the fields that the caller says it signed.
func (e *Emulator) authenticate(r *http.Request, payload []byte) *denial {
	if e.c.AccessKey == "" {
		return nil
	}
	given := r.Header.Get("Authorization")
	m := authorization.FindStringSubmatch(given)
	if m == nil {
		return &denial{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	signed := strings.Split(m[4], ";")
	switch {
	case m[1] != e.c.AccessKey:
		return &denial{"UnrecognizedClientException", "The security token included in the request is invalid."}
	case err != nil || m[2] != at.Format("20060102") || !slices.Contains(signed, "host") || !slices.Contains(signed, "x-amz-date"):
		return &denial{"IncompleteSignatureException", "The date, the scope or the signed headers of the signature are incomplete."}
	case time.Since(at).Abs() > signatureLife:
		return &denial{"InvalidSignatureException", "Signature expired or not yet current: " + at.Format("20060102T150405Z")}
	}
	if !hmac.Equal([]byte(given), []byte(e.signature(r, payload, signed, m[3], at))) {
		return &denial{"InvalidSignatureException", "The request signature we calculated does not match the signature you provided."}
	}
	return nil
}

func (e *Emulator) signature(r *http.Request, payload []byte, signed []string, region string, at time.Time) string {
	again := &http.Request{Method: r.Method, URL: new(*r.URL), Host: r.Host, Header: http.Header{}}
	for _, name := range signed {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			again.Header[canonical] = r.Header[canonical]
		}
	}
	hash := sha256.Sum256(payload)
	key := aws.Credentials{AccessKeyID: e.c.AccessKey, SecretAccessKey: e.c.SecretKey}
	if v4.NewSigner().SignHTTP(r.Context(), key, again, hex.EncodeToString(hash[:]), "lambda", region, at) != nil {
		return ""
	}
	return again.Header.Get("Authorization")
}
