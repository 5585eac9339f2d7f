package exercise

import (
	"encoding/json"
	"errors"
	"hash/maphash"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep a document may be nested, which costs stack. Not a knob.
const maxDepth = 200

// digestJSON reads one JSON document and returns a digest of its value: members of
// an object count in any order, and a number by its amount. What has a name twice in
// one object is no document here, since programs disagree about what it says (RFC
// 8259 section 4), nor is what is not Unicode (sections 8.1 and 8.2), since the
// decoder reads all of that alike.
func digestJSON(r io.Reader) (uint64, error) {
	d := json.NewDecoder(r)
	d.UseNumber()
	sum, err := digestValue(d, maxDepth)
	if err != nil {
		return 0, notJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return 0, notJSON(err)
	}
	return sum, nil
}

// notJSON keeps what the reader said, and calls all else a fault of the document.
func notJSON(err error) error {
	if errors.Is(err, errTooLong) {
		return err
	}
	return errNotJSON
}

func digestValue(d *json.Decoder, depth int) (uint64, error) {
	token, err := d.Token()
	if err != nil {
		return 0, err
	}
	switch v := token.(type) {
	case json.Delim:
		switch {
		case depth == 0:
			return 0, errNotJSON
		case v == '[':
			return digestArray(d, depth-1)
		default:
			return digestObject(d, depth-1)
		}
	case string:
		if !isText(v) {
			return 0, errNotJSON
		}
		return digestText('s', v), nil
	case json.Number:
		return digestText('n', decimal(v.String())), nil
	case bool:
		return digestText('b', strconv.FormatBool(v)), nil
	default:
		return digestText('0', ""), nil
	}
}

// isText reports whether the decoder has understood all of a text. A text that really
// holds what it puts in place of the rest is not understood either.
func isText(s string) bool { return !strings.ContainsRune(s, utf8.RuneError) }

func digestText(kind byte, text string) uint64 {
	return maphash.Comparable(seed, struct {
		kind byte
		text string
	}{kind, text})
}

func digestArray(d *json.Decoder, depth int) (uint64, error) {
	sum := digestText('a', "")
	for d.More() {
		element, err := digestValue(d, depth)
		if err != nil {
			return 0, err
		}
		sum = maphash.Comparable(seed, [2]uint64{sum, element})
	}
	_, err := d.Token() // the end
	return sum, err
}

func digestObject(d *json.Decoder, depth int) (uint64, error) {
	names, sum := map[uint64]bool{}, uint64(0)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return 0, err
		}
		text, _ := token.(string) // the decoder takes nothing else for a name
		name := digestText('m', text)
		if names[name] || !isText(text) {
			return 0, errNotJSON
		}
		names[name] = true
		value, err := digestValue(d, depth)
		if err != nil {
			return 0, err
		}
		sum += maphash.Comparable(seed, [2]uint64{name, value})
	}
	_, err := d.Token() // the end
	return maphash.Comparable(seed, [2]uint64{digestText('o', ""), sum}), err
}

// decimal writes a number of JSON so that equal amounts read alike: 1.50, 15e-1 and
// 0.15e1 are 15e-1. It computes nothing, so that no exponent costs anything.
func decimal(number string) string {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	sign := ""
	if rest, negative := strings.CutPrefix(mantissa, "-"); negative {
		sign, mantissa = "-", rest
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	power := int64(0)
	if exponent != "" {
		var err error
		if power, err = strconv.ParseInt(exponent, 10, 64); err != nil || power > math.MaxInt32 || power < math.MinInt32 {
			return number // nobody can compute with it
		}
	}
	short := strings.TrimRight(digits, "0")
	power += int64(len(digits)-len(short)) - int64(len(fraction))
	return sign + short + "e" + strconv.FormatInt(power, 10)
}
