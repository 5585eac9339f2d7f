package faas

import (
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// An eventV1 is a request in AWS Lambda's payload format 1.0, as REST APIs send
// it. All its fields are always there; what has no value is null.
type eventV1 struct {
	Resource        string              `json:"resource"`
	Path            string              `json:"path"`
	Method          string              `json:"httpMethod"`
	Headers         map[string]string   `json:"headers"`
	MultiHeaders    map[string][]string `json:"multiValueHeaders"`
	Query           map[string]string   `json:"queryStringParameters"`
	MultiQuery      map[string][]string `json:"multiValueQueryStringParameters"`
	PathParameters  map[string]string   `json:"pathParameters"`
	StageVariables  map[string]string   `json:"stageVariables"`
	Context         contextV1           `json:"requestContext"`
	Body            *string             `json:"body"`
	IsBase64Encoded bool                `json:"isBase64Encoded"`
}

type contextV1 struct {
	AccountID         string     `json:"accountId"`
	APIID             string     `json:"apiId"`
	DomainName        string     `json:"domainName"`
	DomainPrefix      string     `json:"domainPrefix"`
	ExtendedRequestID string     `json:"extendedRequestId"`
	Method            string     `json:"httpMethod"`
	Identity          identityV1 `json:"identity"`
	Path              string     `json:"path"`
	Protocol          string     `json:"protocol"`
	RequestID         string     `json:"requestId"`
	Time              string     `json:"requestTime"`
	TimeEpoch         int64      `json:"requestTimeEpoch"`
	ResourceID        string     `json:"resourceId"`
	ResourcePath      string     `json:"resourcePath"`
	Stage             string     `json:"stage"`
}

type identityV1 struct {
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// EncodeEventV1 writes a request as an event of format 1.0, with the rules of
// [EncodeEvent] for what JSON cannot hold. Fields and parameters that are sent
// twice have lists of their own; where there is place for one, the last counts.
//
// The path is decoded, as REST APIs do it, so that %2F cannot be told from a
// slash there: the path in the request's context is the one that was sent.
func EncodeEventV1(r *Request, now time.Time) ([]byte, error) {
	body, encoded := eventBody(r)
	host, path := latin1(r.Host), escape(r.Path)
	prefix, _, _ := strings.Cut(host, ".")
	e := eventV1{
		Resource: "/", Path: decodedPath(path), Method: r.Method, IsBase64Encoded: encoded,
		Context: contextV1{
			AccountID: "anonymous", APIID: "spillway", DomainName: host, DomainPrefix: prefix,
			RequestID: r.ID, ExtendedRequestID: r.ID, Method: r.Method, Path: path, Protocol: "HTTP/1.1",
			Identity: identityV1{UserAgent: latin1(r.Header.Get("User-Agent"))},
			Time:     now.UTC().Format(eventTime), TimeEpoch: now.UnixMilli(), ResourceID: "proxy", Stage: "default",
		},
	}
	if rest := strings.TrimPrefix(e.Path, "/"); rest != "" {
		e.Resource, e.PathParameters = "/{proxy+}", map[string]string{"proxy": rest}
	}
	e.Context.ResourcePath = e.Resource
	if r.Client.IsValid() {
		e.Context.Identity.SourceIP = r.Client.String()
	}
	if body != "" {
		e.Body = &body
	}
	e.MultiHeaders = headersV1(r)
	e.Headers = lastOf(e.MultiHeaders)
	e.MultiQuery = queryV1(escape(r.Query))
	e.Query = lastOf(e.MultiQuery)
	return marshalEvent(e, len(body))
}

// decodedPath stays as it is if it is encoded in a way that no text comes out.
func decodedPath(path string) string {
	if plain, err := url.PathUnescape(path); err == nil && utf8.ValidString(plain) {
		return plain
	}
	return path
}

// headersV1 keeps names and values apart. Only the Cookie fields are joined, of
// which HTTP/2 and HTTP/3 may send several, RFC 9113 section 8.2.3.
func headersV1(r *Request) map[string][]string {
	headers := map[string][]string{}
	for name, values := range eventFields(r) {
		for _, value := range values {
			headers[name] = append(headers[name], latin1(value))
		}
	}
	if pairs := cookies(r.Header); len(pairs) > 0 {
		headers["Cookie"] = []string{strings.Join(pairs, "; ")}
	}
	return headers
}

func queryV1(raw string) map[string][]string {
	var query map[string][]string
	for name, value := range parameters(raw) {
		if query == nil {
			query = map[string][]string{}
		}
		query[name] = append(query[name], value)
	}
	return query
}

// lastOf has the last value of each list; nil of nil.
func lastOf(lists map[string][]string) map[string]string {
	if lists == nil {
		return nil
	}
	last := make(map[string]string, len(lists))
	for name, values := range lists {
		last[name] = values[len(values)-1]
	}
	return last
}
