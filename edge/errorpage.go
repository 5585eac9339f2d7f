package edge

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errorPages are what the node says instead of its own few words, by status. They
// are read when the configuration is loaded, so that an answer under load costs
// no file. What an origin or a function says is never replaced.
type errorPages map[string]*errorPage

// An errorPage is one page, cut at the places where something of the exchange is
// put in.
type errorPage struct {
	contentType []string
	parts       []string // text, placeholder, text, ... , text
}

// errorPageMost bounds a page: it is sent when the node has no time to spare. Not
// a knob.
const errorPageMost = 64 << 10

// newErrorPages reads the pages that the configuration names, by status (404) or
// class (5xx).
func newErrorPages(files map[string]string) (errorPages, error) {
	pages := errorPages{}
	for status, file := range files {
		if err := CheckErrorStatus(status); err != nil {
			return nil, fmt.Errorf("error_pages: %w", err)
		}
		page, err := readErrorPage(file)
		if err != nil {
			return nil, fmt.Errorf("error_pages: %s: %w", status, err)
		}
		pages[strings.ToLower(status)] = page
	}
	return pages, nil
}

// CheckErrorStatus says what is wrong with a key of error_pages: it is a status
// of an error, such as 404, or a class of them, 4xx or 5xx.
func CheckErrorStatus(key string) error {
	n, err := strconv.Atoi(key)
	if lower := strings.ToLower(key); lower == "4xx" || lower == "5xx" || err == nil && n >= 400 && n <= 599 {
		return nil
	}
	return fmt.Errorf("%q is no status of an error: write one from 400 to 599, 4xx or 5xx", key)
}

func readErrorPage(file string) (*errorPage, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, errorPageMost+1))
	if err != nil {
		return nil, err
	}
	if len(text) > errorPageMost {
		return nil, fmt.Errorf("%s is larger than %d KiB", file, errorPageMost>>10)
	}
	contentType := mime.TypeByExtension(filepath.Ext(file))
	if contentType == "" {
		contentType = "text/html; charset=utf-8"
	}
	return &errorPage{contentType: []string{contentType}, parts: cut(string(text))}, nil
}

// The places of a page: {{status}} and {{request_id}}.
const (
	placeStatus = "status"
	placeID     = "request_id"
)

// cut splits a page at its places. What else stands in braces is left alone.
func cut(text string) []string {
	parts := []string{}
	begin := 0
	for i := 0; i < len(text); i++ {
		for _, place := range []string{placeStatus, placeID} {
			if mark := "{{" + place + "}}"; strings.HasPrefix(text[i:], mark) {
				parts = append(parts, text[begin:i], place)
				begin = i + len(mark)
				i = begin - 1
				break
			}
		}
	}
	return append(parts, text[begin:])
}

// find returns the page for a status, or else for its class. Nil means that there
// is none.
func (p errorPages) find(status int) *errorPage {
	if len(p) == 0 {
		return nil
	}
	if page := p[strconv.Itoa(status)]; page != nil {
		return page
	}
	return p[strconv.Itoa(status/100)+"xx"]
}

// text returns the page for an exchange.
func (p *errorPage) text(x *exchange, status int) []byte {
	var b []byte
	for i, part := range p.parts {
		switch {
		case i%2 == 0:
			b = append(b, part...)
		case part == placeStatus:
			b = append(b, strconv.Itoa(status)+" "+http.StatusText(status)...)
		default:
			b = append(b, x.requestID()...)
		}
	}
	return b
}
