package web

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	"spillway/edge/leaktest"
	"spillway/origin/faas"
)

// The test binary is also the function: started with a port it serves Google's
// functions framework there, as a container on Cloud Run does.
func TestMain(m *testing.M) {
	if port := os.Getenv("FUNCTION_PORT"); port != "" {
		funcframework.RegisterHTTPFunction("/", function)
		if err := funcframework.StartHostPort(ownAddress, port); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	leaktest.Main(m)
}

// function tells what it was asked, or fails as its path says.
func function(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Query().Get("do") {
	case "panic":
		panic("a secret in a panic")
	case "refuse":
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	case "status":
		w.WriteHeader(http.StatusTeapot)
	case "redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	case "stream":
		for range 3 {
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			<-time.After(time.Millisecond)
		}
	case "hang":
		<-r.Context().Done()
	case "echo":
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT")
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(body)
	default:
		fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RequestURI, r.Host)
		r.Header.Write(w)
	}
}

// ownAddress is where the function listens: nobody else takes its port there before it
// has started.
const ownAddress = "127.7.7.7"

// framework starts the function in a process of its own and returns its URL.
func framework(t *testing.T) string {
	t.Helper()
	probe, err := net.Listen("tcp", ownAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().(*net.TCPAddr)
	probe.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("FUNCTION_PORT=%d", address.Port))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("the function printed:\n%s", output.Bytes())
		}
	})
	for {
		conn, err := net.Dial("tcp", address.String())
		if err == nil {
			conn.Close()
			return "http://" + address.String()
		}
		select {
		case <-ended:
			t.Fatal("the function does not listen")
		case <-time.After(time.Millisecond):
		}
	}
}

func provider(t *testing.T, c Config) *Provider {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func request(method, path, query string) *faas.Request {
	return &faas.Request{
		Method: method, Host: "img.example.com", Path: path, Query: query, Header: http.Header{},
		Client: netip.MustParseAddr("192.0.2.1"), Proto: "https", ID: "id-1",
	}
}
