package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	transport "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// plain is a codec of messages that are plain text.
type plain struct{}

func (plain) Name() string                       { return "plain" }
func (plain) Marshal(v any) ([]byte, error)      { return []byte(*v.(*string)), nil }
func (plain) Unmarshal(data []byte, v any) error { *v.(*string) = string(data); return nil }

// A speaker is a gRPC service. It tells when the client of an endless call has
// gone.
type speaker struct{ gone chan error }

func (s *speaker) call(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	var said string
	switch method {
	case "/Test/Echo", "/Test/Talk":
		for {
			if err := stream.RecvMsg(&said); err != nil {
				stream.SetTrailer(metadata.Pairs("x-last", said))
				return nil
			}
			if err := stream.SendMsg(&said); err != nil {
				return err
			}
		}
	case "/Test/Count":
		stream.RecvMsg(&said)
		n, _ := strconv.Atoi(said)
		for i := range n {
			said = fmt.Sprint(i)
			if err := stream.SendMsg(&said); err != nil {
				return err
			}
		}
		return status.Error(codes.DataLoss, "no more")
	case "/Test/Endless":
		said = "begun"
		stream.SendMsg(&said)
		<-stream.Context().Done()
		s.gone <- stream.Context().Err()
		return nil
	}
	return status.Error(codes.NotFound, "no such method: ä")
}

// relay passes requests on to the origin, as the edge does, and answers with
// what comes back.
func (o *Origin) relay(w http.ResponseWriter, r *http.Request) {
	p, _ := o.limiter.Acquire(0, 1)
	resp, err := o.Do(Outgoing(r.Context(), r, visitor, r.Body), p)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if resp.Body == http.NoBody {
		return // headers and the end of the stream in one: to gRPC that is an answer of trailers only
	}
	out, buf := http.NewResponseController(w), make([]byte, 4<<10)
	for err == nil {
		out.Flush()
		var n int
		n, err = resp.Body.Read(buf)
		w.Write(buf[:n])
	}
	if err != io.EOF {
		panic(http.ErrAbortHandler)
	}
	for name, values := range resp.Trailer {
		w.Header()[http.TrailerPrefix+name] = values
	}
}

// TestGRPC: calls of every kind come through to a server of gRPC and back.
func TestGRPC(t *testing.T) {
	dir := t.TempDir()
	by := newAuthority(t)
	ca, certPath := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "s.pem")
	writePEM(t, ca, "CERTIFICATE", by.cert.Raw)
	cert := by.issue("app.internal", certPath, filepath.Join(dir, "s.key"))
	for scheme, security := range map[string]transport.TransportCredentials{
		"h2c":   insecure.NewCredentials(),
		"https": transport.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}}),
	} {
		t.Run(scheme, func(t *testing.T) {
			speak := &speaker{gone: make(chan error, 1)}
			server := grpc.NewServer(grpc.Creds(security), grpc.ForceServerCodec(plain{}), grpc.UnknownServiceHandler(speak.call))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go server.Serve(l)
			defer server.Stop()
			o := newOrigin(t, Config{Servers: []string{scheme + "://" + l.Addr().String()}, TLS: TLSConfig{CA: ca, ServerName: "app.internal"}})
			edge := httptest.NewUnstartedServer(http.HandlerFunc(o.relay))
			edge.Config.Protocols = protocols((*http.Protocols).SetUnencryptedHTTP2)
			edge.Start()
			defer edge.Close()
			client, err := grpc.NewClient(edge.Listener.Addr().String(),
				grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{})))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			testCalls(t, client, speak)
			// A deadline ends a call for the client before the edge has heard of that, or of the
			// call.
			for l := o.State().Limit; l.InFlight+l.LongLived > 0; l = o.State().Limit {
				runtime.Gosched()
			}
			if s := o.State(); s.OK+s.Dropped != 0 || s.Servers[0].Failures != 0 {
				t.Errorf("streams taught the limiter something: %+v", s)
			}
			o.checkRest(t)
		})
	}
}

func testCalls(t *testing.T, client *grpc.ClientConn, speak *speaker) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	check := func(what string, err error, code codes.Code, text string) {
		t.Helper()
		if s := status.Convert(err); s.Code() != code || text != "" && s.Message() != text {
			t.Errorf("%s: %v", what, err)
		}
	}
	open := func(ctx context.Context, method string) grpc.ClientStream {
		t.Helper()
		s, err := client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	in, out, trailer := "hello", "", metadata.MD{}
	err := client.Invoke(ctx, "/Test/Echo", &in, &out, grpc.Trailer(&trailer))
	check("unary", err, codes.OK, "")
	if out != "hello" || trailer.Get("x-last")[0] != "hello" {
		t.Errorf("unary: %q %v", out, trailer)
	}
	check("trailers only", client.Invoke(ctx, "/Test/None", &in, &out), codes.NotFound, "no such method: ä")

	count := open(ctx, "/Test/Count")
	in = "1000"
	count.SendMsg(&in)
	count.CloseSend()
	for i := range 1000 {
		if err := count.RecvMsg(&out); err != nil || out != fmt.Sprint(i) {
			t.Fatalf("server streaming: %q %v", out, err)
		}
	}
	check("server streaming", count.RecvMsg(&out), codes.DataLoss, "no more")

	// Each message waits for the answer to the last one.
	talk := open(ctx, "/Test/Talk")
	for i := range 20 {
		in = fmt.Sprint("message ", i)
		if err := errors.Join(talk.SendMsg(&in), talk.RecvMsg(&out)); err != nil || out != in {
			t.Fatalf("both ways: %q %v", out, err)
		}
	}
	talk.CloseSend()
	if err := talk.RecvMsg(&out); err != io.EOF || talk.Trailer().Get("x-last")[0] != "message 19" {
		t.Errorf("both ways: %v %v", err, talk.Trailer())
	}

	leaves, leave := context.WithCancel(ctx)
	endless := open(leaves, "/Test/Endless")
	endless.RecvMsg(&out)
	leave()
	check("canceled", endless.RecvMsg(&out), codes.Canceled, "")
	if err := <-speak.gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	late, cancelLate := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelLate()
	// On a busy machine the time may be over before the call is open, or has begun.
	endless, err = client.NewStream(late, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/Test/Endless")
	begun := false
	if err == nil {
		begun = endless.RecvMsg(&out) == nil
		err = endless.RecvMsg(&out)
	}
	check("deadline", err, codes.DeadlineExceeded, "")
	if begun {
		<-speak.gone // by the deadline that the call carries, or by the reset
	}
}
