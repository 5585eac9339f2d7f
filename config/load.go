package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// maxFile bounds the size of a configuration file; not a knob.
const maxFile = 1 << 20

// Load reads the file and then the environment, which wins. The error is
// Problems when the configuration does not pass.
func Load(path string, environ []string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, Problems{unreadable(path, err)}
	}
	return Parse(path, data, environ)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errTooLarge
	}
	return data, err
}

var errTooLarge = errors.New("this file is larger than 1 MiB")

// unreadable says why there is no configuration to look at.
func unreadable(path string, err error) Problem {
	p := Problem{Severity: Error, File: path, Message: err.Error()}
	switch {
	case errors.Is(err, errTooLarge):
		p.Remedy = "name a configuration; one of a thousand sites is smaller"
	case errors.Is(err, syscall.EISDIR):
		p.Message, p.Remedy = "this is a folder", "name the file in it, such as "+filepath.Join(path, "spillway.yaml")
	case errors.Is(err, fs.ErrNotExist):
		p.Message, p.Remedy = "there is no such file", "write one, or name another"
	default:
		bad := missingFile(path, err)
		p.Message, p.Remedy = bad.message, bad.remedy
	}
	return p
}

// Parse is Load for a file that has been read already; path names it in
// problems, and relative file names start at its folder.
func Parse(path string, data []byte, environ []string) (*Config, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors mark UTF-8 so
	c := &checker{
		report: newReport(path, data), dir: filepath.Dir(path),
		environ: environ, effective: map[string]string{},
	}
	if c.encoding(data); len(c.problems) > 0 {
		return nil, c.err()
	}
	root, ok := parseYAML(data, c.report)
	if !ok {
		return nil, c.err()
	}
	c.root = root
	fields := schema(reflect.TypeFor[Config]())
	c.overlay(fields, environ)
	if c.shape(fields); len(c.problems) > 0 && c.root.kind != mapping {
		return nil, c.err()
	}
	values := c.group(fields, c.root, "")
	conf := &Config{effective: c.effective, report: c.report}
	if err := decode(values, conf); err != nil {
		return nil, err
	}
	c.settle()
	validate(conf, c.report)
	if err := c.err(); err != nil {
		return nil, err
	}
	warn(conf, c.report)
	c.sort()
	return conf, nil
}

// encoding reports text that is not UTF-8, which would read as something else.
func (r *report) encoding(data []byte) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		r.addAt(place{}, "", "this file is UTF-16", "save it as UTF-8")
		return
	}
	for i, line := range r.lines {
		if utf8.ValidString(line) {
			continue
		}
		valid := []rune(strings.ToValidUTF8(line, "\uFFFD"))
		column := slices.Index(valid, utf8.RuneError) + 1
		r.addAt(place{line: i + 1, column: column}, "", "this character is not UTF-8", "save the file as UTF-8")
		return
	}
}

// shape reports a file that is no configuration at all, where the keys that are
// missing would hide what is wrong.
func (c *checker) shape(fields []*field) {
	switch {
	case c.root.kind == broken:
	case c.root.kind == mapping && len(c.root.entries) > 0:
	case c.root.kind == mapping || c.root.kind == null:
		c.root.kind = null
		c.addAt(place{}, "", "there is no setting in this file", "begin with tls, origins and sites")
	default:
		c.addAt(c.root.at, "", "a configuration is made of keys, and there is none here",
			"write KEY: VALUE, with a space behind the colon; keys are "+strings.Join(names(fields, ""), ", "))
	}
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
