package faas

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// DecodeAnswerV1 reads what a function returned in AWS Lambda's payload format
// 1.0. It differs from [DecodeAnswer] in that there must be a statusCode, and in
// that headers and multiValueHeaders are merged: a value that stands in both is
// sent once.
func DecodeAnswerV1(payload []byte, method string) (*http.Response, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil {
		return nil, garbage(fmt.Errorf("not an object: %w", err))
	}
	if fields["statusCode"] == nil {
		return nil, garbage(errors.New("there is no statusCode"))
	}
	resp, err := answer(fields, answerHeaderV1, method)
	if err != nil {
		return nil, garbage(err)
	}
	return resp, nil
}

func answerHeaderV1(fields map[string]json.RawMessage) (http.Header, error) {
	header, err := multiValues(fields)
	if err != nil {
		return nil, err
	}
	single, err := singleValues(fields)
	if err != nil {
		return nil, err
	}
	for name, values := range single {
		header[name] = merged(header[name], values)
	}
	return header, nil
}
