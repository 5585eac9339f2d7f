package sign

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// No source may get a secret into an error, whatever it fails of. What is wrong is
// said all the same.
func TestSecretsStayOutOfErrors(t *testing.T) {
	const canary = "kEyOfTheCanaryThatMustNotBeSeen0123456789"
	answering := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	shared := func(t *testing.T, format string, a ...any) {
		t.Helper()
		t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\n"+fmt.Sprintf(format, a...)+"\n"))
	}
	process := func(t *testing.T, script string) {
		t.Helper()
		shared(t, "credential_process = /bin/sh %s", write(t, "script", script))
	}
	for _, c := range []struct {
		name, says string
		set        func(t *testing.T)
	}{
		{"half of the environment", "the instance", func(t *testing.T) { t.Setenv("AWS_SECRET_ACCESS_KEY", canary) }},
		{"a word in the environment", "read AWS configuration", func(t *testing.T) { t.Setenv("AWS_MAX_ATTEMPTS", canary) }},
		{"half of the shared configuration", "", func(t *testing.T) { shared(t, "aws_secret_access_key = %s", canary) }},
		{"a word in the shared configuration", "read AWS configuration", func(t *testing.T) { shared(t, "max_attempts = %s", canary) }},
		{"no shared configuration", "", func(t *testing.T) { shared(t, "[%s", canary) }},
		{"a program that prints no JSON", "credential_process: it failed", func(t *testing.T) { process(t, "echo "+canary) }},
		{"a program of another version", "credential_process: it failed", func(t *testing.T) {
			process(t, `echo '{"Version":2,"SecretAccessKey":"`+canary+`"}'`)
		}},
		{"a program whose time is none", "credential_process: it failed", func(t *testing.T) {
			process(t, `echo '{"Version":1,"AccessKeyId":"a","SecretAccessKey":"`+canary+`","Expiration":"`+canary+`"}'`)
		}},
		{"a program that fails", "exit status 3", func(t *testing.T) { process(t, "echo "+canary+"; exit 3") }},
		{"a container that answers with text", "the container: it failed", func(t *testing.T) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", answering(http.StatusOK, canary)+"/")
		}},
		{"a container that refuses", "the container: it answered with status 400", func(t *testing.T) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", answering(http.StatusBadRequest, `{"code":"`+canary+`","message":"`+canary+`"}`)+"/"+canary+"?key="+canary)
		}},
		{"a container elsewhere", "read AWS configuration", func(t *testing.T) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/"+canary)
		}},
		{"a token of a container", "the container", func(t *testing.T) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", canary+"\n"+canary)
		}},
		{"a web identity that is refused", "the web identity: it was refused with AccessDenied", func(t *testing.T) {
			identity(t, write(t, "token", canary), answering(http.StatusForbidden, refusal("AccessDenied", canary)))
		}},
		{"a web identity that is refused in other words", "the web identity: it answered with status 403", func(t *testing.T) {
			identity(t, write(t, "token", canary), answering(http.StatusForbidden, refusal(canary, canary)))
		}},
		{"a web identity without a token", "the web identity", func(t *testing.T) {
			identity(t, filepath.Join(t.TempDir(), canary), "http://127.0.0.1:1")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bare(t)
			c.set(t)
			s, err := New(t.Context(), Source{Region: "us-east-1"})
			if err == nil {
				_, err = s.credentials(t.Context())
			}
			if err == nil {
				t.Fatal("there are credentials")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, which does not say %q", err, c.says)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, canary) {
					t.Errorf("a secret is in %s", text)
				}
			}
		})
	}
}

// identity is a machine with a web identity, for which sts answers.
func identity(t *testing.T, token, sts string) {
	t.Helper()
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/spillway")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts)
}

func refusal(code, message string) string {
	return "<ErrorResponse><Error><Type>Sender</Type><Code>" + code + "</Code><Message>" + message + "</Message></Error></ErrorResponse>"
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
