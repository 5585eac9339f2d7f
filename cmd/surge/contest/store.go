package contest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A store is a folder with a file for each finished run.
type store struct{ dir string }

func (s store) file(scenario, contender string, seed uint64) string {
	return filepath.Join(s.dir, scenario, fmt.Sprintf("%s-%d.json", contender, seed))
}

// load returns the result of a run, or nil when it has not been done,
// was of another plan, or its file is broken: then it is to be played.
func (s store) load(scenario, contender string, seed uint64, plan string) (*Result, error) {
	var r Result
	err := readJSON(s.file(scenario, contender, seed), &r)
	var broken *json.SyntaxError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &broken), err == nil && r.Plan != plan:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read result: %w", err)
	}
	return &r, nil
}

// save keeps the result.
func (s store) save(r Result) error { return writeJSON(s.file(r.Scenario, r.Contender, r.Seed), r) }

// writeJSON writes a file in one step, so that what is there is whole.
func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file+".new", b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.Rename(file+".new", file)
}

func readJSON(file string, into any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// digestFile is a fingerprint of a file.
func digestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}
