package web

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// recheck is how often a secret's file is looked at. Not a knob: a key that was
// changed is changed within a second.
const recheck = time.Second

// A secret is the value of a configured header. It is never logged.
type secret struct {
	path string // empty if the value cannot change

	mu      sync.Mutex
	text    string
	checked time.Time
	changed time.Time // the file's
}

// newSecrets resolves the configured headers.
func newSecrets(headers map[string]string) (map[string]*secret, error) {
	secrets := make(map[string]*secret, len(headers))
	for name, value := range headers {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Host":
			return nil, errors.New("header Host is set by the key host")
		case "Content-Length", "Transfer-Encoding", "Connection":
			return nil, fmt.Errorf("header %s is the client's own", name)
		}
		s, err := newSecret(value)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		secrets[canonical] = s
	}
	return secrets, nil
}

// newSecret resolves env:NAME and file:PATH; anything else is the value itself.
func newSecret(value string) (*secret, error) {
	if name, ok := strings.CutPrefix(value, "env:"); ok {
		text, set := os.LookupEnv(name)
		if !set {
			return nil, fmt.Errorf("environment variable %s is not set", name)
		}
		return constant(text)
	}
	path, ok := strings.CutPrefix(value, "file:")
	if !ok {
		return constant(value)
	}
	s := &secret{path: path}
	if err := s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

var errControl = errors.New("the value has a control character")

func constant(text string) (*secret, error) {
	if strings.ContainsFunc(text, isControl) {
		return nil, errControl
	}
	return &secret{text: text}, nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// value is the secret as it is now. A file that cannot be read any more leaves
// the last value in force: the key may still be good.
func (s *secret) value(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path != "" && now.Sub(s.checked) >= recheck {
		s.checked = now
		if info, err := os.Stat(s.path); err == nil && !info.ModTime().Equal(s.changed) {
			_ = s.read()
		}
	}
	return s.text
}

// read takes the value from the file, without the newline at its end.
func (s *secret) read() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return err
	}
	text := strings.TrimRight(string(data), "\r\n")
	if strings.ContainsFunc(text, isControl) {
		return errControl
	}
	s.text, s.changed = text, info.ModTime()
	return nil
}
