package remote

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCredentialAddressesAreDenied(t *testing.T) {
	f := func(address string, denied bool) {
		t.Helper()
		if err := Deny("tcp", address, nil); errors.Is(err, ErrMetadata) != denied {
			t.Errorf("%s: %v", address, err)
		}
	}
	f("169.254.169.254:80", true)
	f("169.254.0.23:80", true)
	f("[::ffff:169.254.169.254]:80", true)
	f("[fe80::1%eth0]:80", true)
	f("[fd00:ec2::254]:80", true)
	f("[fd00:ec2::23]:80", true)
	f("[fd20:ce::254]:80", true)
	f("100.100.100.200:80", true)
	f("168.63.129.16:80", true)
	f("192.0.0.192:80", true)
	f("[::ffff:168.63.129.16]:80", true)
	f("[64:ff9b::169.254.169.254]:80", true)
	f("[64:ff9b::168.63.129.16]:80", true)
	f("[64:ff9b::192.0.2.1]:443", false)
	f("127.0.0.1:80", false)
	f("10.0.0.1:443", false)
	f("[2001:db8::1]:443", false)
}

func TestSecretsFollowTheirFile(t *testing.T) {
	t.Setenv("FUNCTION_KEY", "from the environment")
	path := filepath.Join(t.TempDir(), "key")
	write := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n", time.Hour)
	secrets := map[string]*Secret{}
	for _, value := range []string{"file:" + path, "env:FUNCTION_KEY", "as it is"} {
		s, err := NewSecret(value)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(value, ":")
		secrets[kind] = s
	}
	now := time.Now()
	expect := func(name, want string) {
		t.Helper()
		if got := secrets[name].Value(now); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	expect("file", "one")
	expect("env", "from the environment")
	expect("as it is", "as it is")
	write("two", time.Minute)
	expect("file", "one") // looked at a moment ago
	now = now.Add(Recheck)
	expect("file", "two")
	write("three\r\nX-Evil: 1", 0)
	now = now.Add(Recheck)
	expect("file", "two")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(Recheck)
	expect("file", "two")
}

func TestSecretsThatAreNone(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		if _, err := NewSecret(value); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: error %v, want %q", value, err, want)
		}
	}
	f("env:NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE is not set")
	f("file:/no/such/file", "no such file")
	f("canary\r\nx: y", "control character")
}

// TestSignature checks a signature by the words of its documentation, and that it
// covers all that it says.
func TestSignature(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	now := time.Unix(1_800_000_000, 5)
	sign := func(method, url, host, body, key string) string {
		r := httptest.NewRequest(method, url, nil)
		r.Host = host
		Sign(r, []byte(body), key, now)
		return r.Header.Get(SignatureField)
	}
	sum := func(text string) string {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(text))
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	got := strings.Split(sign("POST", "https://a.example/scale?x=1", "a.example", "body", key), ",")
	if len(got) != 5 || got[0] != "v1" || got[1] != sum("key")[:8] || got[2] != "1800000000" || len(got[3]) < 16 {
		t.Fatalf("%q", got)
	}
	want := sum(fmt.Sprintf("POST\n/scale?x=1\na.example\n1800000000\n%s\n%x", got[3], sha256.Sum256([]byte("body"))))
	if got[4] != want {
		t.Errorf("the signature is %s, want %s", got[4], want)
	}
	again := strings.Split(sign("POST", "https://a.example/scale?x=1", "a.example", "body", key), ",")
	if again[3] == got[3] || again[4] == got[4] {
		t.Error("two requests have one nonce")
	}
	if other := strings.Split(sign("POST", "https://a.example/scale?x=1", "a.example", "body", key+"x"), ","); other[1] == got[1] {
		t.Error("two keys have one name")
	}
}
