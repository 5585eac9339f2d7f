package waiting

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"strings"
	"time"
)

//go:embed page.html
var ownPage string

// A Page is what visitors see while they wait.
type Page struct{ template *template.Template }

// OwnPage is the room's own: small, in the visitor's language, without a script
// or anything else to fetch.
var OwnPage = &Page{template.Must(template.New("page.html").Parse(ownPage))}

// pageMost bounds a template, and what comes of it: it is sent when the node has
// no time to spare. Not a knob.
const pageMost = 64 << 10

// A View is what a template can show of a visitor's wait. Its texts are in the
// visitor's language.
type View struct {
	Lang, Dir string // of the language: en, ltr
	Title     string
	Text      string
	Stay      string // that one need not do anything
	Reload    string // for a link
	// Next says that the visitor's turn is next, and NextText tells it so; then
	// there is neither Ahead nor an estimate.
	Next     bool
	NextText string
	// Ahead is how many are ahead, rounded up to two digits.
	Ahead      int
	AheadLabel string
	// Estimate says how long that takes, or is empty where that is not known.
	Estimate      string
	EstimateLabel string
	// Again is after how many seconds the page asks again; the header Refresh says
	// it too.
	Again     int
	RequestID string
}

// view puts a notice into words.
func (n *Notice) view(acceptLanguage, requestID string) View {
	w := speak(acceptLanguage)
	v := View{
		Lang: w.tag.String(), Dir: w.direction(), Title: w.Title, Text: w.Text, Stay: w.Stay, Reload: w.Reload,
		Next: n.Known && n.Estimate == 0, NextText: w.Next,
		AheadLabel: w.Ahead, EstimateLabel: w.Estimate, Again: n.Seconds(), RequestID: requestID,
	}
	if v.Next {
		return v
	}
	v.Ahead = roundUp(n.Ahead)
	if n.Known {
		v.Estimate = w.duration(n.Estimate)
	}
	return v
}

// Seconds is Again in whole seconds, for header fields.
func (n *Notice) Seconds() int { return int(n.Again / time.Second) }

// ReadPage reads a template and tries it. Its errors begin with the file and,
// where there is one, the line.
func ReadPage(file string) (*Page, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, pageMost+1))
	if err != nil {
		return nil, err
	}
	if len(text) > pageMost {
		return nil, fmt.Errorf("%s: the page is larger than %d KiB", file, pageMost>>10)
	}
	t, err := template.New(file).Parse(string(text))
	if err != nil {
		return nil, placed(err, file)
	}
	p := &Page{t}
	for _, n := range []Notice{
		{Again: soonest}, {Known: true, Again: soonest}, {Ahead: 1234, Estimate: time.Hour, Known: true, Again: latest},
	} {
		if _, err := p.execute(&n, "en", "0123456789abcdef01234567"); err != nil {
			return nil, placed(err, file)
		}
	}
	return p, nil
}

// placed takes the name of the template package off an error, so that it begins
// with the file and the line.
func placed(err error, file string) error {
	text := err.Error()
	for _, prefix := range []string{"html/template:", "template:"} {
		text = strings.TrimPrefix(text, prefix)
	}
	if text = strings.TrimSpace(text); !strings.HasPrefix(text, file) {
		text = file + ": " + text
	}
	return errors.New(text)
}

// Render returns the page for a notice, in the language that suits the field
// Accept-Language best. A template that fails is replaced by the room's own page.
func (p *Page) Render(n *Notice, acceptLanguage, requestID string) []byte {
	text, err := p.execute(n, acceptLanguage, requestID)
	if err != nil && p != OwnPage {
		return OwnPage.Render(n, acceptLanguage, requestID)
	}
	return text
}

func (p *Page) execute(n *Notice, acceptLanguage, requestID string) ([]byte, error) {
	out := boundedBuffer{}
	err := p.template.Execute(&out, n.view(acceptLanguage, requestID))
	return out.Bytes(), err
}

// A boundedBuffer fails when a template makes more than a page may be.
type boundedBuffer struct{ bytes.Buffer }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > pageMost {
		return 0, fmt.Errorf("the page becomes larger than %d KiB", pageMost>>10)
	}
	return b.Buffer.Write(p)
}
