package waiting

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/language"
)

var someNotices = []Notice{
	{Known: true, Again: 2 * time.Second},
	{Ahead: 7, Again: 8 * time.Second},
	{Ahead: 123_456, Estimate: 170 * time.Second, Known: true, Again: 30 * time.Second},
	{Ahead: 123_456, Estimate: 5 * time.Hour, Known: true, Again: 30 * time.Second},
}

func TestPageIsSmallAndWhole(t *testing.T) {
	for _, l := range languages {
		for _, n := range someNotices {
			text := string(OwnPage.Render(&n, l.tag.String(), "0123456789abcdef01234567"))
			if len(text) > 4<<10 {
				t.Errorf("%v: %d bytes", l.tag, len(text))
			}
			for _, needed := range []string{
				`<html lang="` + l.tag.String() + `"`, `role="status"`, "light dark", "</html>", "0123456789abcdef01234567",
			} {
				if !strings.Contains(text, needed) {
					t.Errorf("%v: the page lacks %s", l.tag, needed)
				}
			}
			for _, forbidden := range []string{"<script", "http://", "https://", "src=", "ZgotmplZ"} {
				if strings.Contains(text, forbidden) {
					t.Errorf("%v: the page has %s", l.tag, forbidden)
				}
			}
		}
		for i, text := range []string{l.Title, l.Text, l.Stay, l.Reload, l.Next, l.Ahead, l.Estimate, l.moment, l.minutes, l.hour} {
			if text == "" || (text == l.minutes) != strings.Contains(text, "#") {
				t.Errorf("%v: text %d is %q", l.tag, i, text)
			}
		}
	}
}

func TestLanguages(t *testing.T) {
	f := func(accept string, want language.Tag) {
		t.Helper()
		if got := speak(accept).tag; got != want {
			t.Errorf("%q gets %v, want %v", accept, got, want)
		}
	}
	f("", language.English)
	f("de", language.German)
	f("de-AT,de;q=0.9,en;q=0.8", language.German)
	f("en;q=0.5, fr", language.French)
	f("pt-BR", language.Portuguese)
	f("zh-Hant-TW", language.Chinese)
	f("tlh, ja;q=0.1", language.Japanese)
	f("tlh", language.English)
	f("*", language.English)
	f("\x00;;q=q, ,", language.English)
	f("it, "+strings.Repeat("x", 10_000), language.Italian)
	f(strings.Repeat("de-", 10_000), language.English)
	if v := someNotices[0].view("ar-EG", ""); v.Dir != "rtl" || v.Lang != "ar" {
		t.Errorf("Arabic goes %s", v.Dir)
	}
}

func TestEstimatesPromiseNoMoreThanIsKnown(t *testing.T) {
	f := func(d time.Duration, want string) {
		t.Helper()
		if got := languages[0].duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	f(time.Second, "less than a minute")
	f(61*time.Second, "about 2 min")
	f(121*time.Second, "about 3 min")
	f(46*time.Minute, "about 60 min")
	f(61*time.Minute, "longer than an hour")

	n := func(n, want int) {
		t.Helper()
		if got := roundUp(n); got != want {
			t.Errorf("%d is rounded to %d, want %d", n, got, want)
		}
	}
	n(0, 0)
	n(99, 99)
	n(101, 110)
	n(123_456, 130_000)

	if v := someNotices[1].view("en", ""); v.Estimate != "" || v.Next {
		t.Errorf("without an estimate it says %+v", v)
	}
}

func TestEstimate(t *testing.T) {
	f := func(p pace, ahead int, want time.Duration, known bool) {
		t.Helper()
		got, ok := p.estimate(ahead)
		if ok != known || math.Abs(float64(got-want)) > float64(time.Second) {
			t.Errorf("%+v, %d ahead: %v %v, want %v %v", p, ahead, got, ok, want, known)
		}
	}
	f(pace{}, 10, 0, false)
	f(pace{seconds: 10}, 10, 0, false)
	f(pace{seconds: 2, admitted: 9}, 10, 0, false)
	f(pace{seconds: 10, visits: 1000, admitted: 100}, 600, time.Minute, true)
	// One in a hundred leaves each second: 600 are gone in less than a minute.
	f(pace{seconds: 10, visits: 10_000, admitted: 100, left: 100}, 600, 47*time.Second, true)
	f(pace{seconds: 10, visits: 10_000, admitted: 1}, 1_000_000, TicketLife, true)
}

func TestOwnTemplatesAreTried(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "wait.html")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := ReadPage(file)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want == "":
			if got := string(p.Render(&someNotices[2], "fr", "")); got != "<p title=\"environ 3 min\">130000</p>" {
				t.Errorf("it says %s", got)
			}
		case err == nil || !strings.HasPrefix(err.Error(), file+want):
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	f(`<p title="{{.Estimate}}">{{.Ahead}}</p>`, "")
	f("<p>\n{{.Ahead}", ":2: ")
	f("\n\n{{.Nobody}}", ":3:")
	f("\n<a href={{if .Next}}'{{end}}>", ":")
	f("{{range $i := 100000}}{{$i}}{{end}}", ": ")
	f(strings.Repeat("x", pageMost+1), ": ")
	if _, err := ReadPage(filepath.Join(t.TempDir(), "none.html")); err == nil {
		t.Error("a file that is not there is a page")
	}
}

func TestATemplateThatFailsIsReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wait.html")
	if err := os.WriteFile(file, []byte("{{if eq .Ahead 130000}}{{index .Lang 99}}{{end}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ReadPage(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Render(&someNotices[2], "en", "1"); string(got) != string(OwnPage.Render(&someNotices[2], "en", "1")) {
		t.Errorf("it says %s", got)
	}
}

func TestNoticesForPrograms(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal(someNotices[1].JSON(503, "1", ""), &got); err != nil {
		t.Fatal(err)
	}
	if _, told := got["estimate_seconds"]; told || got["status"] != 503.0 || got["ahead"] != 7.0 || got["retry_after_seconds"] != 8.0 {
		t.Errorf("%v", got)
	}
	if err := json.Unmarshal(someNotices[2].JSON(503, "1", ""), &got); err != nil || got["estimate_seconds"] != 170.0 {
		t.Errorf("%v %v", got, err)
	}
}

// FuzzAcceptLanguage asks that whatever a visitor accepts, there is a page.
func FuzzAcceptLanguage(f *testing.F) {
	f.Add("de-CH-1996, en;q=0.5, *;q=0.1")
	f.Add("x-klingon;q=\x00")
	f.Add(strings.Repeat("a-", 200))
	f.Fuzz(func(t *testing.T, accept string) {
		if text := string(OwnPage.Render(&someNotices[2], accept, "")); !strings.HasSuffix(text, "</html>\n") {
			t.Errorf("%q gets %s", accept, text)
		}
	})
}
