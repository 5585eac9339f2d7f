package faas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// decodeV1 reads the event with the types that functions in Go use.
func decodeV1(t *testing.T, r *Request) events.APIGatewayProxyRequest {
	t.Helper()
	payload, err := EncodeEventV1(r, start)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields() // a name that Lambda does not have is a mistake here
	var e events.APIGatewayProxyRequest
	if err := dec.Decode(&e); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
	return e
}

func TestEventV1AsFunctionsReadIt(t *testing.T) {
	r := ask("POST", "/thumb/a%2Fb%20c.jpg", "w=480&t=%C3%A4&w=960", http.Header{
		"Accept": {"image/avif", "image/webp"}, "Cookie": {"a=1; b=2", "c=3"}, "User-Agent": {"Mozilla/5.0"}, "X-Name": {"\xe4"},
		"Connection": {"X-Gone"}, "X-Gone": {"1"}, "Te": {"trailers"}, "X-Amzn-Trace-Id": {"theirs"}, "Host": {"theirs"},
		"Content-Type": {"application/json"}, "Content-Length": {"999"},
	})
	r.Body = []byte(`{"a":"&"}`)
	want := events.APIGatewayProxyRequest{
		Resource: "/{proxy+}", Path: "/thumb/a/b c.jpg", HTTPMethod: "POST", Body: `{"a":"&"}`,
		Headers: map[string]string{
			"Accept": "image/webp", "Cookie": "a=1; b=2; c=3", "User-Agent": "Mozilla/5.0", "X-Name": "\u00e4",
			"Host": "img.example.com", "Content-Type": "application/json", "Content-Length": "9",
		},
		MultiValueHeaders: map[string][]string{
			"Accept": {"image/avif", "image/webp"}, "Cookie": {"a=1; b=2; c=3"}, "User-Agent": {"Mozilla/5.0"}, "X-Name": {"\u00e4"},
			"Host": {"img.example.com"}, "Content-Type": {"application/json"}, "Content-Length": {"9"},
		},
		QueryStringParameters:           map[string]string{"w": "960", "t": "ä"},
		MultiValueQueryStringParameters: map[string][]string{"w": {"480", "960"}, "t": {"ä"}},
		PathParameters:                  map[string]string{"proxy": "thumb/a/b c.jpg"},
		RequestContext: events.APIGatewayProxyRequestContext{
			AccountID: "anonymous", APIID: "spillway", DomainName: "img.example.com", DomainPrefix: "img",
			RequestID: "id-1", ExtendedRequestID: "id-1", HTTPMethod: "POST", Path: "/thumb/a%2Fb%20c.jpg", Protocol: "HTTP/1.1",
			Identity:    events.APIGatewayRequestIdentity{SourceIP: "2001:db8::7", UserAgent: "Mozilla/5.0"},
			RequestTime: "01/Mar/2026:12:00:00 +0000", RequestTimeEpoch: start.UnixMilli(),
			ResourceID: "proxy", ResourcePath: "/{proxy+}", Stage: "default",
		},
	}
	if got := decodeV1(t, r); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if len(r.Header["Cookie"]) != 2 || r.Header.Get("Content-Length") != "999" {
		t.Error("the visitor's header was changed in place")
	}
}

// A REST API sends null where there is nothing.
func TestEventV1OfAnEmptyRequest(t *testing.T) {
	payload, err := EncodeEventV1(ask("HEAD", "/", "", nil), start)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"resource":"/"`, `"path":"/"`, `"httpMethod":"HEAD"`, `"body":null`, `"queryStringParameters":null`,
		`"multiValueQueryStringParameters":null`, `"pathParameters":null`, `"stageVariables":null`, `"isBase64Encoded":false`,
	} {
		if !bytes.Contains(payload, []byte(part)) {
			t.Errorf("no %s in %s", part, payload)
		}
	}
}

func TestEventV1PathAndQuery(t *testing.T) {
	f := func(path, decoded, query string, want map[string][]string) {
		t.Helper()
		e := decodeV1(t, ask("GET", path, query, nil))
		if e.Path != decoded || e.RequestContext.Path != escape(path) {
			t.Errorf("%s became %s (%s)", path, e.Path, e.RequestContext.Path)
		}
		if !reflect.DeepEqual(e.MultiValueQueryStringParameters, want) {
			t.Errorf("%s: parameters %v, want %v", query, e.MultiValueQueryStringParameters, want)
		}
	}
	f("/", "/", "", nil)
	f("/a%2Fb", "/a/b", "a=1&a=2&b=%20", map[string][]string{"a": {"1", "2"}, "b": {" "}})
	f("//a", "//a", "a+b=c+d", map[string][]string{"a b": {"c d"}})
	f("/../a", "/../a", "a;b=1;c", map[string][]string{"a;b": {"1;c"}})
	f("/%00", "/\x00", "=1&a", map[string][]string{"": {"1"}, "a": {""}})
	f("/%ff", "/%ff", "a=%zz&%ff=a", map[string][]string{"a": {"%zz"}, "%ff": {"a"}})
	f("/%zz", "/%zz", "&&", nil)
	f("/\xc3\xa4", "/ä", "t=\xff", map[string][]string{"t": {"%FF"}})
}

func TestEventV1Body(t *testing.T) {
	f := func(contentType, contentEncoding string, body []byte, encoded bool) {
		t.Helper()
		r := ask("POST", "/", "", http.Header{"Content-Type": {contentType}, "Content-Encoding": {contentEncoding}})
		if contentEncoding == "" {
			delete(r.Header, "Content-Encoding")
		}
		r.Body = body
		e := decodeV1(t, r)
		want := string(body)
		if encoded {
			want = base64.StdEncoding.EncodeToString(body)
		}
		if e.IsBase64Encoded != encoded || e.Body != want {
			t.Errorf("%s %s: base64 %t, %q", contentType, contentEncoding, e.IsBase64Encoded, e.Body)
		}
	}
	f("text/plain", "", []byte("\ufeffa\x00b"), false)
	f("text/plain", "", []byte("\xff"), true)
	f("text/plain", "gzip", []byte("\x1f\x8b\x08"), true)
	f("image/jpeg", "", []byte("\xff\xd8"), true)
	f("", "", []byte("text of unknown kind"), true)
}

func TestEventV1ThatIsTooLarge(t *testing.T) {
	r := ask("POST", "/", "", http.Header{})
	r.Body = make([]byte, MaxPayload*3/4)
	_, err := EncodeEventV1(r, start)
	if e := AsError(err); err == nil || e.Class != TooLarge || e.Executed {
		t.Errorf("%v", err)
	}
}
