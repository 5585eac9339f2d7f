package edge

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// Code points of Encrypted Client Hello (RFC 9849 section 4) and of the public
// key encryption that it uses (RFC 9180 section 7).
const (
	echVersion  = 0xfe0d
	kemX25519   = 0x0020 // DHKEM(X25519, HKDF-SHA256)
	kdfSHA256   = 0x0001
	aeadAES128  = 0x0001
	aeadChaCha  = 0x0003
	echLongName = 64 // hosts are padded to this length, so that theirs tells nothing
)

// echKept is how many keys are tried. Browsers send a hello that looks encrypted
// even to nodes that never asked for it, and each key tried on it costs a key
// exchange.
const echKept = 3

// echKeys are the keys of Encrypted Client Hello. The first is published, the
// others are accepted from visitors who still know them from the DNS.
type echKeys struct {
	log   *slog.Logger
	name  string // public
	path  string // empty keeps them in memory only
	stamp fileStamp
	keys  []tls.EncryptedClientHelloKey
}

// openECH reads the keys, or makes them. It returns nil where there is no public
// name.
func openECH(c ECHConfig, state string, log *slog.Logger) (*echKeys, error) {
	if c.PublicName == "" {
		return nil, nil
	}
	e := &echKeys{log: log, name: c.PublicName, path: c.Keys}
	if e.path == "" && state != "" {
		e.path = filepath.Join(state, "ech.pem")
	}
	if e.path != "" {
		if err := e.read(); !errors.Is(err, fs.ErrNotExist) {
			return e, err
		}
	}
	text, err := makeECH(c.PublicName)
	if err != nil {
		return nil, fmt.Errorf("tls.ech: make key: %w", err)
	}
	if e.path != "" {
		if err := writeSecret(e.path, text); err != nil {
			return nil, fmt.Errorf("tls.ech: keep key: %w", err)
		}
		e.stamp = stampOf(e.path)
	}
	e.keys, err = parseECH(text, c.PublicName)
	return e, err
}

// read takes the keys of the file into use, before those that it had. On an
// error they stay as they were.
func (e *echKeys) read() error {
	e.stamp = stampOf(e.path)
	info, err := os.Stat(e.path)
	if err != nil {
		return fmt.Errorf("tls.ech: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("tls.ech: %s has mode %04o and others may have read it: delete it, or chmod 600 it if nobody has", e.path, mode)
	}
	text, err := os.ReadFile(e.path)
	if err != nil {
		return fmt.Errorf("tls.ech: %w", err)
	}
	keys, err := parseECH(text, e.name)
	if err != nil {
		return fmt.Errorf("tls.ech: %s: %w: delete the file to start with a new key", e.path, err)
	}
	for _, old := range e.keys {
		known := func(k tls.EncryptedClientHelloKey) bool { return bytes.Equal(k.Config, old.Config) }
		if !slices.ContainsFunc(keys, known) {
			old.SendAsRetry = false
			keys = append(keys, old)
		}
	}
	e.keys = keys[:min(len(keys), echKept)]
	return nil
}

// poll reads the file again if it has changed, and reports whether the keys are
// others now. A file that does not load is complained of once per change.
func (e *echKeys) poll() bool {
	if e == nil || e.path == "" || e.stamp == stampOf(e.path) {
		return false
	}
	if err := e.read(); err != nil {
		e.log.Warn("the changed ECH keys do not load, the old ones stay", "error", err)
		return false
	}
	e.announce()
	return true
}

// announce says what to publish. Without it in the DNS nobody encrypts.
func (e *echKeys) announce() {
	e.log.Info("Encrypted Client Hello: publish this in the HTTPS records of the hosts",
		"public_name", e.name, "ech", echList(e.keys))
}

// accepted returns the keys to try, the published one first.
func (e *echKeys) accepted() []tls.EncryptedClientHelloKey {
	if e == nil {
		return nil
	}
	return e.keys
}

// echList returns the list that is published, in base64 as an HTTPS record has
// it (RFC 9848 section 3); or nothing, if there are no keys.
func echList(keys []tls.EncryptedClientHelloKey) string {
	var list []byte
	for _, k := range keys {
		if k.SendAsRetry {
			list = append(list, k.Config...)
		}
	}
	if list == nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(vector16(list))
}

// makeECH returns a new key and its configuration as PEM (RFC 9934 section 3).
func makeECH(name string) ([]byte, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 1)
	rand.Read(id)
	list := vector16(echConfig(id[0], key.PublicKey().Bytes(), name))
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "ECHCONFIG", Bytes: list})...), nil
}

// echConfig returns an ECHConfig (RFC 9849 section 4).
func echConfig(id byte, public []byte, name string) []byte {
	var suites []byte
	for _, aead := range []uint16{aeadAES128, aeadChaCha} {
		suites = binary.BigEndian.AppendUint16(suites, kdfSHA256)
		suites = binary.BigEndian.AppendUint16(suites, aead)
	}
	contents := binary.BigEndian.AppendUint16([]byte{id}, kemX25519)
	contents = append(contents, vector16(public)...)
	contents = append(contents, vector16(suites)...)
	contents = append(contents, echLongName, byte(len(name)))
	contents = append(contents, name...)
	contents = append(contents, vector16(nil)...) // extensions
	return append(binary.BigEndian.AppendUint16(nil, echVersion), vector16(contents)...)
}

// vector16 puts a length of two bytes before b.
func vector16(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

var errECHFile = errors.New("not pairs of PRIVATE KEY and ECHCONFIG")

// parseECH reads keys out of PEM: each key is followed by its configuration, and
// the first pair is the published one. The name is what the pairs must be for.
func parseECH(text []byte, name string) ([]tls.EncryptedClientHelloKey, error) {
	var keys []tls.EncryptedClientHelloKey
	for {
		secret, rest := pem.Decode(text)
		if secret == nil {
			break
		}
		list, rest := pem.Decode(rest)
		if list == nil || secret.Type != "PRIVATE KEY" || list.Type != "ECHCONFIG" {
			return nil, errECHFile
		}
		key, err := echKey(secret.Bytes, list.Bytes, name)
		if err != nil {
			return nil, err
		}
		key.SendAsRetry = len(keys) == 0
		keys, text = append(keys, key), rest
	}
	if len(keys) == 0 {
		return nil, errECHFile
	}
	return keys, nil
}

// echKey joins a key with the configuration in the list that it belongs to.
func echKey(secret, list []byte, name string) (tls.EncryptedClientHelloKey, error) {
	var none tls.EncryptedClientHelloKey
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return none, fmt.Errorf("private key: %w", err)
	}
	key, ok := parsed.(*ecdh.PrivateKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return none, errors.New("the private key is not of X25519")
	}
	r := &echReader{b: list}
	for all := (&echReader{b: r.vector(2)}); len(all.b) > 0 && !all.short; {
		raw := all.b
		version, contents := all.number(2), all.vector(2)
		if all.short || version != echVersion {
			continue
		}
		raw = raw[:len(raw)-len(all.b)]
		c := &echReader{b: contents}
		c.number(1)
		if kem, public := c.number(2), c.vector(2); kem != kemX25519 || !bytes.Equal(public, key.PublicKey().Bytes()) {
			continue
		}
		c.vector(2) // suites
		c.number(1)
		public := string(c.vector(1))
		c.vector(2) // extensions
		if c.short || len(c.b) > 0 {
			return none, errors.New("the ECHConfig is damaged")
		}
		if public != name {
			return none, fmt.Errorf("the key is for the public name %q, not for %q", public, name)
		}
		return tls.EncryptedClientHelloKey{Config: raw, PrivateKey: key.Bytes()}, nil
	}
	return none, errors.New("no ECHConfig is for the private key")
}

// An echReader takes numbers and vectors off the front of b. Once there was too
// little, short is true and all is empty.
type echReader struct {
	b     []byte
	short bool
}

func (r *echReader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.short = nil, true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *echReader) number(size int) int {
	n := 0
	for _, b := range r.take(size) {
		n = n<<8 | int(b)
	}
	return n
}

func (r *echReader) vector(size int) []byte { return r.take(r.number(size)) }
