package sign

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go"
)

// codes are the reasons of AWS that tell an operator what to do. Others are not
// repeated: an endpoint may answer with anything.
var codes = []string{
	"AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "IDPCommunicationError", "IDPRejectedClaim",
	"InvalidClientTokenId", "InvalidIdentityToken", "MalformedPolicyDocument", "PackedPolicyTooLarge", "RegionDisabledException",
	"RequestExpired", "SignatureDoesNotMatch", "Throttling", "ThrottlingException", "UnauthorizedException", "ValidationError",
}

// reason says why there are no credentials, in words of this package alone. The
// error of a source is free text, and may repeat all that the source has read: the
// output of a credential_process, a line of a file, the body of an answer. It must
// therefore be neither printed nor wrapped.
func reason(err error) error {
	if e, ok := errors.AsType[smithy.APIError](err); ok && slices.Contains(codes, e.ErrorCode()) {
		return fmt.Errorf("it was refused with %s", e.ErrorCode())
	}
	if e, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err); ok {
		return fmt.Errorf("it answered with status %d", e.HTTPStatusCode())
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("the program ended with %s", e.ProcessState)
	}
	if e, ok := errors.AsType[config.SharedConfigProfileNotExistError](err); ok {
		return fmt.Errorf("there is no profile %s", e.Profile)
	}
	if e, ok := errors.AsType[config.SharedConfigLoadError](err); ok {
		return fmt.Errorf("%s cannot be read", e.Filename)
	}
	for _, known := range []error{
		context.DeadlineExceeded, context.Canceled, fs.ErrNotExist, fs.ErrPermission, syscall.ECONNREFUSED, syscall.ECONNRESET,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("it failed, and its own words may hold a secret: aws sts get-caller-identity shows them")
}

// nameOf names the source that the machine's configuration chose.
func nameOf(p aws.CredentialsProvider) string {
	for _, source := range []struct {
		provider aws.CredentialsProvider
		name     string
	}{
		{&processcreds.Provider{}, "credential_process"},
		{&stscreds.WebIdentityRoleProvider{}, "the web identity"},
		{&stscreds.AssumeRoleProvider{}, "the role of the shared configuration"},
		{&ssocreds.Provider{}, "single sign-on"},
		{&endpointcreds.Provider{}, "the container"},
		{&ec2rolecreds.Provider{}, "the instance"},
	} {
		if aws.IsCredentialsProvider(p, source.provider) {
			return source.name
		}
	}
	return "the source in the configuration"
}
