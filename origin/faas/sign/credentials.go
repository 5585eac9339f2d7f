package sign

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// How credentials are kept. Not knobs.
const (
	loadTimeout = 5 * time.Second
	retryPause  = 5 * time.Second  // after a load that failed
	doubtPause  = 30 * time.Second // between loads for credentials that AWS refuses
	// What does not expire is read anew all the same: someone may have changed it.
	rereadAfter = 5 * time.Minute
	// What expires is replaced that long before, or after half of its life.
	replaceBefore = 5 * time.Minute
)

// credentials returns those in hand, and has them replaced in the background when
// that is due. Without any that hold it waits for the load.
func (s *Signer) credentials(ctx context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	// A clock that is set ahead ends credentials before their time.
	ended := s.err == nil && s.keys.HasKeys() && !s.hold(s.keys)
	if s.loading == nil && (ended || !time.Now().Before(s.next)) {
		s.loading = make(chan struct{})
		go s.load(s.loading)
	}
	keys, err, loading := s.keys, s.err, s.loading
	s.mu.Unlock()
	if s.hold(keys) {
		return keys, nil
	}
	if loading == nil { // the last load has just failed
		return aws.Credentials{}, err
	}
	select {
	case <-loading:
	case <-ctx.Done():
		return aws.Credentials{}, fmt.Errorf("wait for AWS credentials: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold(s.keys) {
		return s.keys, nil
	}
	return aws.Credentials{}, s.err
}

// hold reports whether AWS may still take the credentials.
func (s *Signer) hold(keys aws.Credentials) bool {
	return keys.HasKeys() && (!keys.CanExpire || s.earlier().Before(keys.Expires))
}

// load replaces the credentials. It starts from nothing, so that files and the
// environment of a container are read again.
func (s *Signer) load(done chan<- struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	keys, err := s.source.load(ctx)
	if err == nil && !s.hold(keys) {
		err = fmt.Errorf("load AWS credentials: those of %s have expired", keys.Source)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.err, s.loading = time.Now(), err, nil
	if err == nil {
		s.keys = keys
		s.next = s.loaded.Add(life(keys, s.earlier(), rand.Float64()))
	} else {
		s.next = s.loaded.Add(retryPause)
	}
	close(done)
}

// life is how long credentials are used before they are replaced; jitter, 0 to 1,
// keeps many nodes from asking in the same moment.
func life(keys aws.Credentials, now time.Time, jitter float64) time.Duration {
	if !keys.CanExpire {
		return time.Duration((1 + jitter) * float64(rereadAfter))
	}
	left := keys.Expires.Sub(now)
	early := time.Duration((1 + jitter) * float64(replaceBefore))
	return max(left-early, left/2, time.Second)
}

// Doubt tells that AWS did not accept the credentials: they are loaded anew at the
// next call, unless that has just been done.
func (s *Signer) Doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && time.Since(s.loaded) >= doubtPause {
		s.next = time.Time{}
	}
}

// config reads the environment and the shared configuration.
func (s Source) config(ctx context.Context) (aws.Config, error) {
	// Credentials are fetched rarely: a connection that is kept would only be one
	// more thing that is open.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}), // it would write to this process's standard error
	}
	if s.Region != "" {
		options = append(options, config.WithRegion(s.Region))
	}
	if s.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.Profile))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return c, fmt.Errorf("read AWS configuration: %w", reason(err))
	}
	return c, nil
}

func (s Source) load(ctx context.Context) (aws.Credentials, error) {
	c, err := s.config(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	provider, name := c.Credentials, nameOf(c.Credentials)
	if s.RoleARN != "" {
		provider = stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), s.RoleARN,
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "spillway" })
		name = "the role, by " + name
	}
	keys, err := provider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("load AWS credentials (asked in turn: the environment, the shared configuration, "+
			"a web identity, the container, the instance): %s: %w", name, reason(err))
	}
	return keys, nil
}
