package web

import (
	"errors"
	"fmt"
	"net/http"

	"spillway/origin/remote"
)

// newSecrets resolves the configured headers.
func newSecrets(headers map[string]string) (map[string]*remote.Secret, error) {
	secrets := make(map[string]*remote.Secret, len(headers))
	for name, value := range headers {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Host":
			return nil, errors.New("header Host is set by the key host")
		case "Content-Length", "Transfer-Encoding", "Connection":
			return nil, fmt.Errorf("header %s is the client's own", name)
		}
		s, err := remote.NewSecret(value)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		secrets[canonical] = s
	}
	return secrets, nil
}
