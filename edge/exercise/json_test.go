package exercise

import (
	"bytes"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func jsonDigest(text string) (uint64, error) {
	return digest(strings.NewReader(text), http.Header{}, JSON)
}

func TestDigestJSON(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		x, errX := jsonDigest(a)
		y, errY := jsonDigest(b)
		if errX != nil || errY != nil || (x == y) != want {
			t.Errorf("%s and %s: %v %v", a, b, errX, errY)
		}
	}
	f(`{"a":1,"b":2}`, `{"b":2,"a":1}`, true)
	f(`[1,2]`, `[2,1]`, false)
	f(`{"a":{"b":1}}`, `{"b":{"a":1}}`, false)
	f(`[[1],2]`, `[1,[2]]`, false)
	f(`[]`, `{}`, false)
	f(`[[]]`, `[]`, false)
	f(`{"a":[]}`, `{"a":{}}`, false)
	f(`"1"`, `1`, false)
	f(`"true"`, `true`, false)
	f(`null`, `""`, false)
	f(`"a\u0062"`, `"ab"`, true)
	f(`1.0`, `1`, true)
	f(`100`, `1E2`, true)
	f(`-0`, `0.0e9`, true)
	f(`-1`, `1`, false)
	f(`9007199254740993`, `9007199254740992`, false)
	f(`1e400`, `1e401`, false)
	f(`1e99999999999999999999`, `1e99999999999999999998`, false)
	f(`{"a":1,"b":1}`, `{"a":1,"c":1}`, false)
	for _, text := range []string{
		``, `{`, `[1`, `[1 2]`, `{"a"}`, `{"a":1}{}`, `1 1`, `{"a":1,"a":1}`, `nul`, `{1:2}`, `[1}`, `<html>`,
		"\"\xe9\"", "{\"\xe9\":1}", `"\ud800"`, `{"\udfff":1}`,
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), strings.Repeat("[", 1<<20),
	} {
		if _, err := jsonDigest(text); err != errNotJSON {
			t.Errorf("%.40s: %v", text, err)
		}
	}
	if _, err := jsonDigest(strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)); err != nil {
		t.Errorf("as deep as may be: %v", err)
	}
	if _, err := jsonDigest(`"` + strings.Repeat("x", maxDecoded) + `"`); err != errTooLong {
		t.Errorf("too much: %v", err)
	}
}

// TestDecimal compares with arithmetic.
func TestDecimal(t *testing.T) {
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		if (x.Cmp(y) == 0) != (decimal(a) == decimal(b)) {
			t.Fatalf("%s is %s, and %s is %s", a, decimal(a), b, decimal(b))
		}
	})
}

// FuzzDigestJSON: what is written anew has the digest of what was read, and what is
// no JSON has none.
func FuzzDigestJSON(f *testing.F) {
	f.Add([]byte(`{"b":[1,2.50,"x\n",null,true],"a":{}}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(`[[[[`))
	f.Add([]byte(`-0.0e-1 `))
	f.Add([]byte("\"\xe9\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		sum, err := jsonDigest(string(text))
		if err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var value any
		if err := d.Decode(&value); err != nil {
			t.Fatalf("a digest of what is no JSON: %v", err)
		}
		anew, err := json.MarshalIndent(value, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := jsonDigest(string(anew)); err != nil || again != sum {
			t.Errorf("%q is another value than %q: %v", anew, text, err)
		}
	})
}
