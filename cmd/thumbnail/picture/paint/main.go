// Paint draws the three photographs of the example function: landscapes made
// of fractal noise, so that they compress like photographs and belong to
// nobody. It is run by go generate and writes the same bytes every time.
package main

import (
	"image"
	"image/color"
	"image/jpeg"
	"log"
	"math"
	"os"
	"path/filepath"
)

const (
	width, height = 640, 427
	quality       = 80 // 40 to 75 kB each
)

var scenes = map[string]func(x, y float64) rgb{"harbour": harbour, "meadow": meadow, "market": market}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: paint FOLDER")
	}
	for name, scene := range scenes {
		if err := write(filepath.Join(os.Args[1], name+".jpg"), scene); err != nil {
			log.Fatal(err)
		}
	}
}

// write samples the scene over [0,1.5) x [0,1), adds grain as a sensor would,
// and stores the picture.
func write(path string, scene func(x, y float64) rgb) error {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for py := range height {
		for px := range width {
			c := scene(float64(px)/height, float64(py)/height)
			grain := 0.045 * (lattice(px, py, 99) - 0.5)
			m.SetRGBA(px, py, color.RGBA{level(c.r + grain), level(c.g + grain), level(c.b + grain), 255})
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := jpeg.Encode(f, m, &jpeg.Options{Quality: quality}); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// harbour: sky, two ridges, boats, and water that mirrors it all in ripples.
func harbour(x, y float64) rgb {
	const shore = 0.55
	if y < shore {
		return shoreline(x, y)
	}
	depth := (y - shore) / (1 - shore)
	ripple := (fractal(x*6, y*60/(0.3+depth), 21) - 0.5) * (0.02 + 0.12*depth)
	mirrored := shoreline(x+ripple*0.4, math.Max(0, shore-(y-shore)*0.9+ripple))
	return mix(mirrored, rgb{0.09, 0.22, 0.30}, 0.35+0.35*depth)
}

func shoreline(x, y float64) rgb {
	if c, ok := boat(x, y); ok {
		return c
	}
	if y > 0.40-0.16*fractal(x*1.7, 3, 31) && y > 0.25 {
		if y > 0.50-0.13*fractal(x*3.1, 7, 32) {
			return shade(rgb{0.17, 0.25, 0.16}, 0.6+0.8*fractal(x*40, y*40, 33))
		}
		return mix(shade(rgb{0.33, 0.40, 0.45}, 0.7+0.5*fractal(x*18, y*18, 34)), rgb{0.70, 0.78, 0.86}, 0.35)
	}
	return sky(x, y, 35)
}

// boat reports the colour of the boat at a point, if one is there.
func boat(x, y float64) (rgb, bool) {
	hulls := []struct {
		at    float64
		paint rgb
	}{{0.22, rgb{0.75, 0.20, 0.15}}, {0.55, rgb{0.92, 0.90, 0.84}}, {0.93, rgb{0.12, 0.30, 0.55}}, {1.25, rgb{0.85, 0.65, 0.20}}}
	for _, h := range hulls {
		dx, up := math.Abs(x-h.at), 0.55-y
		switch {
		case up < 0.035 && dx < 0.05+up*0.6:
			return shade(h.paint, 0.7+0.5*fractal(x*50, y*50, 41)), true
		case dx < 0.0025 && up < 0.24:
			return rgb{0.30, 0.22, 0.16}, true
		case x > h.at && up > 0.05 && up < 0.22 && x-h.at < (0.22-up)*0.45:
			return shade(rgb{0.95, 0.93, 0.88}, 0.85+0.2*fractal(x*9, y*9, 42)), true
		}
	}
	return rgb{}, false
}

// meadow: clouds over a tree line over grass with flowers.
func meadow(x, y float64) rgb {
	horizon := 0.46 - 0.05*fractal(x*2.2, 1, 51)
	if y < horizon {
		return sky(x, y, 52)
	}
	near := (y - horizon) / (1 - horizon)
	if near < 0.10*(0.4+fractal(x*14, 2, 53)) {
		return shade(rgb{0.13, 0.23, 0.11}, 0.5+fractal(x*60, y*60, 54))
	}
	scale := 18 / (0.12 + near)
	blades := fractal(x*scale*2.4, y*scale*0.7, 55)
	c := shade(mix(rgb{0.52, 0.60, 0.24}, rgb{0.24, 0.42, 0.12}, near), 0.45+1.05*blades)
	if flower := fractal(x*scale*1.1, y*scale*1.1, 56); flower > 0.66 {
		c = mix(c, []rgb{{0.92, 0.85, 0.25}, {0.85, 0.22, 0.25}, {0.93, 0.92, 0.95}}[int(lattice(int(x*9), int(y*9), 57)*3)], 0.8)
	}
	return c
}

// market: striped awnings over stalls of fruit, cobbles in front.
func market(x, y float64) rgb {
	light := 0.75 + 0.5*fractal(x*1.5, y*1.5, 61)
	switch {
	case y < 0.20:
		brick := 0.8 + 0.25*lattice(int(x*24+0.5*float64(int(y*40)%2)), int(y*40), 62)
		return shade(rgb{0.62, 0.42, 0.33}, light*brick*(0.85+0.3*fractal(x*30, y*30, 63)))
	case y < 0.42-0.015*math.Abs(math.Sin(x*40)):
		stall := int(x * 2.4)
		stripe := int(x*28) % 2
		cloth := []rgb{{0.80, 0.22, 0.20}, {0.18, 0.45, 0.35}, {0.20, 0.35, 0.62}, {0.86, 0.62, 0.18}}[stall%4]
		if stripe == 0 {
			cloth = rgb{0.94, 0.92, 0.86}
		}
		return shade(cloth, light*(0.75+(y-0.20)+0.2*fractal(x*8, y*24, 64)))
	case y < 0.72:
		return fruit(x, y, light)
	}
	near := (y - 0.72) / 0.28
	rows, cols := 30/(1+near), 26/(0.6+near)
	stone := lattice(int(x*cols+100), int(y*rows*3), 65)
	edge := math.Abs(math.Mod(y*rows*3, 1)-0.5) * 2
	return shade(rgb{0.46, 0.44, 0.42}, light*(0.65+0.4*stone+0.3*fractal(x*45, y*45, 66)-0.25*edge*edge))
}

// fruit fills the stalls with round things in boxes.
func fruit(x, y, light float64) rgb {
	const size = 0.028
	row := int(y / size)
	fx := x/size + 0.5*float64(row%2)
	dx, dy := math.Mod(fx, 1)-0.5, math.Mod(y/size, 1)-0.5
	box := int(x*7) + 5*int((y-0.42)*9)
	paint := []rgb{{0.85, 0.20, 0.12}, {0.93, 0.58, 0.12}, {0.55, 0.70, 0.18}, {0.88, 0.80, 0.25}, {0.45, 0.15, 0.35}}[box%5]
	r := math.Hypot(dx, dy)
	if r > 0.5 {
		return shade(rgb{0.20, 0.13, 0.09}, light)
	}
	glow := 1.1 - 1.1*r*r - 0.5*(dx+dy)
	return shade(paint, light*glow*(0.85+0.3*lattice(int(fx), row, 71))*(0.9+0.2*fractal(x*70, y*70, 72)))
}

func sky(x, y float64, seed int) rgb {
	c := mix(rgb{0.28, 0.50, 0.80}, rgb{0.80, 0.87, 0.93}, math.Min(1, y*2))
	cloud := fractal(x*2.2, y*5, seed)
	return mix(c, rgb{0.97, 0.96, 0.95}, math.Max(0, math.Min(1, (cloud-0.48)*4)))
}

type rgb struct{ r, g, b float64 }

func mix(a, b rgb, t float64) rgb {
	return rgb{a.r + (b.r-a.r)*t, a.g + (b.g-a.g)*t, a.b + (b.b-a.b)*t}
}

func shade(c rgb, by float64) rgb { return rgb{c.r * by, c.g * by, c.b * by} }

func level(v float64) uint8 { return uint8(255 * math.Max(0, math.Min(1, v))) }

// fractal is value noise summed over five octaves, in 0..1.
func fractal(x, y float64, seed int) float64 {
	sum, weight := 0.0, 0.5
	for octave := range 5 {
		sum += weight * smooth(x, y, seed+octave*131)
		x, y, weight = x*2.03, y*2.03, weight/2
	}
	return sum / 0.96875
}

func smooth(x, y float64, seed int) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	ix, iy := int(fx), int(fy)
	tx, ty := ease(x-fx), ease(y-fy)
	top := lattice(ix, iy, seed)*(1-tx) + lattice(ix+1, iy, seed)*tx
	bottom := lattice(ix, iy+1, seed)*(1-tx) + lattice(ix+1, iy+1, seed)*tx
	return top*(1-ty) + bottom*ty
}

func ease(t float64) float64 { return t * t * (3 - 2*t) }

// lattice hashes a grid point to a number in 0..1.
func lattice(x, y, seed int) float64 {
	h := uint32(x)*0x9E3779B1 ^ uint32(y)*0x85EBCA77 ^ uint32(seed)*0xC2B2AE3D
	h ^= h >> 15
	h *= 0x2C1B3C6D
	h ^= h >> 12
	h *= 0x297A2D39
	h ^= h >> 15
	return float64(h) / (1 << 32)
}
