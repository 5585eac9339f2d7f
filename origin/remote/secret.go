package remote

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Recheck is how often a secret's file is looked at. Not a knob: a key that was
// changed is changed within a second.
const Recheck = time.Second

// A Secret is a text that the node shows to others and never logs. It is safe for
// concurrent use.
type Secret struct {
	path string // empty if the value cannot change

	mu      sync.Mutex
	text    string
	checked time.Time
	changed time.Time // the file's
}

// NewSecret resolves env:NAME and file:PATH; anything else is the value itself.
func NewSecret(value string) (*Secret, error) {
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
	s := &Secret{path: path}
	if err := s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

var errControl = errors.New("the value has a control character")

func constant(text string) (*Secret, error) {
	if strings.ContainsFunc(text, isControl) {
		return nil, errControl
	}
	return &Secret{text: text}, nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// Value is the secret as it is now. A file that cannot be read any more leaves
// the last value in force: the key may still be good.
func (s *Secret) Value(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path != "" && now.Sub(s.checked) >= Recheck {
		s.checked = now
		if info, err := os.Stat(s.path); err == nil && !info.ModTime().Equal(s.changed) {
			_ = s.read()
		}
	}
	return s.text
}

// read takes the value from the file, without the newline at its end.
func (s *Secret) read() error {
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
