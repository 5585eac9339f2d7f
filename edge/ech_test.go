package edge

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustECH(t *testing.T, folder string) (*echKeys, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	e, err := openECH(ECHConfig{PublicName: "cover.test"}, folder, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return e, &log
}

func TestECHKeySurvivesARestart(t *testing.T) {
	folder := t.TempDir()
	a, _ := mustECH(t, folder)
	b, _ := mustECH(t, folder)
	if echList(a.keys) == "" || echList(a.keys) != echList(b.keys) || !bytes.Equal(a.keys[0].PrivateKey, b.keys[0].PrivateKey) {
		t.Error("the key differs")
	}
	info, err := os.Stat(filepath.Join(folder, "ech.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if x, _ := mustECH(t, ""); echList(x.keys) == echList(a.keys) {
		t.Error("two nodes without state share a key")
	}
	if off, err := openECH(ECHConfig{}, folder, nil); off != nil || err != nil || off.accepted() != nil || off.poll() {
		t.Errorf("without a public name: %v, %v", off, err)
	}
}

func TestECHRotatesWhenTheFileIsReplaced(t *testing.T) {
	e, log := mustECH(t, t.TempDir())
	if e.poll() {
		t.Error("something happened without a change")
	}
	var lists []string
	for range echKept + 1 {
		lists = append(lists, echList(e.keys))
		old := e.keys[0].Config
		text, err := makeECH("cover.test")
		if err != nil {
			t.Fatal(err)
		}
		replace(t, e.path, text)
		if !e.poll() || !strings.Contains(log.String(), echList(e.keys)) {
			t.Errorf("the new key is not published: %s", log)
		}
		if !e.keys[0].SendAsRetry || e.keys[1].SendAsRetry || !bytes.Equal(e.keys[1].Config, old) {
			t.Error("the key before is not accepted any more, or is published")
		}
	}
	if len(e.keys) != echKept || echList(e.keys) == lists[len(lists)-1] {
		t.Errorf("%d keys are kept, want %d", len(e.keys), echKept)
	}
	before := echList(e.keys)
	log.Reset()
	replace(t, e.path, []byte("broken"))
	first, second := e.poll(), e.poll()
	if first || second || echList(e.keys) != before || strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("a broken file changed the keys, or not one warning: %s", log)
	}
}

func TestECHRefusesBadFiles(t *testing.T) {
	f := func(want string, mode os.FileMode, change func([]byte) []byte) {
		t.Helper()
		folder := t.TempDir()
		e, _ := mustECH(t, folder)
		text, _ := os.ReadFile(e.path)
		if err := os.WriteFile(e.path, change(text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chmod(e.path, mode)
		_, err := openECH(ECHConfig{PublicName: "cover.test"}, folder, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), e.path) || !strings.Contains(err.Error(), "delete") {
			t.Errorf("error %v, want one about %q, the file and what to do", err, want)
		}
	}
	made := func(name string) []byte {
		text, err := makeECH(name)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	f("mode 0644", 0o644, func(b []byte) []byte { return b })
	f("not pairs", 0o600, func([]byte) []byte { return nil })
	f("not pairs", 0o600, func(b []byte) []byte { return b[bytes.Index(b, []byte("-----BEGIN ECH")):] })
	f(`for the public name "other.test"`, 0o600, func([]byte) []byte { return made("other.test") })
	f("no ECHConfig is for the private key", 0o600, func(b []byte) []byte {
		other := made("cover.test")
		return append(b[:bytes.Index(b, []byte("-----BEGIN ECH"))], other[bytes.Index(other, []byte("-----BEGIN ECH")):]...)
	})
}

// What is read is what crypto/tls takes as a key.
func FuzzECHFile(f *testing.F) {
	text, err := makeECH("cover.test")
	if err != nil {
		f.Fatal(err)
	}
	secret, rest := pem.Decode(text)
	list, _ := pem.Decode(rest)
	f.Add(secret.Bytes, list.Bytes)
	f.Add(secret.Bytes, vector16(append([]byte{0xfe, 0x0a, 0, 1, 0}, list.Bytes[2:]...))) // an unknown version before it
	f.Add(secret.Bytes, list.Bytes[:len(list.Bytes)-1])
	f.Add(secret.Bytes, vector16(nil))
	f.Fuzz(func(t *testing.T, secret, list []byte) {
		b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "ECHCONFIG", Bytes: list})...)
		keys, err := parseECH(b, "cover.test")
		if err != nil {
			return
		}
		if len(keys) != 1 || len(keys[0].PrivateKey) != 32 || !bytes.Contains(list, keys[0].Config) {
			t.Errorf("accepted %x", list)
		}
		if again, err := base64.StdEncoding.DecodeString(echList(keys)); err != nil || !bytes.Equal(again, vector16(keys[0].Config)) {
			t.Errorf("published as %x, %v", again, err)
		}
	})
}
