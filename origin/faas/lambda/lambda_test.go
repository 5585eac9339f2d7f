package lambda

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	service "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"spillway/cmd/surge/functions"
	"spillway/origin/faas"
)

// echo tells what it was asked and answers with bytes that are no text.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Add("Set-Cookie", "a=1; Path=/")
	w.Header().Add("Set-Cookie", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT")
	w.Header().Set("X-Seen", fmt.Sprintf("%s %s%s %s %s", r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("Cookie"), r.Header.Get("Accept")))
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(append([]byte{0xff, 0xd8, 0}, body...))
}

func TestFunctionSeesTheRequest(t *testing.T) {
	machine(t, accessKey, secretKey)
	_, server := emulator(t, functions.Config{Work: http.HandlerFunc(echo)})
	for _, payload := range []string{"2.0", "1.0"} {
		p := provider(t, Config{Function: "thumb:live", Endpoint: server.URL, Payload: payload})
		r := get("/a%2Fb")
		r.Method, r.Query, r.Body = "PUT", "q=1&q=2", []byte("\x00\xfe")
		r.Header = http.Header{"Accept": {"a/b"}, "Cookie": {"x=1", "y=2"}, "Connection": {"X-Gone"}, "X-Gone": {"1"}, "X-Amz-Invocation-Type": {"Event"}}
		resp, body := invoke(t, p, r)
		if resp.StatusCode != 201 || body != "\xff\xd8\x00\x00\xfe" || len(resp.Header["Set-Cookie"]) != 2 {
			t.Errorf("%s: %d, %q, %v", payload, resp.StatusCode, body, resp.Header)
		}
		if got, want := resp.Header.Get("X-Seen"), "PUT img.example.com/a%2Fb?q=1&q=2 x=1; y=2 a/b"; got != want {
			t.Errorf("%s: the function saw %q, want %q", payload, got, want)
		}
	}
}

// foreign is the SDK's own client, which knows nothing of ours.
func foreign(t *testing.T, endpoint, secret string, idle *http.Client) *service.Client {
	t.Helper()
	return service.New(service.Options{
		Region: "eu-central-1", BaseEndpoint: &endpoint, HTTPClient: idle, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secret, ""),
	})
}

// What the SDK's client makes of an answer, ours makes of it, too.
func TestFailuresAsTheSDKSeesThem(t *testing.T) {
	const ok = `{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"GET"}}}`
	on := functions.Change{Throttle: new(true)}
	throttle := func(reason types.ThrottleReason) functions.Change {
		return functions.Change{Throttle: on.Throttle, Reason: new(string(reason))}
	}
	f := func(name, function, secret string, emulated functions.Config, change functions.Change, code string, want faas.Error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			machine(t, accessKey, secret)
			e, server := emulator(t, emulated)
			if err := e.Control(change); err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			result, err := foreign(t, server.URL, secret, client).Invoke(t.Context(),
				&service.InvokeInput{FunctionName: &function, Payload: []byte(ok)})
			var api smithy.APIError
			switch {
			case strings.HasPrefix(code, "function "):
				if err != nil || "function "+aws.ToString(result.FunctionError) != code {
					t.Errorf("the SDK sees %v, %v", result, err)
				}
			case !errors.As(err, &api) || api.ErrorCode() != code:
				t.Errorf("the SDK sees %v, want %s", err, code)
			}
			if limit := (*types.TooManyRequestsException)(nil); errors.As(err, &limit) && change.Reason != nil && string(limit.Reason) != *change.Reason {
				t.Errorf("the SDK sees the reason %s", limit.Reason)
			}

			_, err = provider(t, Config{Function: function, Endpoint: server.URL}).Invoke(t.Context(), get("/"))
			got := faas.AsError(err)
			if err == nil || got.Class != want.Class || got.Executed != want.Executed || got.AccountWide != want.AccountWide ||
				got.RetryAfter.Round(time.Second) != want.RetryAfter {
				t.Errorf("got %v, executed %t, account-wide %t, retry after %v; want %s, %t, %t, %v", err, got.Executed,
					got.AccountWide, got.RetryAfter, want.Class, want.Executed, want.AccountWide, want.RetryAfter)
			}
			if change.Reason != nil && !strings.Contains(err.Error(), *change.Reason) {
				t.Errorf("%v does not tell the reason", err)
			}
		})
	}
	for _, reason := range types.ThrottleReason("").Values() {
		f(string(reason), "thumb", secretKey, functions.Config{}, throttle(reason), "TooManyRequestsException", faas.Error{
			Class: faas.Throttled, RetryAfter: time.Second, AccountWide: reason == types.ThrottleReasonCallerRateLimitExceeded,
		})
	}
	none := functions.Change{}
	f("function fails", "thumb", secretKey, functions.Config{}, functions.Change{Fail: new(1.0)}, "function Unhandled",
		faas.Error{Class: faas.FunctionError, Executed: true})
	f("answer too large", "thumb", secretKey, functions.Config{Body: 6 << 20}, none, "function Unhandled",
		faas.Error{Class: faas.TooLarge, Executed: true})
	f("no such function", "other", secretKey, functions.Config{}, none, "ResourceNotFoundException", faas.Error{Class: faas.Unavailable})
	f("wrong secret", "thumb", "another", functions.Config{}, none, "InvalidSignatureException", faas.Error{Class: faas.Auth})
}

// Both clients pass the same check of signatures, for every form of a name.
func TestNamesAsTheSDKSendsThem(t *testing.T) {
	machine(t, accessKey, secretKey)
	_, server := emulator(t, functions.Config{})
	var asked atomic.Pointer[string]
	watch := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(new(r.RequestURI))
		server.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(watch.Close)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	f := func(function, name, qualifier string) {
		t.Helper()
		invoke(t, provider(t, Config{Function: function, Endpoint: watch.URL}), get("/"))
		ours := *asked.Load()
		input := &service.InvokeInput{FunctionName: &name, Payload: []byte(`{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"GET"}}}`)}
		if qualifier != "" {
			input.Qualifier = &qualifier
		}
		result, err := foreign(t, watch.URL, secretKey, client).Invoke(t.Context(), input)
		if err != nil || result.FunctionError != nil {
			t.Fatalf("%s: %v, %v", name, result, err)
		}
		if theirs := *asked.Load(); ours != theirs {
			t.Errorf("%s: we ask for %s, the SDK for %s", function, ours, theirs)
		}
	}
	const arn = "arn:aws:lambda:eu-central-1:123456789012:function:thumb"
	f("thumb", "thumb", "")
	f("thumb:live", "thumb", "live")
	f("thumb:$LATEST", "thumb", "$LATEST")
	f(arn, arn, "")
	f(arn+":7", arn, "7")
	f("123456789012:function:thumb:live", "123456789012:function:thumb", "live")
}

func TestSizes(t *testing.T) {
	machine(t, accessKey, secretKey)
	e, server := emulator(t, functions.Config{Body: 1 << 20})
	p := provider(t, Config{Function: "thumb", Endpoint: server.URL})
	large := get("/")
	large.Method, large.Body = "POST", make([]byte, faas.MaxPayload)
	_, err := p.Invoke(t.Context(), large)
	if got := faas.AsError(err); got.Class != faas.TooLarge || got.Executed || e.Stats().Arrived != 0 {
		t.Errorf("a request of 6 MiB: %v, executed %t, %d calls", err, got.Executed, e.Stats().Arrived)
	}
	// It may come with as much of header, so that only what is well above is sure to be refused.
	small := get("/")
	small.MaxAnswer = 1 << 10
	_, err = p.Invoke(t.Context(), small)
	if got := faas.AsError(err); got.Class != faas.TooLarge || !got.Executed || got.Received == 0 {
		t.Errorf("an answer of 1 MiB where 1 KiB is allowed: %v", err)
	}
	// A request that ours does not even send.
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	_, err = foreign(t, server.URL, secretKey, client).Invoke(t.Context(),
		&service.InvokeInput{FunctionName: new("thumb"), Payload: []byte(`"` + strings.Repeat("a", 6<<20) + `"`)})
	if tooLarge := (*types.RequestTooLargeException)(nil); !errors.As(err, &tooLarge) {
		t.Errorf("the SDK sees %v", err)
	}
	body := func(path string) string { _, b := invoke(t, p, get(path)); return b }
	if n := len(body("/")); n != 1<<20 {
		t.Errorf("%d bytes of answer", n)
	}
}

func TestTimeoutAndLoss(t *testing.T) {
	machine(t, accessKey, secretKey)
	var runs atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if runs.Add(1); strings.Contains(r.URL.Path, "/hang/") {
			cancel() // its time is up while the function runs
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	_, err := provider(t, Config{Function: "hang", Endpoint: server.URL}).Invoke(ctx, get("/"))
	if got := faas.AsError(err); err == nil || !got.Executed {
		t.Errorf("a call that ran out of time: %v", err)
	}
	runs.Store(0)
	_, err = provider(t, Config{Function: "drop", Endpoint: server.URL}).Invoke(t.Context(), get("/"))
	if got := faas.AsError(err); got.Class != faas.Unavailable || !got.Executed || runs.Load() != 1 {
		t.Errorf("a connection that was cut: %v, sent %d times", err, runs.Load())
	}
	// A port that the system gives to nobody.
	_, err = provider(t, Config{Function: "gone", Endpoint: "http://127.0.0.1:1"}).Invoke(t.Context(), get("/"))
	if got := faas.AsError(err); got.Class != faas.Unavailable || got.Executed {
		t.Errorf("nobody listens: %v, executed %t", err, got.Executed)
	}
}

func TestMissingCredentials(t *testing.T) {
	machine(t, "", "")
	_, err := provider(t, Config{Function: "thumb"}).Invoke(t.Context(), get("/"))
	if got := faas.AsError(err); got.Class != faas.Auth || got.Executed || !strings.Contains(err.Error(), "asked in turn") {
		t.Errorf("%v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	machine(t, accessKey, secretKey)
	f := func(c Config, want string) {
		t.Helper()
		if _, err := New(c, NewAccount(slog.New(slog.DiscardHandler))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	const region = "eu-central-1"
	f(Config{Function: "thumb"}, "set region, or AWS_REGION")
	f(Config{Function: "thumb/other", Region: region}, "not a name")
	f(Config{Function: "thumb:", Region: region}, "nothing follows the colon")
	f(Config{Function: "thumb:a:b", Region: region}, "not a name")
	f(Config{Function: "arn:aws:s3:eu-central-1:123456789012:function:thumb"}, "not a name")
	f(Config{Function: "arn:aws:lambda:eu-west-1:123456789012:function:thumb", Region: region}, "remove region")
	f(Config{Function: "thumb", Region: region, Endpoint: "http://10.0.0.1:3002"}, "must begin with https://")
	f(Config{Function: "thumb", Region: region, Endpoint: "https://example.com/path"}, "a scheme and a host")
	f(Config{Function: "thumb", Region: region, Profile: "gone"}, "gone")
}

func TestEndpoint(t *testing.T) {
	f := func(configured, region, want string) {
		t.Helper()
		u, err := parseEndpoint(configured, region)
		if err != nil || u.String() != want {
			t.Errorf("%s in %s: %v, %v", configured, region, u, err)
		}
	}
	f("", "eu-central-1", "https://lambda.eu-central-1.amazonaws.com")
	f("", "cn-north-1", "https://lambda.cn-north-1.amazonaws.com.cn")
	f("https://vpce.example.com", "us-east-1", "https://vpce.example.com")
	f("http://[::1]:3002", "us-east-1", "http://[::1]:3002")
	f("http://localhost:3002", "us-east-1", "http://localhost:3002")
}

func TestTraceID(t *testing.T) {
	now := time.Unix(0x65432100, 0)
	f := func(amazon, w3c, want string) {
		t.Helper()
		if got := traceID(http.Header{"X-Amzn-Trace-Id": {amazon}, "Traceparent": {w3c}}, now); !strings.HasPrefix(got, want) || len(got) != 40 {
			t.Errorf("%q, %q: %s", amazon, w3c, got)
		}
	}
	const root = "Root=1-5759e988-bd862e3fe1be46a994272793"
	f(root, "", root)
	f("Self=1-67891234-12456789abcdef012345678;"+root+";Sampled=1", "", root)
	f("", "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01", root)
	f("", "", "Root=1-65432100-")
	f(root+"\r\nX: y", "", "Root=1-65432100-")
	f("Root=nonsense", "nonsense", "Root=1-65432100-")
}
