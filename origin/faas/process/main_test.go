package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"spillway/edge/leaktest"
	"spillway/origin/faas"
)

// The test binary is its own bootstrap: started by the function host it is an
// aws-lambda-go function that does what the path says. Started with a socket it
// is a function host, for the test that kills one.
func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		if os.Getenv("BROKEN") != "" {
			os.Exit(3)
		}
		lambda.Start(misbehave)
	}
	if socket := os.Getenv("HOST_SOCKET"); socket != "" {
		function := FunctionConfig{Command: []string{os.Args[0]}, KeepUser: true}
		h, err := NewHost(HostConfig{Socket: socket, Functions: map[string]FunctionConfig{"f": function}})
		if err == nil {
			err = h.Run(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	leaktest.Main(m)
}

func misbehave(ctx context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	resp := events.APIGatewayV2HTTPResponse{StatusCode: 200, Headers: map[string]string{"Content-Type": "text/plain"}}
	switch e.RawPath {
	case "/pid":
		resp.Body = fmt.Sprint(os.Getpid())
	case "/environ":
		resp.Body = strings.Join(os.Environ(), "\n")
	case "/print":
		for range 3 * linesPerSecond {
			fmt.Println("a line of output")
		}
	case "/error":
		return resp, errors.New("a handler's error")
	case "/panic":
		panic("a secret in a panic")
	case "/exit":
		os.Exit(7)
	case "/big":
		resp.Body = strings.Repeat("x", faas.MaxAnswerLength)
	case "/hang":
		select {}
	case "/family":
		// A grandchild in the same group, which must not outlive it.
		child := exec.Command("/bin/sleep", "1000")
		if err := child.Start(); err != nil {
			return resp, err
		}
		resp.Body = fmt.Sprint(child.Process.Pid)
	default:
		// Waits until the test lets it go on, by making the file.
		for !exists(e.RawPath) {
			time.Sleep(time.Millisecond)
		}
	}
	return resp, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// self is the configuration of the function that the test binary is. The folder
// that go test builds it in is not open to the user nobody.
func self(t *testing.T) FunctionConfig {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return patient(FunctionConfig{Command: []string{program}, KeepUser: true})
}

// patient is a function of one instance that may be slow: a busy machine may take seconds.
func patient(c FunctionConfig) FunctionConfig {
	c.MaxInstances, c.InitTimeout, c.Timeout, c.MaxWait = 1, 20*time.Second, 20*time.Second, 20*time.Second
	return c
}

// host runs a function host for the length of the test and returns it with a
// provider of its function.
func host(t *testing.T, c FunctionConfig) (*Host, *Provider) {
	t.Helper()
	return hostWithLog(t, c, slog.New(slog.DiscardHandler))
}

func hostWithLog(t *testing.T, c FunctionConfig, log *slog.Logger) (*Host, *Provider) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	h, err := NewHost(HostConfig{Socket: socket, Functions: map[string]FunctionConfig{"f": c}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	p := New(Config{Socket: socket, Function: "f"})
	t.Cleanup(func() {
		p.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if exists(socket) {
			t.Error("the socket is left behind")
		}
	})
	return h, p
}

func get(path string) *faas.Request {
	return &faas.Request{
		Method: http.MethodGet, Host: "img.example.com", Path: path, Header: http.Header{},
		Client: netip.MustParseAddr("192.0.2.1"), Proto: "https", ID: "id-1",
	}
}
