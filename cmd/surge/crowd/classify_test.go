package crowd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

func TestParseOutcome(t *testing.T) {
	f := func(field, word, reason string) {
		t.Helper()
		gotWord, gotReason, ok := parseOutcome([]string{field})
		if ok != (word != "") || gotWord != word || gotReason != reason {
			t.Errorf("%q: got %q, %q, %t", field, gotWord, gotReason, ok)
		}
	}
	f("function; reason=origin-saturated", "function", "origin-saturated")
	f("hit", "hit", "")
	f("hit;reason=fresh;ttl=3", "hit", "fresh")
	f(`hit; reason="a string"`, "hit", "")
	f("", "", "")
	f("hit, origin", "", "")
	f(`"hit"`, "", "")
	f("12", "", "")
	f("surprise", "", "")
	f("hit; reason=", "", "")
	if _, _, ok := parseOutcome(nil); ok {
		t.Error("no field is a word")
	}
}

func TestClassifyAnswer(t *testing.T) {
	f := func(status int, field, word, class string, answered bool) {
		t.Helper()
		resp := &http.Response{StatusCode: status, Header: http.Header{}}
		if field != "" {
			resp.Header.Set("Spillway", field)
		}
		w, _, c, a := classifyAnswer(resp)
		if w != word || c != class || a != answered {
			t.Errorf("%d %q: %q, %q, %t", status, field, w, c, a)
		}
	}
	f(200, "origin", "origin", "", true)
	f(304, "hit", "hit", "", true)
	f(503, "shed; reason=queue-full", "shed", "", false)
	f(404, "origin", "origin", "", false)
	f(200, "", Unlabelled, "", true)
	f(302, "gibberish", Unlabelled, "", true)
	f(404, "", "", Class4xx, false)
	f(500, "", "", Class5xx, false)
}

func TestClassifyErrors(t *testing.T) {
	ctx := t.Context()
	f := func(err error, dial, exchange string) {
		t.Helper()
		err = fmt.Errorf("wrapped: %w", err)
		if got := classifyDial(ctx, err); got != dial {
			t.Errorf("dial: %v is %s, want %s", err, got, dial)
		}
		if got := classifyExchange(ctx, err); got != exchange {
			t.Errorf("exchange: %v is %s, want %s", err, got, exchange)
		}
	}
	f(io.ErrUnexpectedEOF, ClassReset, ClassReset)
	f(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, ClassRefused, ClassRefused)
	f(&net.OpError{Op: "read", Err: syscall.ECONNRESET}, ClassReset, ClassReset)
	f(&net.OpError{Op: "dial", Err: syscall.EADDRNOTAVAIL}, ClassNoSocket, ClassNoSocket)
	f(&net.OpError{Op: "socket", Err: syscall.EMFILE}, ClassNoSocket, ClassNoSocket)
	f(&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, ClassTLS, ClassTLS)
	f(&tls.CertificateVerificationError{Err: errors.New("unknown authority")}, ClassTLS, ClassTLS)
	f(&quic.TransportError{ErrorCode: quic.ConnectionRefused, Remote: true}, ClassRefused, ClassRefused)
	f(&quic.TransportError{ErrorCode: 0x12a}, ClassTLS, ClassTLS)
	f(&quic.IdleTimeoutError{}, ClassTimeout, ClassTimeout)
	f(&quic.HandshakeTimeoutError{}, ClassTimeout, ClassTimeout)
	f(&http3.Error{ErrorCode: http3.ErrCodeRequestRejected, Remote: true}, ClassReset, ClassRejected)
	f(&http3.Error{ErrorCode: http3.ErrCodeExcessiveLoad, Remote: true}, ClassReset, ClassReset)
}

// TestClassifyEnd checks that the reason why a visitor left comes before what the
// library says about its leaving.
func TestClassifyEnd(t *testing.T) {
	f := func(cause error, want string) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if got := classifyExchange(ctx, io.ErrUnexpectedEOF); got != want {
			t.Errorf("%v: %s, want %s", cause, got, want)
		}
	}
	f(errPatience, ClassTimeout)
	f(context.Canceled, ClassInterrupted)
}
