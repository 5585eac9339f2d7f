// Package picture is the example work of a small web service: it answers with
// thumbnails that carry a watermark and with overlays that carry a QR code for
// one visitor, made from three embedded photographs.
//
// The same handler runs as a function and as the reference origin, so that both
// give the same answer to the same request. It costs a few milliseconds of CPU
// a picture, which is what makes a crowd hard on a small origin. A request that
// asks for something impossible gets a 4xx with a plain sentence. It bounds the
// size of what it draws and the length of what it writes, but not how many
// requests run at once: that is the caller's part.
package picture

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// The bounds of a request. They keep the work of one request below about ten
// milliseconds.
const (
	minWidth     = 64
	maxWidth     = 1024
	defaultWidth = 480
	maxText      = 200 // bytes in a QR code; 65 modules a side at most
)

// Options change what the pictures say.
type Options struct {
	// Watermark stands in the corner of each thumbnail. Empty means "spillway".
	Watermark string
	Log       *slog.Logger
}

// Handler answers
//
//	/picture/NAME.jpg?w=480            a thumbnail for everybody, cacheable
//	/overlay/NAME.jpg?w=480&text=...   one visitor's picture, never stored
//
// for the names of [Names].
func Handler(o Options) http.Handler {
	if o.Watermark == "" {
		o.Watermark = "spillway"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	studio, err := newStudio()
	if err != nil {
		panic("BUG: embedded pictures: " + err.Error())
	}
	h := &handler{studio: studio, watermark: o.Watermark, log: o.Log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /picture/{file}", h.picture)
	mux.HandleFunc("GET /overlay/{file}", h.overlay)
	return mux
}

type handler struct {
	studio    *studio
	watermark string
	log       *slog.Logger
}

func (h *handler) picture(w http.ResponseWriter, r *http.Request) {
	name, query, err := h.parse(r)
	if err != nil {
		refuse(w, err)
		return
	}
	width, err := widthOf(query)
	if err != nil {
		refuse(w, err)
		return
	}
	// The drawing is a pure function of these, so the tag can be told, and a
	// revalidation answered, without drawing.
	tag := etag(name, strconv.Itoa(width), h.watermark)
	header := w.Header()
	header.Set("Cache-Control", "public, max-age=60")
	header.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, err := h.studio.thumbnail(name, width, h.watermark)
	h.write(w, r, body, err)
}

func (h *handler) overlay(w http.ResponseWriter, r *http.Request) {
	name, query, err := h.parse(r)
	if err != nil {
		refuse(w, err)
		return
	}
	width, err := widthOf(query)
	if err != nil {
		refuse(w, err)
		return
	}
	text := query.Get("text")
	if text == "" || len(text) > maxText {
		refuse(w, &badRequest{http.StatusBadRequest, fmt.Sprintf("text must have 1 to %d bytes", maxText)})
		return
	}
	w.Header().Set("Cache-Control", "private, no-store")
	body, err := h.studio.overlay(name, width, text)
	h.write(w, r, body, err)
}

// parse finds the photograph's name and the query, whose errors it does not
// ignore: half a query would make a picture that nobody asked for.
func (h *handler) parse(r *http.Request) (string, url.Values, error) {
	file := r.PathValue("file")
	name, ok := strings.CutSuffix(file, ".jpg")
	if !ok || !h.studio.has(name) {
		return "", nil, &badRequest{http.StatusNotFound, "no such picture: try " + path.Join(path.Dir(r.URL.Path), Names[0]+".jpg")}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", nil, &badRequest{http.StatusBadRequest, "query cannot be parsed"}
	}
	return name, query, nil
}

func widthOf(query url.Values) (int, error) {
	text := query.Get("w")
	if text == "" {
		return defaultWidth, nil
	}
	width, err := strconv.Atoi(text)
	if err != nil || width < minWidth || width > maxWidth {
		return 0, &badRequest{http.StatusBadRequest, fmt.Sprintf("w must be a number from %d to %d", minWidth, maxWidth)}
	}
	return width, nil
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, body []byte, err error) {
	if err != nil {
		if bad := (*badRequest)(nil); !errors.As(err, &bad) {
			h.log.Error("draw picture", "path", r.URL.Path, "error", err)
			err = &badRequest{http.StatusInternalServerError, "the picture could not be drawn"}
		}
		w.Header().Del("ETag")
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the visitor may be gone; there is nobody left to tell
}

// badRequest is an error with the status that tells it.
type badRequest struct {
	status int
	text   string
}

func (e *badRequest) Error() string { return e.text }

func refuse(w http.ResponseWriter, err error) {
	bad := &badRequest{status: http.StatusInternalServerError}
	errors.As(err, &bad)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, err.Error(), bad.status)
}

func etag(parts ...string) string {
	sum := fnv.New64a()
	for _, part := range parts {
		_, _ = sum.Write([]byte(part)) // a hash does not fail
		_, _ = sum.Write([]byte{0})
	}
	return fmt.Sprintf(`"%016x"`, sum.Sum64())
}

// matches compares weakly, as RFC 9110 section 13.1.2 asks for If-None-Match.
func matches(condition, tag string) bool {
	for candidate := range strings.SplitSeq(condition, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
			return true
		}
	}
	return false
}
