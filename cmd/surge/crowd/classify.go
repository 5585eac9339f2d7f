package crowd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"syscall"

	"github.com/dunglas/httpsfv"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge/outcome"
)

// Unlabelled is the outcome of an answer without the node's word for it, as from
// a bare origin or a node that was told not to expose it.
const Unlabelled = "unlabelled"

// The classes of errors that only the client can name.
const (
	ClassTimeout     = "timeout"            // the visitor lost patience
	ClassRefused     = "connection-refused" // over QUIC by CONNECTION_REFUSED
	ClassTLS         = "tls"                // the handshake failed, or the certificate
	ClassReset       = "reset"              // the connection or stream broke before the answer was complete
	ClassRejected    = "rejected"           // the request was turned away unread: H3_REQUEST_REJECTED
	ClassProtocol    = "protocol"           // not the protocol asked for
	Class4xx         = "4xx"                // and no word from the node
	Class5xx         = "5xx"                // and no word from the node
	ClassCapped      = "capped"             // not sent: MaxInFlight visitors were present
	ClassNoSocket    = "no-socket"          // not sent: this machine had no socket or port left
	ClassInterrupted = "interrupted"        // the run was ended first
)

// errPatience ends the context of a visitor that waited too long.
var errPatience = errors.New("the visitor lost patience")

// classifyDial names an error that prevented a connection.
func classifyDial(ctx context.Context, err error) string {
	if class := classifyEnd(ctx, err); class != "" {
		return class
	}
	var (
		transport *quic.TransportError
		cert      *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		op        *net.OpError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ClassRefused
	case errors.As(err, &transport) && transport.ErrorCode == quic.ConnectionRefused:
		return ClassRefused
	case errors.As(err, &transport) && transport.ErrorCode.IsCryptoError():
		return ClassTLS
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &alert):
		return ClassTLS
	// crypto/tls reports an alert of the peer as an OpError with this word.
	case errors.As(err, &op) && op.Op == "remote error":
		return ClassTLS
	}
	return ClassReset
}

// classifyExchange names an error after the connection stood.
func classifyExchange(ctx context.Context, err error) string {
	if class := classifyEnd(ctx, err); class != "" {
		return class
	}
	var h3 *http3.Error
	if errors.As(err, &h3) && h3.ErrorCode == http3.ErrCodeRequestRejected {
		return ClassRejected
	}
	// A pool dials in the middle of an exchange.
	if class := classifyDial(ctx, err); class == ClassRefused || class == ClassTLS {
		return class
	}
	return ClassReset
}

// classifyEnd names what can happen at any time: the end of the visitor's patience,
// of the run, or of this machine's means.
func classifyEnd(ctx context.Context, err error) string {
	var timeout net.Error
	switch {
	case errors.Is(context.Cause(ctx), errPatience):
		return ClassTimeout
	case ctx.Err() != nil:
		return ClassInterrupted
	case errors.As(err, &timeout) && timeout.Timeout():
		return ClassTimeout
	case slices.ContainsFunc(noSocket, func(e error) bool { return errors.Is(err, e) }):
		return ClassNoSocket
	}
	return ""
}

var noSocket = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRINUSE, syscall.EADDRNOTAVAIL,
}

// classifyAnswer names a complete answer: by the word of the node, or without one
// by its status.
func classifyAnswer(resp *http.Response) (word, reason, class string, answered bool) {
	answered = resp.StatusCode >= 200 && resp.StatusCode < 400
	if word, reason, ok := parseOutcome(resp.Header.Values("Spillway")); ok {
		return word, reason, "", answered
	}
	switch {
	case answered:
		return Unlabelled, "", "", true
	case resp.StatusCode < 500:
		return "", "", Class4xx, false
	}
	return "", "", Class5xx, false
}

// parseOutcome reads the header field Spillway: a structured field item (RFC 9651
// section 3.3), its value the outcome, with the reason as a parameter. Words that
// are not the node's are not counted as its.
func parseOutcome(field []string) (word, reason string, ok bool) {
	if len(field) == 0 {
		return "", "", false
	}
	item, err := httpsfv.UnmarshalItem(field)
	if err != nil {
		return "", "", false
	}
	token, _ := item.Value.(httpsfv.Token)
	if !slices.Contains(outcome.All, outcome.Outcome(token)) {
		return "", "", false
	}
	if v, found := item.Params.Get("reason"); found {
		t, _ := v.(httpsfv.Token)
		reason = string(t)
	}
	return string(token), reason, true
}
