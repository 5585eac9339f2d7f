package scale

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"

	"spillway/origin/remote"
)

// Config says what counts as enough of an origin, and who is told when there is
// too little. Without a webhook nobody is; what is wanted can be read all the same.
type Config struct {
	// Webhook is the URL that messages are posted to: https, or http on this
	// machine. Empty tells nobody.
	Webhook string `koanf:"webhook" format:"url"`
	// Target is the share of what the origin can do that is to be in use. The rest is
	// for what comes in bursts.
	Target float64 `koanf:"target" unit:"ratio" default:"80%" min:"10%" max:"100%"`
	// AtLeast is how long more must have been wanted before anybody is told.
	AtLeast time.Duration `koanf:"at_least" unit:"duration" default:"1m"`
	// Every is the time between two messages.
	Every time.Duration `koanf:"every" unit:"duration" default:"5m" min:"1s"`
	// Secret signs the messages: env:NAME or file:PATH, at least 32 bytes. Empty
	// leaves them unsigned.
	Secret string `koanf:"secret" format:"secret"`
}

// Check reports whether the webhook and its secret are of use, as they are now: if
// not, which setting is wrong, and why.
func (c *Config) Check() (setting string, err error) {
	_, setting, err = newReceiver(c)
	return setting, err
}

// A receiver is who gets the messages. A nil *receiver is nobody.
type receiver struct {
	url    *url.URL
	secret *remote.Secret // nil: unsigned
}

// newReceiver returns the receiver of c, or which setting is wrong, and why. The
// error does not hold what may be a secret.
func newReceiver(c *Config) (r *receiver, setting string, err error) {
	secret, err := newKey(c.Secret)
	if err != nil {
		return nil, "secret", err
	}
	if c.Webhook == "" {
		return nil, "", nil
	}
	u, err := url.Parse(c.Webhook)
	switch {
	case err != nil || u.Host == "":
		return nil, "webhook", errors.New("this is not a URL")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		// Who can change a message on its way can hold it back as well.
		return nil, "webhook", errors.New(
			"this does not begin with https://, and http:// is for this machine, such as 127.0.0.1")
	case strings.ContainsFunc(u.Host, func(c rune) bool { return c > unicode.MaxASCII || c == '%' }):
		// The client would send another name than the one that is signed.
		return nil, "webhook", errors.New("the host has a letter beyond ASCII, which is written as xn--, or a zone")
	}
	return &receiver{u, secret}, "", nil
}

// newKey returns the secret that a reference names, or nil for an empty one.
func newKey(reference string) (*remote.Secret, error) {
	if reference == "" {
		return nil, nil
	}
	if !strings.HasPrefix(reference, "env:") && !strings.HasPrefix(reference, "file:") {
		return nil, errors.New("this is neither env:NAME nor file:PATH, and a secret does not stand in the configuration")
	}
	secret, err := remote.NewSecret(reference)
	if err != nil {
		return nil, err
	}
	if n := len(secret.Value(time.Now())); n < remote.LeastKey {
		return nil, fmt.Errorf("the secret has %d bytes, fewer than %d", n, remote.LeastKey)
	}
	return secret, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
