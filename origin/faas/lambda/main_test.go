package lambda

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"spillway/cmd/surge/functions"
	"spillway/edge/leaktest"
	"spillway/origin/faas"
	"spillway/origin/faas/sign"
)

const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// machine gives keys by its environment, and nothing else.
func machine(t *testing.T, id, secret string) {
	t.Helper()
	nowhere := t.TempDir() + "/none"
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "",
		"AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "",
	} {
		t.Setenv(name, value)
	}
}

// emulator is Lambda with a function thumb, which wants signatures.
func emulator(t *testing.T, c functions.Config) (*functions.Emulator, *httptest.Server) {
	t.Helper()
	c.Function, c.AccessKey, c.SecretKey = "thumb", accessKey, secretKey
	e, err := functions.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return e, server
}

func provider(t *testing.T, c Config) *Provider {
	t.Helper()
	return providerOf(t, c, NewAccount(slog.New(slog.DiscardHandler)))
}

func providerOf(t *testing.T, c Config, a *Account) *Provider {
	t.Helper()
	if c.Region == "" {
		c.Region = "eu-central-1"
	}
	p, err := New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func get(path string) *faas.Request {
	return &faas.Request{
		Method: "GET", Host: "img.example.com", Path: path, Header: http.Header{"Accept": {"image/webp"}},
		Client: netip.MustParseAddr("192.0.2.7"), Proto: "https", ID: "id-1",
	}
}

func invoke(t *testing.T, p *Provider, r *faas.Request) (*http.Response, string) {
	t.Helper()
	resp, err := p.Invoke(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func providerSigner(t *testing.T) *sign.Signer {
	t.Helper()
	s, err := sign.New(t.Context(), sign.Source{Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
