package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// convert turns the text into a value of the field's type. The word auto
// becomes nil: the setting is left out, its zero value stands for it.
func (c *checker) convert(f *field, text string) (any, *fault) {
	if f.auto && text == "auto" {
		return nil, nil
	}
	v, bad := c.typed(f, text)
	if bad != nil {
		return nil, bad
	}
	if bad := c.within(f, v, text); bad != nil {
		return nil, bad
	}
	return v, nil
}

func (c *checker) typed(f *field, text string) (any, *fault) {
	switch f.unit {
	case "bytes":
		return orFault(parseBytes(text))
	case "duration":
		return orFault(parseDuration(text))
	case "ratio":
		return orFault(parseRatio(text))
	case "money":
		return orFault(parseMoney(text))
	}
	switch f.typ.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return nil, faultf("write true or false", "%q is neither true nor false", text)
		}
		return text == "true", nil
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, faultf("write "+f.allowed(), "%q is not a whole number", text)
		}
		return i, nil
	case reflect.String:
		return c.word(f, text)
	}
	panic("BUG: no conversion to " + f.typ.String())
}

func orFault[T any](v T, bad *fault) (any, *fault) {
	if bad != nil {
		return nil, bad
	}
	return v, nil
}

// word checks a text against the words and the form that the field allows.
func (c *checker) word(f *field, text string) (any, *fault) {
	if f.off && text == "off" {
		return text, nil
	}
	if slices.Contains(f.enum, text) {
		return text, nil
	}
	if f.enum != nil {
		remedy := meant(text, f.enum)
		if remedy == "" {
			remedy = "write " + oneOf(f.enum)
		}
		return nil, faultf(remedy, "%q is not one of %s", text, strings.Join(f.enum, ", "))
	}
	return c.form(f.format, text)
}

func oneOf(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// within checks the range of a number.
func (c *checker) within(f *field, v any, text string) *fault {
	if f.min != "" && amount(v) < c.bound(f, f.min) {
		return faultf("write "+f.allowed(), "%s is too small", text)
	}
	if f.max != "" && amount(v) > c.bound(f, f.max) {
		return faultf("write "+f.allowed(), "%s is too large", text)
	}
	return nil
}

func (c *checker) bound(f *field, text string) float64 {
	v, bad := c.typed(f, text)
	if bad != nil {
		panic("BUG: bound of " + f.name + ": " + bad.message)
	}
	return amount(v)
}

func amount(v any) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case time.Duration:
		return float64(v)
	case float64:
		return v
	}
	panic(fmt.Sprintf("BUG: %T has no range", v))
}
