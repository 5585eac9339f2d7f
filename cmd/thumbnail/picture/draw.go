package picture

import (
	"bytes"
	"embed"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"net/http"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"rsc.io/qr"
)

//go:generate go run ./paint photos

//go:embed photos/*.jpg
var photos embed.FS

// Names are the names of the photographs.
var Names = []string{"harbour", "meadow", "market"}

const (
	jpegQuality = 80
	quietZone   = 4 // modules of white around a QR code, ISO/IEC 18004
)

// A studio holds the photographs, decoded, and the type for the words on them.
//
// It works on the planes of light and colour that a JPEG is made of. Drawn as
// RGBA the same picture costs twice the CPU, half of it for conversions.
type studio struct {
	photos map[string]*image.YCbCr
	letter *opentype.Font
}

func newStudio() (*studio, error) {
	letter, err := opentype.Parse(gobold.TTF)
	if err != nil {
		return nil, fmt.Errorf("parse font: %w", err)
	}
	s := &studio{photos: make(map[string]*image.YCbCr), letter: letter}
	for _, name := range Names {
		if s.photos[name], err = decode(name); err != nil {
			return nil, fmt.Errorf("decode %s: %w", name, err)
		}
	}
	return s, nil
}

func decode(name string) (*image.YCbCr, error) {
	f, err := photos.Open("photos/" + name + ".jpg")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := jpeg.Decode(f)
	if err != nil {
		return nil, err
	}
	photo, ok := m.(*image.YCbCr)
	if !ok || photo.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return nil, fmt.Errorf("not a colour photograph with halved chroma: %T", m)
	}
	return photo, nil
}

func (s *studio) has(name string) bool { return s.photos[name] != nil }

// thumbnail draws the photograph at the given width with a line of text in its
// lower right corner.
func (s *studio) thumbnail(name string, width int, text string) ([]byte, error) {
	m := scale(s.photos[name], width)
	if err := s.label(m, text, true); err != nil {
		return nil, err
	}
	return encode(m)
}

// overlay draws the photograph with a QR code of the text in its upper right
// corner and the text itself below.
func (s *studio) overlay(name string, width int, text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("encode QR code: %w", err)
	}
	m := scale(s.photos[name], width)
	if err := stamp(m, code); err != nil {
		return nil, err
	}
	if err := s.label(m, text, false); err != nil {
		return nil, err
	}
	return encode(m)
}

// stamp draws the code as large as fits into half the picture's height, with
// modules of whole pixels so that a camera can read it.
func stamp(m *image.YCbCr, code *qr.Code) error {
	modules := code.Size + 2*quietZone
	pixels := max(m.Rect.Dy()/2/modules, 1)
	side := modules * pixels
	if side > m.Rect.Dy() {
		return &badRequest{http.StatusBadRequest, "text is too long for a picture of this width"}
	}
	left := (m.Rect.Dx() - side) &^ 1 // where a chroma sample begins
	light, blue, red := planes(m)
	fill(light, image.Rect(left, 0, left+side, side), 0xff)
	half := image.Rect(left/2, 0, (left+side+1)/2, (side+1)/2)
	fill(blue, half, 0x80)
	fill(red, half, 0x80)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				at := image.Pt(left+(x+quietZone)*pixels, (y+quietZone)*pixels)
				fill(light, image.Rectangle{at, at.Add(image.Pt(pixels, pixels))}, 0)
			}
		}
	}
	return nil
}

func fill(m *image.Gray, r image.Rectangle, level uint8) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := m.Pix[y*m.Stride:]
		for x := r.Min.X; x < r.Max.X; x++ {
			row[x] = level
		}
	}
}

// label writes the text along the lower edge, white on its own shadow so that it
// is legible on any ground. Only the light changes, the ground's colour stays.
// What does not fit is cut off.
func (s *studio) label(m *image.YCbCr, text string, right bool) error {
	size := max(float64(m.Rect.Dx())/26, 8)
	face, err := opentype.NewFace(s.letter, &opentype.FaceOptions{Size: size, DPI: 72})
	if err != nil {
		return fmt.Errorf("size font: %w", err)
	}
	defer face.Close()
	margin := fixed.I(int(size / 2))
	at := fixed.Point26_6{X: margin, Y: fixed.I(m.Rect.Dy()) - margin}
	if right {
		at.X = fixed.I(m.Rect.Dx()) - margin - font.MeasureString(face, text)
	}
	light, _, _ := planes(m)
	pen := font.Drawer{Dst: light, Face: face}
	shift := fixed.I(1 + int(size/24))
	pen.Src, pen.Dot = image.NewUniform(color.RGBA{A: 0x90}), at.Add(fixed.Point26_6{X: shift, Y: shift})
	pen.DrawString(text)
	pen.Src, pen.Dot = image.White, at
	pen.DrawString(text)
	return nil
}

func encode(m *image.YCbCr) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(len(m.Y) / 3) // what a busy picture needs at this quality
	if err := jpeg.Encode(&out, m, &jpeg.Options{Quality: jpegQuality}); err != nil {
		return nil, fmt.Errorf("encode picture: %w", err)
	}
	return out.Bytes(), nil
}
