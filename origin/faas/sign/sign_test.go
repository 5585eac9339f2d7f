package sign

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

func newSigner(t *testing.T, s Source) *Signer {
	t.Helper()
	signer, err := New(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func post(target string) *http.Request {
	u, err := url.Parse(target)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &http.Request{Method: "POST", URL: u, Host: u.Host, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: 2}
}

// The bubble's clock starts at midnight of 1 January 2000. The signature was
// calculated by another program, from the published rules of version 4.
func TestSignatureIsExact(t *testing.T) {
	static(t)
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, Source{Region: "eu-central-1"})
		req := post("https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/" +
			"arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Athumb/invocations?Qualifier=live")
		if err := s.Sign(t.Context(), req, "lambda", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		const want = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20000101/eu-central-1/lambda/aws4_request, " +
			"SignedHeaders=content-length;content-type;host;x-amz-date, " +
			"Signature=2672b99a14a5163a7cfa8362f5fe7d0c907a289c2f51a6a8e6b78ff92dce975a"
		if got := req.Header.Get("Authorization"); got != want || req.Header.Get("X-Amz-Date") != "20000101T000000Z" {
			t.Errorf("got\n%s\nwant\n%s\nat %s", got, want, req.Header.Get("X-Amz-Date"))
		}
	})
}

func TestRegion(t *testing.T) {
	f := func(environment, configured, want string) {
		t.Helper()
		bare(t)
		t.Setenv("AWS_REGION", environment)
		s, err := New(t.Context(), Source{Region: configured})
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "set region, or AWS_REGION")):
			t.Errorf("error %v", err)
		case want != "" && (err != nil || s.Region() != want):
			t.Errorf("%q and %q: %v, %v", environment, configured, s, err)
		}
	}
	f("", "", "")
	f("us-east-1", "", "us-east-1")
	f("us-east-1", "eu-central-1", "eu-central-1")
}

func TestProfile(t *testing.T) {
	bare(t)
	file := filepath.Join(t.TempDir(), "config")
	text := "[profile edge]\nregion = eu-north-1\naws_access_key_id = AKIDEDGE\naws_secret_access_key = secret\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	s := newSigner(t, Source{Profile: "edge"})
	keys, err := s.credentials(t.Context())
	if err != nil || s.Region() != "eu-north-1" || keys.AccessKeyID != "AKIDEDGE" {
		t.Errorf("region %s, key %s, %v", s.Region(), keys.AccessKeyID, err)
	}
	if _, err := New(t.Context(), Source{Profile: "gone", Region: "us-east-1"}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a profile that is not there: %v", err)
	}
}

func TestMissingCredentialsSayWhatWasTried(t *testing.T) {
	bare(t)
	s := newSigner(t, Source{Region: "us-east-1"})
	for range 2 { // the second time without asking again
		err := s.Sign(t.Context(), post("https://lambda.us-east-1.amazonaws.com/"), "lambda", nil)
		if err == nil || !strings.Contains(err.Error(), "the environment, the shared configuration, a web identity, the container, the instance") {
			t.Errorf("error %v", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading != nil || time.Until(s.next) <= 0 {
		t.Errorf("the next load is due at %v", s.next)
	}
}

func TestWaitingForCredentialsEndsWithTheCall(t *testing.T) {
	m := newMachine(t, true)
	defer m.open()
	s := machineOf(t, m)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	if err := s.Sign(ctx, post("https://lambda.us-east-1.amazonaws.com/"), "lambda", nil); err == nil {
		t.Error("signed without credentials")
	}
}

func TestClockIsCorrected(t *testing.T) {
	static(t)
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, Source{Region: "us-east-1"})
		sign := func() string {
			t.Helper()
			req := post("https://lambda.us-east-1.amazonaws.com/")
			if err := s.Sign(t.Context(), req, "lambda", nil); err != nil {
				t.Fatal(err)
			}
			return req.Header.Get("X-Amz-Date")
		}
		f := func(off, behind time.Duration, want string) {
			t.Helper()
			if got := s.Correct(time.Now().Add(off)); got != behind {
				t.Errorf("off by %v: %v, want %v", off, got, behind)
			}
			if date := sign(); date != want {
				t.Errorf("off by %v: signed at %s, want %s", off, date, want)
			}
		}
		f(3*time.Minute, 0, "20000101T000000Z")
		f(-time.Hour, -time.Hour, "19991231T230000Z")
		f(-time.Hour, 0, "19991231T230000Z") // known by now: the clock is not the reason
		f(0, 0, "20000101T000000Z")
		f(2*time.Hour, 2*time.Hour, "20000101T020000Z")
		// Someone sets the clock, which the monotonic one does not follow.
		c := *s.correct.Load()
		c.wall = c.wall.Add(-2 * time.Hour)
		s.correct.Store(&c)
		if date := sign(); date != "20000101T000000Z" || s.correct.Load() != nil {
			t.Errorf("signed at %s by a clock that has been set since it was corrected", date)
		}
	})
}
