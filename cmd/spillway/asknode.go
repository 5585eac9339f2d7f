package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"spillway/edge/admin"
)

// askNode posts to the node's admin listener, and reads the answer. The body is what
// --json prints.
func askNode[T any](ctx context.Context, client *admin.Client, path string) (answer T, body []byte, err error) {
	if body, err = client.Post(ctx, path); err != nil {
		return answer, nil, notRunning(err)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		endpoint, _, _ := strings.Cut(path, "?")
		return answer, nil, fmt.Errorf("read answer to %s: %w", endpoint, err)
	}
	return answer, body, nil
}

// printAnswer asks the node, and prints its answer by write if not as JSON.
func printAnswer[T any](
	ctx context.Context, client *admin.Client, path string, asJSON bool, out io.Writer, write func(io.Writer, *T) error,
) error {
	answer, body, err := askNode[T](ctx, client, path)
	if err != nil {
		return err
	}
	if asJSON {
		_, err := out.Write(body)
		return err
	}
	return write(out, &answer)
}
