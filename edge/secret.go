package edge

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// leastSecret is the length of the shortest secret that is taken: less than
// what is derived from it could be found by trying.
const leastSecret = 32

const makeSecret = "make one with openssl rand -hex 32, and give the same to all nodes"

// ReadSecret returns what env:NAME or file:PATH refers to, without the space
// around it, or nil for an empty reference. Its error is a *FileError.
func ReadSecret(reference string) ([]byte, error) {
	if reference == "" {
		return nil, nil
	}
	var text []byte
	switch source, name, _ := strings.Cut(reference, ":"); source {
	case "env":
		text = []byte(os.Getenv(name))
	case "file":
		var err error
		if text, err = os.ReadFile(name); err != nil {
			return nil, &FileError{name, errors.Unwrap(err).Error(), unreadable(err, "the secret")}
		}
		// A group may read it: that is how several services share it.
		if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o007 != 0 {
			return nil, &FileError{
				name, fmt.Sprintf("the secret has mode %04o, so that everybody on the machine may have read it", info.Mode().Perm()),
				"chmod 640 it, and " + makeSecret + " unless nobody has",
			}
		}
	default:
		// What is no reference may be the secret, and must not end up in a log.
		return nil, &FileError{"secret", "this is neither env:NAME nor file:PATH", "a secret does not stand in the configuration: write file:/etc/spillway/secrets/NAME"}
	}
	text = bytes.TrimSpace(text)
	if len(text) < leastSecret {
		return nil, &FileError{reference, fmt.Sprintf("the secret has %d bytes, fewer than %d", len(text), leastSecret), makeSecret}
	}
	return text, nil
}

// loadKeys returns the keys that a configuration asks for: derived from its secret, or
// else the node's own.
func loadKeys(c Config, now time.Time) (*keys, error) {
	secret, err := ReadSecret(c.TLS.Secret)
	if err != nil {
		return nil, err
	}
	own, err := openKeys(c.State, now)
	if err != nil || secret == nil {
		return own, err
	}
	k, err := sharedKeys(secret, now)
	if err != nil {
		return nil, err
	}
	// RFC 9000 section 21.11: of nodes that shared this key, one would reset the
	// connections of another for whoever sends it their packets.
	k.file.StatelessReset = own.file.StatelessReset
	return k, nil
}

// sharedKeys derives keys from a secret, the same on all nodes that have it.
func sharedKeys(secret []byte, now time.Time) (*keys, error) {
	token, err := derive(secret, "quic token")
	if err != nil {
		return nil, err
	}
	id, err := derive(secret, "connection ID")
	if err != nil {
		return nil, err
	}
	k := &keys{secret: secret, file: keyFile{Version: keysVersion, Token: token, ConnectionID: id}}
	_, err = k.turn(now)
	return k, err
}

// derive returns the key that a secret makes for one use.
func derive(secret []byte, use string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "spillway shared "+use, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive %s key: %w", use, err)
	}
	return key, nil
}

// turn puts the ticket keys of the day in force, and reports whether the day is
// another one. Days are those of UTC, so that all nodes change alike; the key of
// tomorrow is accepted for nodes whose clock is ahead, or who were polled first.
// A ticket is so good for one to two days, as with keys of the node's own.
func (k *keys) turn(now time.Time) (bool, error) {
	today := now.UTC().Truncate(ticketAge)
	if len(k.file.Tickets) > 0 && k.file.Tickets[0].Made.Equal(today) {
		return false, nil
	}
	var tickets []ticketKey
	for _, day := range []time.Time{today, today.Add(-ticketAge), today.Add(ticketAge)} {
		key, err := derive(k.secret, "ticket "+day.Format(time.DateOnly))
		if err != nil {
			return false, err
		}
		tickets = append(tickets, ticketKey{Key: key, Made: day})
	}
	k.file.Tickets = tickets
	return true, nil
}

// replaceSecret takes a changed secret for tickets into use, which ends the
// resumption of those given before. QUIC's transports keep their token key until
// a restart: a token that is not known costs its owner a round trip.
func (k *keys) replaceSecret(secret []byte, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if bytes.Equal(secret, k.secret) {
		return nil
	}
	k.secret, k.file.Tickets = secret, nil
	_, err := k.turn(now)
	return err
}
