package limit

// Config bounds the learned limit. The zero value bounds it to 1 and 10,000.
type Config struct {
	// Min is the least number of requests that the origin is given at once.
	// Zero means 1.
	Min int `koanf:"min" default:"1" min:"1"`
	// Max is the largest number of requests that the origin is given at once.
	// Zero means 10,000.
	Max int `koanf:"max" default:"10000" min:"1"`
}
