package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// Hash names the settings in force, defaults included: two nodes that show the
// same hash behave alike. Comments and the order of keys do not count.
func (c *Config) Hash() string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(c.effective)) {
		fmt.Fprintf(h, "%q=%q\n", key, c.effective[key])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Diff lists the settings that differ, by their full names.
func Diff(a, b *Config) []string {
	var keys []string
	for key, value := range a.effective {
		if other, ok := b.effective[key]; !ok || other != value {
			keys = append(keys, key)
		}
	}
	for key := range b.effective {
		if _, ok := a.effective[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
