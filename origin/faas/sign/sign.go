// Package sign signs requests to AWS, with the credentials that the machine
// gives: those of the environment, of the shared configuration, of a web identity,
// of the container or of the instance, in the order of AWS's own programs. It is
// the only user of the AWS SDK: credentials and signatures are not written by hand.
//
// Credentials are loaded when they are first needed and long before they expire,
// by a goroutine of its own that ends after five seconds at the latest. A call
// waits for it only while there are none that still hold. When they cannot be
// loaded, the ones in hand are used to their end, and then nothing is signed.
//
// It never keeps credentials on disk, and never writes them into an error: what a
// source of credentials says about its failure is not passed on.
package sign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A Source says whose credentials are used. The zero value is the machine's own.
type Source struct {
	// Region is where the requests go. Empty means what the environment or the
	// shared configuration says.
	Region string
	// Profile is a part of the shared configuration. Empty means what the
	// environment says, or its default part.
	Profile string
	// RoleARN is a role that is taken on with these credentials; empty is none.
	RoleARN string
}

// A Signer signs requests. It is safe for concurrent use.
type Signer struct {
	source  Source
	v4      *v4.Signer
	correct atomic.Pointer[correction] // nil while this machine's clock is taken for right

	mu      sync.Mutex
	keys    aws.Credentials
	err     error         // why the last load failed
	loading chan struct{} // closed when the load that runs has ended; nil without one
	loaded  time.Time     // when the last load ended
	next    time.Time     // when the next one is due
}

// New returns a signer. It reads the environment and the shared configuration to
// learn the region, and asks nobody.
func New(ctx context.Context, s Source) (*Signer, error) {
	c, err := s.config(ctx)
	if err != nil {
		return nil, err
	}
	s.Region = c.Region
	if s.Region == "" {
		return nil, errors.New("no AWS region is known: set region, or AWS_REGION in the environment")
	}
	return &Signer{source: s, v4: v4.NewSigner()}, nil
}

// Region is where the requests go.
func (s *Signer) Region() string { return s.source.Region }

// Sign signs a request with that body for an AWS service, such as lambda. An error
// means that there are no credentials; ctx bounds how long they are waited for.
func (s *Signer) Sign(ctx context.Context, req *http.Request, service string, body []byte) error {
	keys, err := s.credentials(ctx)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	return s.v4.SignHTTP(ctx, keys, req, hex.EncodeToString(hash[:]), service, s.source.Region, s.now())
}
