package faas

import "time"

// Config holds the settings that all functions share. The settings of its
// provider stand beside them.
type Config struct {
	// Provider names the platform that runs the function.
	Provider string `koanf:"provider" enum:"web,lambda,process" required:"true"`
	// Memory is the memory of one instance, as the platform has it; it sets the price
	// of a second. Nobody asks the platform: with less, less is counted than it bills.
	Memory int64 `koanf:"memory" unit:"bytes" default:"512MiB" min:"1MiB"`
	// Timeout bounds one call, from the first byte sent to the last received.
	Timeout time.Duration `koanf:"timeout" unit:"duration" default:"5s" min:"1ms" max:"15m"`
	// MaxConcurrency bounds the calls in flight.
	MaxConcurrency int `koanf:"max_concurrency" default:"100" min:"1"`
	// Ramp is how fast the platform starts instances. The word auto stands for what
	// it is known to do.
	Ramp RampConfig `koanf:"ramp" unit:"auto"`
	// Protects names what the function shares with origins, such as a database.
	Protects string `koanf:"protects" ref:"shared"`
	// WarmUp is the path of the calls that only start instances, or off. What the
	// function answers to them does not matter, and it should be quick to.
	WarmUp string `koanf:"warm_up" format:"target,off" default:"/.well-known/spillway/warm-up"`
	// Prewarm are the events for which instances are to be ready.
	Prewarm []PlanConfig `koanf:"prewarm"`
	// MaxResponse bounds the size of an answer, in bytes; it also sets the worst
	// case that is charged for data out.
	MaxResponse int64 `koanf:"max_response" unit:"bytes" default:"6MiB" min:"1KiB"`
	// Budget names the budget that pays. Empty means that calls cost nothing
	// that is counted.
	Budget string `koanf:"budget" ref:"budgets"`
	// Provisioned is how many instances the platform was told to keep ready. They are
	// paid whether called or not, from the budget, a minute at a time while the node
	// runs. It is for the operator to say: the node does not ask the platform.
	Provisioned int         `koanf:"provisioned" default:"0" min:"0"`
	Price       PriceConfig `koanf:"price"`
}

// RampConfig is how fast a platform starts instances. Zero stands for what the
// platform is known to do; where it states nothing, there is no bound.
type RampConfig struct {
	// Burst is how many may start at once.
	Burst int `koanf:"burst" unit:"auto" default:"auto" min:"1"`
	// PerSecond is how many more may start in each second.
	PerSecond int `koanf:"per_second" unit:"auto" default:"auto" min:"1"`
}

// PriceConfig is what a call costs, in US dollars. An amount that is nil comes
// from the platform's list price.
type PriceConfig struct {
	// Platform names the list price to start from: auto is that of the provider,
	// where it has one, and none is free of charge.
	Platform string `koanf:"platform" enum:"auto,none,aws-lambda,aws-lambda-arm,google-cloud-run,azure-functions" default:"auto"`
	// PerMillionRequests is the price of a million calls.
	PerMillionRequests *float64 `koanf:"per_million_requests" unit:"money,auto" default:"auto"`
	// PerGBSecond is the price of one second of one gigabyte (2^30 bytes) of memory,
	// with all that a platform charges by the second.
	PerGBSecond *float64 `koanf:"per_gb_second" unit:"money,auto" default:"auto"`
	// PerGBOut is the price of one gigabyte (10^9 bytes) of data out.
	PerGBOut *float64 `koanf:"per_gb_out" unit:"money,auto" default:"auto"`
	// Gateway names what stands before the function and is paid by the request.
	Gateway string `koanf:"gateway" enum:"none,aws-http-api,aws-rest-api" default:"none"`
	// PerMillionGatewayRequests is the price of a million requests to it.
	PerMillionGatewayRequests *float64 `koanf:"per_million_gateway_requests" unit:"money,auto" default:"auto"`
	// PerProvisionedGBHour is the price of one hour of one gigabyte (2^30 bytes) of
	// memory of an instance that is kept ready, with all that it costs by time.
	PerProvisionedGBHour *float64 `koanf:"per_provisioned_gb_hour" unit:"money,auto" default:"auto"`
}
