package functions

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// A Platform decides the shape of refusals and errors, and the price.
type Platform string

// The platforms.
const (
	Lambda   Platform = "lambda"
	CloudRun Platform = "cloud-run"
	Azure    Platform = "azure"
	OpenFaaS Platform = "openfaas"
)

var platforms = []Platform{Lambda, CloudRun, Azure, OpenFaaS}

// Config describes an emulated function. The zero value of a field means its
// default, and of a time that it takes none.
type Config struct {
	Platform Platform // Lambda
	// Service is the time of one call in a warm instance. CV is its coefficient of
	// variation: 0 is fixed, otherwise times are lognormal. ColdStart and ColdCV
	// are the same for the start of an instance.
	Service   time.Duration
	CV        float64
	ColdStart time.Duration
	ColdCV    float64
	// IdleTimeout is how long an instance stays without a call. 5m.
	IdleTimeout time.Duration
	// Burst instances may start at once, and Ramp more each second. 1000 and 100,
	// which are Lambda's.
	Burst int
	Ramp  float64
	// Cap bounds the instances, and with one call per instance the calls. 1000.
	Cap int
	// Memory of one instance, in bytes; it is billed. 512MiB.
	Memory int64
	// Body is the size of an answer without Work. 1KiB.
	Body int64
	// Function is the only name that the Invoke API knows. Empty is any.
	Function string
	// AccessKey and SecretKey are what calls of the Invoke API must be signed with.
	// Empty takes any call.
	AccessKey, SecretKey string
	// Work answers the calls. It is padded to the service time.
	Work http.Handler
	Seed uint64 // of all times and failures
}

func (c Config) withDefaults() (Config, error) {
	if c.Platform == "" {
		c.Platform = Lambda
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 5 * time.Minute
	}
	if c.Burst == 0 {
		c.Burst = 1000
	}
	if c.Ramp == 0 {
		c.Ramp = 100
	}
	if c.Cap == 0 {
		c.Cap = 1000
	}
	if c.Memory == 0 {
		c.Memory = 512 << 20
	}
	if c.Body == 0 {
		c.Body = 1 << 10
	}
	switch {
	case (c.AccessKey == "") != (c.SecretKey == ""):
		return c, errors.New("key: want an access key and a secret key")
	case !slices.Contains(platforms, c.Platform):
		return c, fmt.Errorf("platform %q: want one of %v", c.Platform, platforms)
	case c.Service < 0 || c.ColdStart < 0 || c.IdleTimeout < 0:
		return c, errors.New("service, cold start and idle timeout: want 0 or more")
	case !(c.CV >= 0 && c.CV <= 10 && c.ColdCV >= 0 && c.ColdCV <= 10):
		return c, errors.New("cv: want 0 to 10")
	case c.Burst < 0 || !(c.Ramp >= 0) || c.Cap < 0:
		return c, errors.New("burst, ramp and cap: want 0 or more")
	case c.Memory < 1<<20 || c.Body < 0 || c.Body > maxPayload:
		return c, fmt.Errorf("memory: want at least 1MiB; body: want at most %d bytes", maxPayload)
	}
	return c, nil
}
