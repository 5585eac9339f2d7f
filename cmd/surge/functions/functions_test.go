package functions

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/leaktest"
	"spillway/edge/synctest"
)

// fieldBytes is the size of what the emulated function says about its answers.
const fieldBytes = int64(len("Content-Type: text/plain; charset=utf-8\r\n"))

func TestMain(m *testing.M) { leaktest.Main(m) }

func newEmulator(t *testing.T, c Config) *Emulator {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func get(ctx context.Context, e *Emulator, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", target, nil))
	return w
}

func checkSums(t *testing.T, s Stats) {
	t.Helper()
	if s.Arrived != s.Running+s.Completed+s.ThrottledCap+s.ThrottledRamp+s.Throttled {
		t.Errorf("calls do not add up: %+v", s)
	}
	if s.ColdStarts+s.WarmStarts != s.Running+s.Completed {
		t.Errorf("starts do not add up: %+v", s)
	}
}

func TestColdStartThenReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, Config{Service: 60 * time.Millisecond, ColdStart: 500 * time.Millisecond, IdleTimeout: time.Minute})
		f := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			if w := get(t.Context(), e, "/x"); w.Code != 200 || w.Body.Len() != 1024 {
				t.Fatalf("%d, %d bytes", w.Code, w.Body.Len())
			}
			if d := time.Since(began); d != want {
				t.Fatalf("took %v, want %v", d, want)
			}
		}
		f(560 * time.Millisecond)
		f(60 * time.Millisecond)
		time.Sleep(59 * time.Second)
		f(60 * time.Millisecond)
		time.Sleep(time.Minute)
		f(560 * time.Millisecond)
		s, b := e.Stats(), e.Bill()
		checkSums(t, s)
		if s.ColdStarts != 2 || s.WarmStarts != 2 || s.PeakInstances != 1 {
			t.Errorf("stats %+v", s)
		}
		if !near(b.BilledSeconds, 1.24) || !near(b.InitSeconds, 1) || b.Requests != 4 || b.BytesOut != 4*(1024+fieldBytes) {
			t.Errorf("bill %+v", b)
		}
	})
}

// One call per instance, a burst, then a ramp, then the cap.
func TestBurstRampAndCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, Config{Service: time.Hour, Burst: 10, Ramp: 5, Cap: 18})
		var wg sync.WaitGroup
		storm := func(n int) {
			for range n {
				wg.Go(func() { get(t.Context(), e, "/") })
			}
			synctest.Wait()
		}
		f := func(running, ramp, full int) {
			t.Helper()
			s := e.Stats()
			checkSums(t, s)
			if s.Running != running || s.ThrottledRamp != ramp || s.ThrottledCap != full {
				t.Errorf("running %d, refused %d by the ramp and %d by the cap; want %d, %d, %d",
					s.Running, s.ThrottledRamp, s.ThrottledCap, running, ramp, full)
			}
		}
		storm(12)
		f(10, 2, 0)
		time.Sleep(time.Second)
		storm(7)
		f(15, 4, 0)
		time.Sleep(time.Second)
		storm(5)
		f(18, 4, 2)
		wg.Wait()
		f(0, 4, 2)
		if b := e.Bill(); b.Requests != 18 {
			t.Errorf("%d requests billed; refusals must cost nothing", b.Requests)
		}
	})
}

// A call whose client left is finished and billed, and its instance is busy till then.
func TestAbandonedCallsAreBilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, Config{Service: time.Second})
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			get(ctx, e, "/")
			close(done)
		}()
		time.Sleep(100 * time.Millisecond)
		leave()
		time.Sleep(100 * time.Millisecond)
		if s := e.Stats(); s.Running != 1 {
			t.Errorf("%d running after the client left, want 1", s.Running)
		}
		<-done
		if b := e.Bill(); !near(b.BilledSeconds, 1) {
			t.Errorf("billed %v s, want 1", b.BilledSeconds)
		}
	})
}

func TestWorkIsPaddedAndOverrunsAreBilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d, _ := time.ParseDuration(r.URL.Query().Get("take"))
			time.Sleep(d)
			_, _ = io.WriteString(w, "done")
		})
		e := newEmulator(t, Config{Service: 100 * time.Millisecond, Work: work})
		for _, take := range []string{"20ms", "300ms"} {
			if w := get(t.Context(), e, "/?take="+take); w.Body.String() != "done" {
				t.Errorf("body %q", w.Body)
			}
		}
		if b, s := e.Bill(), e.Stats(); !near(b.BilledSeconds, 0.4) || s.Overruns != 1 || b.BytesOut != 8 {
			t.Errorf("billed %v s, %d overruns, %d bytes out", b.BilledSeconds, s.Overruns, b.BytesOut)
		}
	})
}

func TestControl(t *testing.T) {
	e := newEmulator(t, Config{})
	post := func(query, via string) int {
		r := httptest.NewRequest("POST", "/control?"+query, nil)
		if via != "" {
			r.Header.Set("Forwarded", via)
		}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		return w.Code
	}
	f := func(query string, call int) {
		t.Helper()
		if code := post(query, ""); code != 200 {
			t.Fatalf("%s: %d", query, code)
		}
		if w := get(t.Context(), e, "/"); w.Code != call {
			t.Errorf("after %s a call was answered %d, want %d", query, w.Code, call)
		}
	}
	f("", 200)
	f("throttle=1", 429)
	f("throttle=0", 200)
	f("cap=0", 429)
	f("cap=1", 200)
	f("fail=1", 502)
	f("fail=0", 200)
	f("reason=CallerRateLimitExceeded", 200)
	s := e.Stats()
	checkSums(t, s)
	if s.Throttled != 1 || s.ThrottledCap != 1 || s.Failed != 1 {
		t.Errorf("stats %+v", s)
	}
	for _, query := range []string{"throttle=2", "cap=-1", "cap=x", "fail=2", "fail=NaN", "reason=Whim", "thottle=1"} {
		if code := post(query, ""); code != 400 {
			t.Errorf("%s: %d, want 400", query, code)
		}
	}
	if code := post("throttle=1", "for=192.0.2.1"); code != 403 {
		t.Errorf("control through a proxy: %d, want 403", code)
	}
}

func TestShapesOfRefusalAndCrash(t *testing.T) {
	f := func(p Platform, change Change, status int, body, header, value string) {
		t.Helper()
		e := newEmulator(t, Config{Platform: p})
		if err := e.Control(change); err != nil {
			t.Fatal(err)
		}
		w := get(t.Context(), e, "/")
		if w.Code != status || w.Body.String() != body || w.Header().Get(header) != value {
			t.Errorf("%s: %d %q, %s: %q", p, w.Code, w.Body, header, w.Header().Get(header))
		}
	}
	throttle, fail := Change{Throttle: new(true)}, Change{Fail: new(1.0)}
	f(Lambda, throttle, 429, `{"Message":"Too Many Requests"}`, "X-Amzn-Errortype", "")
	f(CloudRun, throttle, 429, "Rate exceeded.", "Content-Type", "text/html")
	f(Azure, throttle, 429, "", "Content-Type", "")
	f(OpenFaaS, throttle, 429, "Concurrent request limit exceeded\n", "X-Duration-Seconds", "0.000000")
	f(Lambda, fail, 502, "Internal Server Error\n", "X-Amz-Function-Error", "")
	f(CloudRun, fail, 500, "", "X-Google-Status", "crash")
	f(Azure, fail, 500, "", "Content-Type", "")
	f(OpenFaaS, fail, 500, "exit status 1\n", "Content-Type", "text/plain; charset=utf-8")
}

func TestOpenFaaSStripsItsPrefix(t *testing.T) {
	f := func(p Platform, target, want string) {
		t.Helper()
		work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RequestURI()) })
		e := newEmulator(t, Config{Platform: p, Work: work})
		if got := get(t.Context(), e, target).Body.String(); got != want {
			t.Errorf("%s %s: the function saw %s, want %s", p, target, got, want)
		}
	}
	f(OpenFaaS, "/function/thumb/a/b?c=1", "/a/b?c=1")
	f(OpenFaaS, "/function/thumb/a%2Fb", "/a%2Fb")
	f(OpenFaaS, "/function/thumb", "/")
	f(OpenFaaS, "/a", "/a")
	f(Lambda, "/function/thumb/a", "/function/thumb/a")
}

func invoke(e *Emulator, path, kind, payload string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(payload))
	if kind != "" {
		r.Header.Set("X-Amz-Invocation-Type", kind)
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

const thumbPath = "/2015-03-31/functions/thumb:live/invocations"

func TestInvokeMapsTheEvent(t *testing.T) {
	work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("X-Seen", r.Method+" "+r.Host+r.URL.RequestURI()+" "+r.Header.Get("Cookie")+" "+string(body))
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte{0xff, 0xd8, 0})
	})
	e := newEmulator(t, Config{Work: work})
	w := invoke(e, thumbPath, "", `{"version":"2.0","rawPath":"/a%2Fb","rawQueryString":"q=1&q=2","cookies":["x=1","y=2"],
		"headers":{"host":"img.example.com"},"requestContext":{"http":{"method":"PUT"}},"body":"aGk=","isBase64Encoded":true}`)
	var got struct {
		StatusCode      int
		Headers         map[string]string
		Cookies         []string
		Body            string
		IsBase64Encoded bool
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if want := "PUT img.example.com/a%2Fb?q=1&q=2 x=1; y=2 hi"; got.Headers["x-seen"] != want {
		t.Errorf("the function saw %q, want %q", got.Headers["x-seen"], want)
	}
	if got.StatusCode != 201 || len(got.Cookies) != 2 || got.Headers["set-cookie"] != "" || !got.IsBase64Encoded ||
		got.Body != base64.StdEncoding.EncodeToString([]byte{0xff, 0xd8, 0}) {
		t.Errorf("result %+v", got)
	}
	if w.Header().Get("X-Amz-Executed-Version") != "$LATEST" || w.Header().Get("X-Amzn-Requestid") == "" {
		t.Errorf("header %v", w.Header())
	}
	var fields bytes.Buffer
	_ = w.Header().Write(&fields) // into memory
	if b := e.Bill(); b.BytesOut != int64(fields.Len()+w.Body.Len()) {
		t.Errorf("%d bytes billed of a result of %d with %d bytes of header", b.BytesOut, w.Body.Len(), fields.Len())
	}
}

// An event of format 1.0 is answered in format 1.0.
func TestInvokeMapsTheEventOfFormat1(t *testing.T) {
	work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("Set-Cookie", "a=1; Path=/")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("X-Seen", r.Method+" "+r.Host+r.URL.RequestURI()+" "+r.Header.Get("Cookie")+" "+string(body))
	})
	w := invoke(newEmulator(t, Config{Work: work}), thumbPath, "", `{"resource":"/{proxy+}","path":"/a/b","httpMethod":"PUT",
		"headers":{},"multiValueHeaders":{"Host":["img.example.com"],"Cookie":["x=1; y=2"]},"multiValueQueryStringParameters":{"q":["1","2"]},
		"requestContext":{"path":"/a%2Fb"},"body":"aGk=","isBase64Encoded":true}`)
	var got struct {
		StatusCode        int
		MultiValueHeaders map[string][]string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	seen := strings.Join(got.MultiValueHeaders["X-Seen"], "|")
	if want := "PUT img.example.com/a%2Fb?q=1&q=2 x=1; y=2 hi"; seen != want || got.StatusCode != 200 || len(got.MultiValueHeaders["Set-Cookie"]) != 2 {
		t.Errorf("the function saw %q, want %q; %+v", seen, want, got)
	}
}

func TestInvokeErrors(t *testing.T) {
	ok := `{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"GET"}}}`
	f := func(path, kind, payload string, change Change, c Config, status int, header, value, body string) {
		t.Helper()
		e := newEmulator(t, c)
		if err := e.Control(change); err != nil {
			t.Fatal(err)
		}
		w := invoke(e, path, kind, payload)
		if w.Code != status || w.Header().Get(header) != value || !strings.Contains(w.Body.String(), body) {
			t.Errorf("%s %s: %d %v %.200s", path, kind, w.Code, w.Header(), w.Body)
		}
	}
	none := Change{}
	f(thumbPath, "RequestResponse", ok, none, Config{}, 200, "X-Amz-Function-Error", "", `"statusCode":200`)
	f(thumbPath, "DryRun", "", none, Config{}, 204, "Content-Type", "", "")
	f(thumbPath, "Event", ok, none, Config{}, 400, "X-Amzn-Errortype", "InvalidParameterValueException", "")
	f(thumbPath, "", "{", none, Config{}, 400, "X-Amzn-Errortype", "InvalidRequestContentException", "")
	f(thumbPath, "", `"`+strings.Repeat("a", maxPayload)+`"`, none, Config{}, 413, "X-Amzn-Errortype", "RequestTooLargeException", "")
	f("/2015-03-31/functions/thumb", "", ok, none, Config{}, 404, "X-Amzn-Errortype", "ResourceNotFoundException", "")
	f(thumbPath, "", ok, Change{Throttle: new(true)}, Config{}, 429, "X-Amzn-Errortype", "TooManyRequestsException", `"retryAfterSeconds":"1"`)
	f(thumbPath, "", ok, Change{Throttle: new(true), Reason: new("CallerRateLimitExceeded")}, Config{}, 429, "X-Amzn-Errortype", "TooManyRequestsException",
		`"Reason":"CallerRateLimitExceeded"`)
	f(thumbPath, "", ok, none, Config{Function: "thumb"}, 200, "X-Amz-Function-Error", "", `"statusCode":200`)
	f(thumbPath, "", ok, none, Config{Function: "other"}, 404, "X-Amzn-Errortype", "ResourceNotFoundException", "")
	f("/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Athumb%3Alive/invocations", "", ok, none,
		Config{Function: "thumb"}, 200, "X-Amz-Function-Error", "", `"statusCode":200`)
	f(thumbPath, "", ok, Change{Cap: new(0)}, Config{}, 429, "X-Amzn-Errortype", "TooManyRequestsException", `"Reason":"ConcurrentInvocationLimitExceeded"`)
	f(thumbPath, "", ok, Change{Fail: new(1.0)}, Config{}, 200, "X-Amz-Function-Error", "Unhandled", `"errorType":"Runtime.ExitError"`)
	f(thumbPath, "", `{}`, none, Config{}, 200, "X-Amz-Function-Error", "Unhandled", `"errorType":"Runtime.BadEvent"`)
	f(thumbPath, "", ok, none, Config{Body: maxPayload}, 200, "X-Amz-Function-Error", "Unhandled", `"errorType":"Function.ResponseSizeTooLarge"`)
	f(thumbPath, "", ok, none, Config{Platform: Azure}, 200, "Content-Type", "text/plain; charset=utf-8", "emulated function")
}

func FuzzInvokePayload(f *testing.F) {
	f.Add([]byte(`{"version":"2.0","rawPath":"/a","requestContext":{"http":{"method":"GET"}}}`))
	f.Add([]byte(`{"version":"2.0","rawPath":"/%zz","headers":{"host":"a b"},"requestContext":{"http":{"method":"G T"}}}`))
	f.Add([]byte(`[]`))
	e, err := New(Config{Burst: 1 << 40}) // an instance that fails does not come back
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		w := invoke(e, thumbPath, "", string(payload))
		if w.Code != 200 && w.Code != 400 {
			t.Errorf("status %d", w.Code)
		}
		checkSums(t, e.Stats())
	})
}

// A storm of calls and changes: the books still balance.
func TestEverythingAddsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, Config{
			Service: 200 * time.Millisecond, CV: 0.5, ColdStart: 500 * time.Millisecond, ColdCV: 0.36,
			IdleTimeout: time.Second, Burst: 20, Ramp: 5, Cap: 60,
		})
		rng := rand.New(rand.NewPCG(3, 3))
		var wg sync.WaitGroup
		for i := range 3000 {
			time.Sleep(time.Duration(rng.ExpFloat64() * float64(3*time.Millisecond)))
			wg.Go(func() { get(t.Context(), e, "/") })
			switch i {
			case 800:
				_ = e.Control(Change{Throttle: new(true)})
			case 900:
				_ = e.Control(Change{Throttle: new(false), Fail: new(0.2)})
			case 2000:
				_ = e.Control(Change{Cap: new(10)})
			}
			if i%100 == 0 {
				checkSums(t, e.Stats())
			}
		}
		wg.Wait()
		s, b := e.Stats(), e.Bill()
		checkSums(t, s)
		if s.Arrived != 3000 || s.Running != 0 || b.Requests != s.Completed || b.BytesOut != int64(s.Completed-s.Failed)*(1024+fieldBytes) {
			t.Errorf("stats %+v, bill %+v", s, b)
		}
		if s.Throttled == 0 || s.ThrottledCap == 0 || s.ThrottledRamp == 0 || s.Failed == 0 || s.PeakInstances > 60 {
			t.Errorf("the storm missed a case: %+v", s)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{
		{Platform: "metal"},
		{Service: -1},
		{ColdStart: -1},
		{CV: -1},
		{ColdCV: 11},
		{Burst: -1},
		{Ramp: -1},
		{Cap: -1},
		{Memory: 1},
		{Body: maxPayload + 1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v) succeeded", c)
		}
	}
}

func TestCommand(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		cmd := Command()
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", args, err, want)
		}
	}
	f("want one of [lambda cloud-run azure openfaas]", "--platform", "metal")
	f("--cap: want more than 0", "--cap", "0")
	f("want none or image", "--work", "video")
	f("want an access key and a secret key", "--key", "AKID")
	f("want a number and one of", "--memory", "512")
	f("listen on 127.0.0.1:65536", "--listen", "127.0.0.1:65536")

	ctx, stop := context.WithCancel(t.Context())
	out := &stopper{stop: stop}
	cmd := Command()
	cmd.SetArgs([]string{"--listen", "127.0.0.1:0", "--json"})
	cmd.SetOut(out)
	if err := cmd.ExecuteContext(ctx); err != nil || !strings.Contains(out.String(), `"gb_seconds":0`) {
		t.Errorf("output %s, %v", out.String(), err)
	}
}

// A stopper stops the program that wrote its first line to it.
type stopper struct {
	strings.Builder
	stop func()
}

func (s *stopper) Write(p []byte) (int, error) {
	defer s.stop()
	return s.Builder.Write(p)
}
