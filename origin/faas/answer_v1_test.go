package faas

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"testing"
)

func TestAnswersOfFormat1(t *testing.T) {
	f := func(payload, method string, status int, header http.Header, body string, length int64) {
		t.Helper()
		resp, err := DecodeAnswerV1([]byte(payload), method)
		if err != nil {
			t.Errorf("%s: %v", payload, err)
			return
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != status || !reflect.DeepEqual(resp.Header, header) || string(got) != body || resp.ContentLength != length {
			t.Errorf("%s: %d %v %q, length %d", payload, resp.StatusCode, resp.Header, got, resp.ContentLength)
		}
	}
	none := http.Header{}
	f(`{"statusCode":200}`, "GET", 200, none, "", 0)
	f(`{"statusCode":"201","body":"text"}`, "GET", 201, none, "text", 4)
	f(`{"statusCode":200,"body":null,"headers":null,"multiValueHeaders":null,"isBase64Encoded":null}`, "GET", 200, none, "", 0)
	f(`{"statusCode":200,"body":"1234","headers":{"content-length":"4"}}`, "HEAD", 200, http.Header{"Content-Length": {"4"}}, "", 4)
	f(`{"statusCode":204,"body":"text"}`, "GET", 204, none, "", -1)
	// What stands in both is sent once, as REST APIs merge them.
	f(`{"statusCode":200,"headers":{"vary":"Accept","x-a":"1"},"multiValueHeaders":{"Vary":["Accept","Cookie"],"X-A":["2"]}}`, "GET", 200,
		http.Header{"Vary": {"Accept", "Cookie"}, "X-A": {"2", "1"}}, "", 0)
	f(`{"statusCode":200,"multiValueHeaders":{"set-cookie":["a=1","b=2"],"x":[7,null,true]}}`, "GET", 200,
		http.Header{"Set-Cookie": {"a=1", "b=2"}, "X": {"7", "true"}}, "", 0)
	f(`{"statusCode":200,"headers":{"Set-Cookie":"a=1","set-cookie":"b=2","SET-COOKIE":"c=3"}}`, "GET", 200,
		http.Header{"Set-Cookie": {"c=3", "a=1", "b=2"}}, "", 0)
	f(`{"statusCode":200,"cookies":["a=1"]}`, "GET", 200, none, "", 0) // is of format 2.0
	zipped := "\x1f\x8b\x08\x00\xff"
	f(fmt.Sprintf(`{"statusCode":200,"headers":{"Content-Encoding":"gzip"},"isBase64Encoded":true,"body":%q}`,
		base64.StdEncoding.EncodeToString([]byte(zipped))), "GET", 200, http.Header{"Content-Encoding": {"gzip"}}, zipped, 5)
}

func TestAnswersOfFormat1ThatMakeNoSense(t *testing.T) {
	for _, payload := range []string{
		``, `hello`, `"hello"`, `null`, `[1,2]`, `{"message":"hello"}`, `{"StatusCode":200}`, `{"statusCode":null}`, `{"statusCode":99}`,
		`{"statusCode":200,"body":{"a":1}}`, `{"statusCode":200,"multiValueHeaders":{"a":"b"}}`, `{"statusCode":200,"multiValueHeaders":{"a":[["b"]]}}`,
		`{"statusCode":200,"headers":{"a":{}}}`, `{"statusCode":200,"isBase64Encoded":true,"body":"!"}`,
	} {
		_, err := DecodeAnswerV1([]byte(payload), "GET")
		if e := AsError(err); err == nil || e.Class != FunctionError || !e.Executed {
			t.Errorf("%s: %v", payload, err)
		}
	}
}
