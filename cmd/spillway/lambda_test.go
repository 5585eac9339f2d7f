package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"spillway/cmd/surge/functions"
	"spillway/config"
)

// useCredentials has the AWS SDK find those of the emulator, and no others.
func useCredentials(t *testing.T) {
	t.Helper()
	nowhere := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere,
	} {
		t.Setenv(name, value)
	}
}

// TestLambdaTakesOver asks a node whose origin is gone: Lambda answers, called with
// a signature, and the visitor gets its bytes as they are.
func TestLambdaTakesOver(t *testing.T) {
	useCredentials(t)
	const picture = "\xff\xd8\x00\xfe<&>\r\n"
	emulator, err := functions.New(functions.Config{
		Function: "thumb", AccessKey: "AKIDEXAMPLE", SecretKey: "secret",
		Work: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/jpeg")
			w.Header().Set("X-Seen", r.Method+" "+r.Host+r.URL.RequestURI())
			_, _ = io.WriteString(w, picture)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	platform := httptest.NewServer(emulator)
	defer platform.Close()

	for _, payload := range []string{"2.0", "1.0"} {
		t.Run(payload, func(t *testing.T) {
			dir := t.TempDir()
			file := fmt.Sprintf(`
listen: 127.0.0.1:0
http: off
admin: unix:%s/a.sock
state: ""
log: {access: off}
tls: {self_signed: true}
budgets: {spill: {per_hour: $1}}
origins: {app: {servers: ["http://127.0.0.1:1"]}}
functions: {thumb: {provider: lambda, function: "thumb:live", region: eu-central-1, endpoint: %q, payload: %q, budget: spill}}
sites: [{hosts: [localhost], routes: [{origin: app, overflow: {to: [thumb]}}]}]
`, dir, platform.URL, payload)
			c, err := config.Parse(filepath.Join(dir, "spillway.yaml"), []byte(file), nil)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := runNode(t, c)
			client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			defer client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+n.listeners.Addr().String()+"/a%2Fb?q=1&q=2", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "localhost"
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 200 || string(body) != picture || resp.Header.Get("X-Seen") != "GET localhost/a%2Fb?q=1&q=2" {
				t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
			}
			s := n.parts.functions["thumb"].State()
			if s.OK != 1 || s.CostUSD <= 0 || s.PricedAs != "AWS Lambda x86, list price of 2025" {
				t.Errorf("state %+v", s)
			}
		})
	}
}
