package picture

import "image"

// planes returns the three planes of a picture as images of their own.
func planes(m *image.YCbCr) (light, blue, red *image.Gray) {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	half := image.Rect(0, 0, (w+1)/2, (h+1)/2)
	return &image.Gray{Pix: m.Y, Stride: m.YStride, Rect: image.Rect(0, 0, w, h)},
		&image.Gray{Pix: m.Cb, Stride: m.CStride, Rect: half},
		&image.Gray{Pix: m.Cr, Stride: m.CStride, Rect: half}
}

// scale draws a photograph at the given width.
func scale(photo *image.YCbCr, width int) *image.YCbCr {
	size := photo.Rect.Size()
	height := max(1, width*size.Y/size.X)
	m := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
	fromLight, fromBlue, fromRed := planes(photo)
	toLight, toBlue, toRed := planes(m)
	scalePlane(toLight, fromLight)
	scalePlane(toBlue, fromBlue)
	scalePlane(toRed, fromRed)
	return m
}

// scalePlane draws src over all of dst, each sample mixed from the four nearest
// ones. Weights are in 256ths: finer ones cannot be seen in eight bits.
func scalePlane(dst, src *image.Gray) {
	columns := taps(dst.Rect.Dx(), src.Rect.Dx())
	for y, row := range taps(dst.Rect.Dy(), src.Rect.Dy()) {
		above := src.Pix[row.at*src.Stride:][:src.Rect.Dx()]
		below := src.Pix[row.next*src.Stride:][:src.Rect.Dx()]
		out := dst.Pix[y*dst.Stride:][:len(columns)]
		for x, c := range columns {
			top := int(above[c.at])<<8 + c.weight*(int(above[c.next])-int(above[c.at]))
			bottom := int(below[c.at])<<8 + c.weight*(int(below[c.next])-int(below[c.at]))
			out[x] = uint8((top<<8 + row.weight*(bottom-top) + 1<<15) >> 16)
		}
	}
}

// A tap says which two samples of a line mix into one, and how much of the
// second.
type tap struct{ at, next, weight int }

// taps maps the centres of n samples onto a line of m samples.
func taps(n, m int) []tap {
	line := make([]tap, n)
	for i := range line {
		centre := max(0, ((2*i+1)*m*256/n-256)/2)
		at := min(centre>>8, m-1)
		line[i] = tap{at: at, next: min(at+1, m-1), weight: centre & 0xff}
	}
	return line
}
