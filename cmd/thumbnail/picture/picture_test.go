package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rsc.io/qr"
)

func get(t *testing.T, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler(Options{}).ServeHTTP(w, r)
	return w
}

func TestPictures(t *testing.T) {
	f := func(target string, width, height int, cacheControl string) {
		t.Helper()
		w := get(t, target)
		if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != cacheControl || w.Header().Get("Content-Type") != "image/jpeg" {
			t.Errorf("%s: %d, header %v", target, w.Code, w.Header())
		}
		if w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
			t.Errorf("%s: %d bytes, header %v", target, w.Body.Len(), w.Header())
		}
		c, err := jpeg.DecodeConfig(w.Body)
		if err != nil || c.Width != width || c.Height != height {
			t.Errorf("%s: %dx%d, %v", target, c.Width, c.Height, err)
		}
	}
	const public, private = "public, max-age=60", "private, no-store"
	f("/picture/harbour.jpg", 480, 320, public)
	f("/picture/meadow.jpg?w=64", 64, 42, public)
	f("/picture/market.jpg?w=1024", 1024, 683, public)
	f("/picture/market.jpg?w=333", 333, 222, public)
	f("/overlay/harbour.jpg?text=visitor", 480, 320, private)
	f("/overlay/harbour.jpg?text=%F0%9F%99%82&w=333", 333, 222, private)
	f("/overlay/harbour.jpg?w=1024&text="+strings.Repeat("x", maxText), 1024, 683, private)
}

func TestRefusals(t *testing.T) {
	f := func(target string, status int, want string) {
		t.Helper()
		w := get(t, target)
		if w.Code != status || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %q", target, w.Code, w.Body)
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "" {
			t.Errorf("%s: header %v", target, w.Header())
		}
	}
	f("/picture/mountain.jpg", 404, "try /picture/harbour.jpg")
	f("/overlay/harbour.png", 404, "try /overlay/harbour.jpg")
	f("/picture/harbour.jpg?w=0", 400, "from 64 to 1024")
	f("/picture/harbour.jpg?w=1e2", 400, "from 64 to 1024")
	f("/picture/harbour.jpg?w=1025", 400, "from 64 to 1024")
	f("/picture/harbour.jpg?w=%zz", 400, "query cannot be parsed")
	f("/overlay/harbour.jpg", 400, "1 to 200 bytes")
	f("/overlay/harbour.jpg?text="+strings.Repeat("x", maxText+1), 400, "1 to 200 bytes")
	f("/overlay/harbour.jpg?w=64&text="+strings.Repeat("x", maxText), 400, "too long for a picture of this width")
	if w := get(t, "/elsewhere"); w.Code != 404 {
		t.Errorf("/elsewhere: %d", w.Code)
	}
}

func TestRevalidation(t *testing.T) {
	tag := get(t, "/picture/market.jpg?w=64").Header().Get("ETag")
	f := func(target, condition string, status int) {
		t.Helper()
		w := get(t, target, "If-None-Match", condition)
		if w.Code != status || status == 304 && w.Body.Len() > 0 {
			t.Errorf("%s, %s: %d", target, condition, w.Code)
		}
	}
	f("/picture/market.jpg?w=64", tag, 304)
	f("/picture/market.jpg?w=64", `"x", W/`+tag, 304)
	f("/picture/market.jpg?w=64", "*", 304)
	f("/picture/market.jpg?w=64", `"x"`, 200)
	f("/picture/market.jpg?w=65", tag, 200)
	f("/picture/harbour.jpg?w=64", tag, 200)
}

// The same request makes the same bytes, wherever it is drawn.
func TestDrawingIsRepeatable(t *testing.T) {
	for _, target := range []string{"/picture/market.jpg?w=200", "/overlay/market.jpg?w=200&text=v"} {
		if !bytes.Equal(get(t, target).Body.Bytes(), get(t, target).Body.Bytes()) {
			t.Errorf("%s differs from itself", target)
		}
	}
	if bytes.Equal(get(t, "/overlay/market.jpg?text=a").Body.Bytes(), get(t, "/overlay/market.jpg?text=b").Body.Bytes()) {
		t.Error("two visitors get the same picture")
	}
}

// The code that was drawn is still there after the JPEG encoder.
func TestCodeIsLegible(t *testing.T) {
	const text = "https://example.com/v/1234"
	w := get(t, "/overlay/market.jpg?w=480&text="+text)
	m, err := jpeg.Decode(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	light := m.(*image.YCbCr)
	modules := code.Size + 2*quietZone
	pixels := m.Bounds().Dy() / 2 / modules
	left := (m.Bounds().Dx() - modules*pixels) &^ 1
	for y := range modules {
		for x := range modules {
			level := light.Y[light.YOffset(left+x*pixels+pixels/2, y*pixels+pixels/2)]
			if black := code.Black(x-quietZone, y-quietZone); black != (level < 0x80) {
				t.Fatalf("module %d,%d: black %t, level %d", x, y, black, level)
			}
		}
	}
}

func TestScaleKeepsColours(t *testing.T) {
	src := image.NewGray(image.Rect(0, 0, 50, 50))
	for i := range src.Pix {
		src.Pix[i] = uint8(i % 50 * 5)
	}
	f := func(width int) {
		t.Helper()
		dst := image.NewGray(image.Rect(0, 0, width, width))
		scalePlane(dst, src)
		for x := range width {
			want := min(max((float64(x)+0.5)*50/float64(width)-0.5, 0), 49) * 5
			if got := float64(dst.GrayAt(x, width/2).Y); got < want-1 || got > want+1 {
				t.Fatalf("width %d, column %d: %v, want %v", width, x, got, want)
			}
		}
	}
	f(50)
	f(25)
	f(100)
	f(33)
	f(1)
}

func BenchmarkThumbnail(b *testing.B) {
	benchmarkDraw(b, func(s *studio, _ int) ([]byte, error) { return s.thumbnail("market", 480, "spillway") })
}

func BenchmarkOverlay(b *testing.B) {
	benchmarkDraw(b, func(s *studio, i int) ([]byte, error) {
		return s.overlay("market", 480, fmt.Sprintf("https://example.com/v/%d", i))
	})
}

func benchmarkDraw(b *testing.B, draw func(*studio, int) ([]byte, error)) {
	s, err := newStudio()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		body, err := draw(s, i)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(body)))
	}
}
