package cache

import (
	"io"
	"strings"
	"testing"
	"time"

	"spillway/edge/coding"
)

// TestDecode: what the origin sends encoded reaches those who cannot decode, decoded once.
func TestDecode(t *testing.T) {
	for _, sent := range coding.All {
		c, p := poisoned(config()), compressing(t)
		fetch := answers(200, encoded(t, sent, pageText), "Cache-Control: max-age=60", "Content-Type: text/html", "Content-Encoding: "+sent.String(), `Etag: W/"1"`)
		for i, accept := range []string{sent.String(), "identity", "deflate", sent.String() + ";q=0, *", "", sent.String()} {
			_, h, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: "+accept), fetch)
			plain := i > 0 && i < 5
			if err != nil || decoded(t, h, body) != pageText || (h.Get("Content-Encoding") == "") != plain || h.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: %v, %v", accept, err, h)
			}
			if tag := h.Get("Etag"); (tag != `W/"1"`) != plain {
				t.Errorf("%s: %s", accept, tag)
			}
			allRecoded(t, c)
		}
		if s := c.State(); s.Recoded != (RecodedState{Identity: 1}) || s.Entries != 2 {
			t.Errorf("%+v", s)
		}
	}
}

// TestDecodeBroken: a body that cannot be decoded, or was made to fill memories, ends with
// an error, and nothing is stored of it.
func TestDecodeBroken(t *testing.T) {
	for what, body := range map[string]string{
		"cut":     encoded(t, coding.Gzip, pageText)[:100],
		"garbage": strings.Repeat("garbage", 100),
		"bomb":    encoded(t, coding.Gzip, strings.Repeat("\x00", 8<<20)),
	} {
		c, p := poisoned(config()), compressing(t)
		fetch := answers(200, body, "Cache-Control: max-age=60", "Content-Type: text/html", "Content-Encoding: gzip")
		for range 2 {
			if _, _, got, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: identity"), fetch); err == nil || len(got) > 3<<20 {
				t.Errorf("%s: %d bytes, %v", what, len(got), err)
			}
			allRecoded(t, c)
			if s := c.State(); s.Entries != 1 {
				t.Errorf("%s: %+v", what, s)
			}
		}
	}
}

// TestDecodeAlone: what is too large to be kept is decoded for each who cannot, be there one
// already or be too much being decoded, up to a bound.
func TestDecodeAlone(t *testing.T) {
	cfg := config()
	cfg.MaxObject = 64 << 10
	c, p := poisoned(cfg), compressing(t)
	large := strings.Repeat(pageText, 20)
	fetch := answers(200, encoded(t, coding.Gzip, large), fresh, "Content-Type: text/html", "Content-Encoding: gzip")
	visitCoded(t, c, p, get("/a", "Accept-Encoding: gzip"), fetch)
	r := get("/a", "Accept-Encoding: identity")
	var open []*Response
	for range 4 {
		found := Result{Policy: p}
		c.Find(r, time.Now(), &found)
		resp := c.Recode(t.Context(), r, &found)
		found.Release()
		if resp == nil {
			t.Fatalf("%d have it, and the next gets gzip", len(open))
		}
		open = append(open, resp)
		if shared, ok := resp.Body.(*reader); ok { // until it has outgrown the largest object
			for shared.fill.expect() {
				shared.fill.renounce()
				time.Sleep(time.Millisecond)
			}
		}
	}
	c.Purge()
	for _, resp := range open {
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != large || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		resp.Body.Close()
	}
	allRecoded(t, c)
	if s := c.State(); c.recodings.alone.Load() != 0 || s.Pinned != 0 || s.FillBytes != 0 {
		t.Errorf("left: %+v", s)
	}
	c.recodings.most = 0
	visitCoded(t, c, p, get("/a", "Accept-Encoding: gzip"), fetch)
	if _, h, body, err := visitCoded(t, c, p, r, noFetch(t)); err != nil || h.Get("Content-Encoding") != "gzip" || decoded(t, h, body) != large || c.State().Unrecoded != 1 {
		t.Errorf("beyond the bound: %v, %v", h, err)
	}
}
