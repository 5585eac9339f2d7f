package functions

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"spillway/cmd/surge/serve"
)

// An event is payload format 2.0 or, without a version, 1.0, as far as an HTTP
// handler needs them.
type event struct {
	Version         string            `json:"version"`
	RawPath         string            `json:"rawPath"`
	RawQueryString  string            `json:"rawQueryString"`
	Cookies         []string          `json:"cookies"`
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	RequestContext  struct {
		Path string `json:"path"`
		HTTP struct {
			Method string `json:"method"`
		} `json:"http"`
	} `json:"requestContext"`

	Method       string              `json:"httpMethod"`
	MultiHeaders map[string][]string `json:"multiValueHeaders"`
	MultiQuery   map[string][]string `json:"multiValueQueryStringParameters"`
}

// parseEvent reads an event, and makes one of format 1.0 look like one of 2.0. The
// order of parameters is lost on the way, as it is for such a function.
func parseEvent(payload []byte) (event, error) {
	var ev event
	if err := json.Unmarshal(payload, &ev); err != nil {
		return ev, fmt.Errorf("decode event: %w", err)
	}
	if ev.Version == "" && ev.Method != "" {
		ev.RawPath, ev.RawQueryString = ev.RequestContext.Path, url.Values(ev.MultiQuery).Encode()
		ev.RequestContext.HTTP.Method = ev.Method
		ev.Headers = map[string]string{}
		for name, values := range ev.MultiHeaders {
			ev.Headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	} else if ev.Version != "2.0" {
		return ev, errors.New("event is neither of payload format 2.0 nor of 1.0")
	}
	if !strings.HasPrefix(ev.RawPath, "/") || ev.RequestContext.HTTP.Method == "" {
		return ev, errors.New("event has no path or no method")
	}
	return ev, nil
}

// request is the request that the event describes.
func (ev *event) request(ctx context.Context) (*http.Request, error) {
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(ev.Body); err != nil {
			return nil, fmt.Errorf("decode event body: %w", err)
		}
	}
	target := "http://" + ev.Headers["host"] + ev.RawPath
	if ev.RawQueryString != "" {
		target += "?" + ev.RawQueryString
	}
	out, err := http.NewRequestWithContext(ctx, ev.RequestContext.HTTP.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	for name, value := range ev.Headers {
		out.Header.Set(name, value)
	}
	if len(ev.Cookies) > 0 {
		out.Header.Set("Cookie", strings.Join(ev.Cookies, "; "))
	}
	return out, nil
}

// encodeResult is the answer as a result of the event's payload format.
func (ev *event) encodeResult(a *serve.Answer) []byte {
	result := struct {
		StatusCode      int                 `json:"statusCode"`
		Headers         map[string]string   `json:"headers,omitempty"`
		MultiHeaders    map[string][]string `json:"multiValueHeaders,omitempty"`
		Cookies         []string            `json:"cookies,omitempty"`
		Body            string              `json:"body"`
		IsBase64Encoded bool                `json:"isBase64Encoded"`
	}{StatusCode: a.Status}
	if ev.Version == "2.0" {
		result.Headers = map[string]string{}
		for name, values := range a.Header() {
			if name == "Set-Cookie" {
				result.Cookies = values
				continue
			}
			result.Headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	} else {
		result.MultiHeaders = a.Header()
	}
	body := a.Body.Bytes()
	if result.IsBase64Encoded = !utf8.Valid(body); result.IsBase64Encoded {
		result.Body = base64.StdEncoding.EncodeToString(body)
	} else {
		result.Body = string(body)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // & as \u0026 would inflate what is billed
	if err := encoder.Encode(result); err != nil {
		panic("BUG: encode result: " + err.Error())
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}
