package web

// Config describes a function that is called by plain HTTP.
type Config struct {
	// URL is where the function answers; the path of the request is appended.
	URL string `koanf:"url" format:"url" required:"true"`
	// Host is sent instead of the host of URL.
	Host string `koanf:"host"`
	// Headers are added to each call, such as a key. A value may be a reference
	// to a secret: env:NAME or file:PATH.
	Headers map[string]string `koanf:"headers" format:"secret"`
}
