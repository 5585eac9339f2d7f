package functions

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func TestCallsMustBeSigned(t *testing.T) {
	const payload = `{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"GET"}}}`
	e := newEmulator(t, Config{AccessKey: "AKID", SecretKey: "secret"})
	f := func(id, secret, signed string, at time.Time, spoil func(*http.Request), status int, kind string) {
		t.Helper()
		r := httptest.NewRequest("POST", thumbPath+"?Qualifier=live", strings.NewReader(payload))
		hash := sha256.Sum256([]byte(signed))
		err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: "token"},
			r, hex.EncodeToString(hash[:]), "lambda", "eu-central-1", at)
		if err != nil {
			t.Fatal(err)
		}
		if spoil != nil {
			spoil(r)
		}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != status || w.Header().Get("X-Amzn-Errortype") != kind {
			t.Errorf("%d %s %s, want %d %s", w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body, status, kind)
		}
	}
	now := time.Now()
	f("AKID", "secret", payload, now, nil, 200, "")
	f("AKID", "secret", payload, now, func(r *http.Request) { r.Header.Set("User-Agent", "other") }, 200, "") // is not signed
	f("AKID", "wrong", payload, now, nil, 403, "InvalidSignatureException")
	f("AKID", "secret", payload+" ", now, nil, 403, "InvalidSignatureException")
	f("AKID", "secret", payload, now.Add(-time.Hour), nil, 403, "InvalidSignatureException")
	f("AKID", "secret", payload, now, func(r *http.Request) { r.URL.RawQuery = "Qualifier=other" }, 403, "InvalidSignatureException")
	f("AKID", "secret", payload, now, func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "other") }, 403, "InvalidSignatureException")
	f("OTHER", "secret", payload, now, nil, 403, "UnrecognizedClientException")
	f("AKID", "secret", payload, now, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationTokenException")
	f("AKID", "secret", payload, now, func(r *http.Request) { r.Header.Set("X-Amz-Date", "today") }, 403, "IncompleteSignatureException")
	if n := e.Stats().Arrived; n != 2 {
		t.Errorf("%d calls were let in, want 2", n)
	}
}
