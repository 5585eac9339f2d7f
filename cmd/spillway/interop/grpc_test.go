package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// An echoService sends back what it gets, in the words of gRPC's own
// interoperability tests.
type echoService struct {
	pb.UnimplementedTestServiceServer
	deadline chan time.Duration // what each slow call was given
	left     chan error         // why each ended
}

// UnaryCall answers with the payload, repeats the metadata x-initial in the
// header and x-trailing-bin in the trailer, and fails as it is told.
func (s *echoService) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.MD{"x-initial": md["x-initial"]})
	grpc.SetTrailer(ctx, metadata.MD{"x-trailing-bin": md["x-trailing-bin"]})
	if fail := in.GetResponseStatus(); fail != nil {
		failure, err := status.New(codes.Code(fail.Code), fail.Message).WithDetails(in.GetPayload())
		if err != nil {
			return nil, err
		}
		return nil, failure.Err()
	}
	return &pb.SimpleResponse{Payload: in.Payload}, nil
}

// EmptyCall waits until the caller's deadline, or until the caller leaves.
func (s *echoService) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	defer func() { s.left <- ctx.Err() }()
	at, ok := ctx.Deadline()
	if !ok {
		s.deadline <- 0
	} else {
		s.deadline <- time.Until(at)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// FullDuplexCall answers each message before the next comes.
func (s *echoService) FullDuplexCall(stream grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// StreamingInputCall counts the bytes that it gets.
func (s *echoService) StreamingInputCall(stream grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(in.GetPayload().GetBody())
	}
}

// StreamingOutputCall sends messages of the sizes asked for.
func (s *echoService) StreamingOutputCall(in *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range in.ResponseParameters {
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: payload(int(p.Size))}); err != nil {
			return err
		}
	}
	return nil
}

func payload(n int) *pb.Payload { return &pb.Payload{Body: pattern(n)} }

// callers starts a gRPC origin and a node in front of it.
func callers(t *testing.T) (pb.TestServiceClient, *echoService, *node) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := &echoService{deadline: make(chan time.Duration, 1), left: make(chan error, 1)}
	server := grpc.NewServer()
	pb.RegisterTestServiceServer(server, service)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	n := startNode(t, settings{server: "h2c://" + listener.Addr().String()})
	conn, err := grpc.NewClient("passthrough:///"+n.addr, grpc.WithTransportCredentials(credentials.NewTLS(n.tls())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewTestServiceClient(conn), service, n
}

func TestGRPC(t *testing.T) {
	calls, service, n := callers(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-initial", "first", "x-trailing-bin", "\x00\xff\x01")
	for _, size := range []int{0, 1000, 1 << 20} {
		var header, trailer metadata.MD
		out, err := calls.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(size)}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatalf("unary call of %d bytes: %v", size, err)
		}
		if digest(out.GetPayload().GetBody()) != digest(pattern(size)) {
			t.Errorf("unary call of %d bytes: %d came back", size, len(out.GetPayload().GetBody()))
		}
		if !slices.Equal(header["x-initial"], []string{"first"}) || !slices.Equal(trailer["x-trailing-bin"], []string{"\x00\xff\x01"}) {
			t.Errorf("header %v, trailer %v", header, trailer)
		}
	}
	testGRPCError(t, calls)
	testGRPCStreams(t, calls)
	testGRPCDeadline(t, calls, service)
	if _, err := calls.UnimplementedCall(t.Context(), &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method gives %v", err)
	}
	n.atRest(t)
}

func testGRPCError(t *testing.T, calls pb.TestServiceClient) {
	t.Helper()
	const message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
	_, err := calls.UnaryCall(t.Context(), &pb.SimpleRequest{
		Payload: payload(10), ResponseStatus: &pb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: message},
	})
	got := status.Convert(err)
	if got.Code() != codes.FailedPrecondition || got.Message() != message || len(got.Details()) != 1 {
		t.Errorf("an error arrived as %v %q with %d details", got.Code(), got.Message(), len(got.Details()))
	}
}

func testGRPCStreams(t *testing.T, calls pb.TestServiceClient) {
	t.Helper()
	both, err := calls.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 100_000, 7} { // one message waits for the answer to the last
		if err := both.Send(&pb.StreamingOutputCallRequest{Payload: payload(size)}); err != nil {
			t.Fatal(err)
		}
		if in, err := both.Recv(); err != nil || len(in.GetPayload().GetBody()) != size {
			t.Fatalf("both ways: %d bytes came back of %d: %v", len(in.GetPayload().GetBody()), size, err)
		}
	}
	both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("both ways: the stream ends with %v", err)
	}

	up, err := calls.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := up.Send(&pb.StreamingInputCallRequest{Payload: payload(50_000)}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := up.CloseAndRecv(); err != nil || sum.AggregatedPayloadSize != 500_000 {
		t.Errorf("up: the origin got %d bytes: %v", sum.GetAggregatedPayloadSize(), err)
	}

	down, err := calls.StreamingOutputCall(t.Context(), &pb.StreamingOutputCallRequest{
		ResponseParameters: []*pb.ResponseParameters{{Size: 31415}, {Size: 9}, {Size: 500_000}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{31415, 9, 500_000} {
		if in, err := down.Recv(); err != nil || len(in.GetPayload().GetBody()) != size {
			t.Errorf("down: %d bytes of %d: %v", len(in.GetPayload().GetBody()), size, err)
		}
	}
	if _, err := down.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("down: the stream ends with %v", err)
	}
}

// testGRPCDeadline asks that the origin learns how long the caller waits, and that he
// waits no longer. He leaves long before his deadline: in the instant of it the caller
// and the origin both end the call, and either may be first.
func testGRPCDeadline(t *testing.T, calls pb.TestServiceClient, service *echoService) {
	t.Helper()
	const limit = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := calls.EmptyCall(ctx, &pb.Empty{})
		ended <- err
	}()
	select {
	case given := <-service.deadline:
		if given <= 0 || given > limit {
			t.Errorf("the origin was given %v of %v", given, limit)
		}
	case err := <-ended:
		t.Fatalf("the call never came to the origin: %v", err)
	}
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("the caller who leaves sees %v", err)
	}
	select {
	case err := <-service.left:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("at the origin the call ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the origin works on for a caller who left")
	}
}
