package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	service "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"

	"spillway/origin/faas"
	"spillway/origin/faas/lambda"
)

const folder = "testdata/serverless"

// offline starts serverless-offline on free ports of loopback and returns where it
// takes calls.
func offline(t *testing.T) string {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(folder, "node_modules/.bin/serverless"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Skipf("serverless is not installed: run make test-more, or npm ci in origin/faas/lambda/interop/%s", folder)
	}
	lambdaPort := freePort(t)
	cmd := exec.Command(program, "offline", "start", "--host", "127.0.0.1", "--httpPort", freePort(t),
		"--lambdaPort", lambdaPort)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "SLS_TELEMETRY_DISABLED=1", "SLS_NOTIFICATIONS_MODE=off", "SLS_INTERACTIVE_SETUP_ENABLE=0",
		"HOME="+t.TempDir(), "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y", "AWS_EC2_METADATA_DISABLED=true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	ready := make(chan struct{})
	go func() {
		var text strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&text, lines.Text())
			if strings.Contains(lines.Text(), "[http for lambda] listening") {
				close(ready)
			}
		}
		said <- text.String()
	}()
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		in.Close()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with the processes that run the functions
		if text := <-said; t.Failed() {
			t.Log(text)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("serverless ended: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("serverless does not get ready")
	}
	return "http://127.0.0.1:" + lambdaPort
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func request(path, query string) *faas.Request {
	return &faas.Request{
		Method: "POST", Host: "img.example.com", Path: path, Query: query, ID: "id-1", Proto: "https",
		Client: netip.MustParseAddr("192.0.2.7"),
		Header: http.Header{"Accept": {"a", "b"}, "Cookie": {"x=1; y=2"}, "Content-Type": {"image/jpeg"}},
		Body:   []byte("\x00\xff\xfe"),
	}
}

// TestServerless calls functions in Node.js through serverless-offline.
func TestServerless(t *testing.T) {
	endpoint := offline(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "y")
	account := lambda.NewAccount(slog.New(slog.DiscardHandler))
	call := func(t *testing.T, function, payload string, timeout time.Duration, r *faas.Request) (*http.Response, []byte, error) {
		t.Helper()
		p, err := lambda.New(lambda.Config{
			Function: "spillway-interop-dev-" + function, Region: "eu-central-1", Endpoint: endpoint, Payload: payload,
		}, account)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		resp, err := p.Invoke(ctx, r)
		if err != nil {
			return nil, nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body, nil
	}

	t.Run("the event is the one that we mean", func(t *testing.T) {
		encode := map[string]func(*faas.Request, time.Time) ([]byte, error){"2.0": faas.EncodeEvent, "1.0": faas.EncodeEventV1}
		for _, payload := range []string{"2.0", "1.0"} {
			r := request("/a%2Fb/<&>", "q=1&q=2&b=%20&c=%zz")
			_, body, err := call(t, "echo", payload, time.Minute, r)
			if err != nil {
				t.Fatal(err)
			}
			meant, err := encode[payload](r, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := timeless(t, body), timeless(t, meant); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: the function saw\n%v\nwant\n%v", payload, got, want)
			}
		}
	})
	t.Run("binary both ways", func(t *testing.T) {
		resp, body, err := call(t, "binary", "2.0", time.Minute, request("/", ""))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 201 || !bytes.Equal(body, []byte("\xfe\xff\x00")) || len(resp.Header["Set-Cookie"]) != 2 {
			t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
		}
	})
	t.Run("an answer without a status", func(t *testing.T) {
		resp, body, err := call(t, "plain", "2.0", time.Minute, request("/", ""))
		if err != nil || resp.StatusCode != 200 || string(body) != `{"hello":"world"}` {
			t.Errorf("%v %q %v", resp, body, err)
		}
		if _, _, err := call(t, "plain", "1.0", time.Minute, request("/", "")); faas.AsError(err).Class != faas.FunctionError {
			t.Errorf("in format 1.0: %v", err)
		}
	})
	t.Run("an answer in format 1.0", func(t *testing.T) {
		resp, body, err := call(t, "legacy", "1.0", time.Minute, request("/a%20b", "q=1&q=2"))
		if err != nil {
			t.Fatal(err)
		}
		if string(body) != "1 and 2" || resp.Header.Get("X-Path") != "/a b" || len(resp.Header["Set-Cookie"]) != 2 {
			t.Errorf("%q %v", body, resp.Header)
		}
	})
	fails := func(function string, timeout time.Duration, class faas.Class, executed bool, want string) {
		t.Helper()
		_, _, err := call(t, function, "2.0", timeout, request("/", ""))
		got := faas.AsError(err)
		if err == nil || got.Class != class || got.Executed != executed || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, executed %t; want %s, %t", function, err, got.Executed, class, executed)
		}
		if strings.Contains(fmt.Sprint(err), "handler.js") {
			t.Errorf("a stack trace: %v", err)
		}
	}
	t.Run("failures", func(t *testing.T) {
		fails("crash", time.Minute, faas.FunctionError, true, "broken on purpose")
		fails("unknown", time.Minute, faas.Unavailable, false, "ResourceNotFoundException")
		fails("slow", 5*time.Second, faas.Unavailable, true, context.DeadlineExceeded.Error())
	})
	t.Run("the function's own time-out", func(t *testing.T) {
		// Lambda says "Task timed out", by which the provider knows it; this is the emulation's word.
		fails("slow", time.Minute, faas.FunctionError, true, "Lambda timeout")
	})
	t.Run("as the SDK sees it", func(t *testing.T) {
		client := service.New(service.Options{
			Region: "eu-central-1", BaseEndpoint: &endpoint, Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider("x", "y", ""),
		})
		name := "spillway-interop-dev-crash"
		result, err := client.Invoke(t.Context(), &service.InvokeInput{FunctionName: &name, Payload: []byte("{}")})
		if err != nil || aws.ToString(result.FunctionError) != "Unhandled" {
			t.Errorf("%v, %v", result, err)
		}
		name = "spillway-interop-dev-unknown"
		var api smithy.APIError
		_, err = client.Invoke(t.Context(), &service.InvokeInput{FunctionName: &name})
		if !errors.As(err, &api) || api.ErrorCode() != "ResourceNotFoundException" {
			t.Errorf("%v", err)
		}
	})
}

// timeless is an event without the times in it.
func timeless(t *testing.T, payload []byte) map[string]any {
	t.Helper()
	var event map[string]any
	if err := json.Unmarshal(payload, &event); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
	about, ok := event["requestContext"].(map[string]any)
	if !ok {
		t.Fatalf("no context in %s", payload)
	}
	for _, name := range []string{"time", "timeEpoch", "requestTime", "requestTimeEpoch"} {
		delete(about, name)
	}
	return event
}
