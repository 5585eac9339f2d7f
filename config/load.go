package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// maxFile bounds the size of a configuration file; not a knob.
const maxFile = 1 << 20

// Load reads the file and then the environment, which wins. The error is
// Problems when the configuration does not pass.
func Load(path string, environ []string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read configuration: %s is larger than 1 MiB", path)
	}
	return Parse(path, data, environ)
}

// Parse is Load for a file that has been read already; path names it in
// problems, and relative file names start at its folder.
func Parse(path string, data []byte, environ []string) (*Config, error) {
	c := &checker{
		report: newReport(path, data), dir: filepath.Dir(path),
		environ: environ, effective: map[string]string{},
	}
	root, ok := parseYAML(data, c.report)
	if !ok {
		return nil, c.err()
	}
	c.root = root
	fields := schema(reflect.TypeFor[Config]())
	c.overlay(fields, environ)
	values := c.group(fields, c.root, "")
	if err := c.err(); err != nil {
		return nil, err
	}
	conf := &Config{effective: c.effective}
	if err := decode(values, conf); err != nil {
		return nil, err
	}
	validate(conf, c.report)
	if err := c.err(); err != nil {
		return nil, err
	}
	return conf, nil
}

// decode fills the Config structs of the owners. The values have the types of
// the fields by now, so nothing is converted on the way.
func decode(values map[string]any, into *Config) error {
	// A slash stands in no key, so that koanf takes none apart.
	k := koanf.New("/")
	if err := k.Load(confmap.Provider(values, ""), nil); err != nil {
		return fmt.Errorf("load configuration: %w", err)
	}
	err := k.UnmarshalWithConf("", into, koanf.UnmarshalConf{
		DecoderConfig: &mapstructure.DecoderConfig{ErrorUnused: true},
	})
	if err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	return nil
}
