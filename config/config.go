// Package config composes the settings of all packages, loads them from a YAML
// file and the environment, and checks them as a whole.
//
// A setting is declared once, as a koanf-tagged field in the Config struct of
// the package that obeys it; its unit, default and range stand in the same tag.
// This package knows the tags, not the settings. A file that does not pass is
// refused as a whole, and the configuration in force goes on.
package config

import (
	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
	"spillway/origin/faas/lambda"
	"spillway/origin/faas/process"
	"spillway/origin/faas/web"
)

// Config is the whole configuration of a node. It is immutable once loaded.
type Config struct {
	Edge edge.Config `koanf:",squash"`
	// Admin is the address of the admin listener: unix:PATH or a loopback
	// address.
	Admin     string                   `koanf:"admin" format:"admin" default:"unix:/run/spillway/admin.sock"`
	Admission admit.Config             `koanf:"admission"`
	Cache     cache.Config             `koanf:"cache"`
	Budgets   map[string]budget.Config `koanf:"budgets"`
	// Shared is what functions share with origins, such as a database.
	Shared    map[string]faas.SharedConfig `koanf:"shared"`
	Origins   map[string]origin.Config     `koanf:"origins" required:"true"`
	Functions map[string]Function          `koanf:"functions"`
	Sites     []edge.SiteConfig            `koanf:"sites" required:"true"`

	effective map[string]string // every setting in force, by its full name
	report    *report           // where each setting stands, and what it warns of
}

// Warnings returns what works and is probably not meant, in the order of the
// file.
func (c *Config) Warnings() Problems { return c.report.problems }

// Problem returns an error in the setting that was found when the configuration
// was put to use, with the place where the setting stands.
func (c *Config) Problem(key, message, remedy string) Problem {
	return c.report.problem(Error, c.report.place(key), key, message, remedy)
}

// Origin is the origin of that name as it is to be made: what it shares with
// functions bounds it.
func (c *Config) Origin(name string) origin.Config {
	o := c.Origins[name]
	if s, ok := c.Shared[o.Protects]; ok {
		o.Limit.Max = min(o.Limit.Max, s.Max)
	}
	return o
}

// Function is a function as configured: what all share, and the settings of the
// provider that it names.
type Function struct {
	faas.Config `koanf:",squash"`
	Web         web.Config     `koanf:",squash" provider:"web"`
	Lambda      lambda.Config  `koanf:",squash" provider:"lambda"`
	Process     process.Config `koanf:",squash" provider:"process"`
}
