package faas

import (
	"math"
	"time"
)

// A Price is what a platform asks for a call, in US dollars.
type Price struct {
	// Label names the price where a cost is shown.
	Label      string
	PerRequest float64
	// PerSecond is the price of a second of an instance whatever its memory, and
	// PerGBSecond what each GiB of its memory adds. The start of an instance is paid
	// as the call is that needs it.
	PerSecond, PerGBSecond float64
	// PerGBOut is the price of 10^9 bytes sent out, header fields included.
	PerGBOut float64
	// Step is what a duration is rounded up to, and Least the shortest one billed.
	Step, Least time.Duration
	// Gateway is the price of a request to what stands before the function, for each
	// GatewayStep bytes of its answer. A step of zero counts requests alone.
	Gateway     float64
	GatewayStep int64
	// PerHeldSecond and PerHeldGBSecond are the price of an instance that is kept
	// ready, called or not.
	PerHeldSecond, PerHeldGBSecond float64
}

// prices are list prices in US dollars: first paid tier, us-east-1 or its like,
// as published in 2025. Free tiers, discounts and taxes are left out, so a bill
// is rather smaller. A price that has changed is overridden in the configuration.
//
// AWS: aws.amazon.com/lambda/pricing, of November 2025; the start of an instance is
// billed since August 2025. Google: cloud.google.com/run/pricing, of 2025: requests
// and active time; what idle minimum instances cost is not verified. Azure, what AWS
// and Azure take for instances that are kept ready, and the prices of data out are
// from memory of 2025 and not verified.
//
// Cloud Run sells CPU and memory apart. One vCPU is assumed, and one request at
// a time: an instance that serves several at once costs less for each.
var prices = map[string]Price{
	"aws-lambda": {
		Label: "AWS Lambda x86, list price of 2025", PerRequest: 0.20e-6,
		PerGBSecond: 0.0000166667, PerGBOut: 0.09, Step: time.Millisecond,
		PerHeldGBSecond: 0.0000041667,
	},
	"aws-lambda-arm": {
		Label: "AWS Lambda arm64, list price of 2025", PerRequest: 0.20e-6,
		PerGBSecond: 0.0000133334, PerGBOut: 0.09, Step: time.Millisecond,
		PerHeldGBSecond: 0.0000033334,
	},
	"google-cloud-run": {
		Label: "Google Cloud Run with one vCPU, list price of 2025", PerRequest: 0.40e-6,
		PerSecond: 0.000024, PerGBSecond: 0.0000025, PerGBOut: 0.12, Step: 100 * time.Millisecond,
		PerHeldSecond: 0.0000025, PerHeldGBSecond: 0.0000025,
	},
	"azure-functions": {
		Label: "Azure Functions on Consumption, list price of 2025", PerRequest: 0.20e-6,
		PerGBSecond: 0.000016, PerGBOut: 0.087, Step: time.Millisecond, Least: 100 * time.Millisecond,
		PerHeldGBSecond: 0.000004, // of the Flex plan; Consumption keeps nothing ready
	},
	"none": {Label: "free of charge", Step: time.Millisecond},
}

// gateways are what may stand before a function, with their list prices of 2025
// (aws.amazon.com/api-gateway/pricing, first tier; not verified since). Lambda's
// Invoke API and function URLs, Cloud Run and Azure take nothing for it.
var gateways = map[string]struct {
	perRequest float64
	step       int64
}{
	"aws-http-api": {1.00e-6, 512 << 10},
	"aws-rest-api": {3.50e-6, 0},
}

// platforms are the providers that stand for one platform, and its list price.
var platforms = map[string]string{"lambda": "aws-lambda"}

// price is what a call of the function costs.
func (c Config) price() Price {
	price := c.Price
	if price.Platform == "auto" {
		price.Platform = platforms[c.Provider]
	}
	return price.Price()
}

// Worst is the most that one call can cost, in US dollars, which is set aside for it.
func (c Config) Worst() float64 { return c.price().worst(c) }

// Free reports whether calls of the function cost nothing that is counted.
func (c Config) Free() bool {
	p := c.price()
	return p.free() && p.held(c) == 0
}

// free reports whether a call costs nothing.
func (p Price) free() bool {
	return p.PerRequest == 0 && p.PerSecond == 0 && p.PerGBSecond == 0 && p.PerGBOut == 0 && p.Gateway == 0
}

// held is what the instances that are kept ready cost in a second.
func (p Price) held(c Config) float64 {
	return float64(c.Provisioned) * (p.PerHeldSecond + p.PerHeldGBSecond*float64(c.Memory)/(1<<30))
}

// Price is the platform's list price with the amounts of the configuration put
// in their places.
func (c PriceConfig) Price() Price {
	p, ok := prices[c.Platform]
	if !ok {
		p = prices["none"]
	}
	if c.PerMillionRequests != nil {
		p.PerRequest = *c.PerMillionRequests / 1e6
	}
	if c.PerGBSecond != nil {
		p.PerSecond, p.PerGBSecond = 0, *c.PerGBSecond
	}
	if c.PerGBOut != nil {
		p.PerGBOut = *c.PerGBOut
	}
	if g, ok := gateways[c.Gateway]; ok {
		p.Gateway, p.GatewayStep = g.perRequest, g.step
	}
	if c.PerMillionGatewayRequests != nil {
		p.Gateway = *c.PerMillionGatewayRequests / 1e6
	}
	if c.PerProvisionedGBHour != nil {
		p.PerHeldSecond, p.PerHeldGBSecond = 0, *c.PerProvisionedGBHour/time.Hour.Seconds()
	}
	if c.changed() {
		p.Label += ", amounts changed"
	}
	return p
}

// changed reports whether any amount is not that of a table.
func (c *PriceConfig) changed() bool {
	for _, amount := range []*float64{c.PerMillionRequests, c.PerGBSecond, c.PerGBOut, c.PerMillionGatewayRequests, c.PerProvisionedGBHour} {
		if amount != nil {
			return true
		}
	}
	return false
}

// Cost is the price of one call of an instance with that much memory.
func (p Price) Cost(d time.Duration, memory, out int64) float64 {
	gib := float64(memory) / (1 << 30)
	return p.PerRequest +
		p.billed(d).Seconds()*(p.PerSecond+p.PerGBSecond*gib) +
		float64(out)/1e9*p.PerGBOut +
		p.Gateway*p.gatewayUnits(out)
}

func (p Price) gatewayUnits(out int64) float64 {
	if p.GatewayStep == 0 {
		return 1
	}
	return math.Ceil(max(float64(out)/float64(p.GatewayStep), 1))
}

// worst is the most that a call can cost: it is stopped at its timeout, which
// takes a moment that may begin one more step, and what it sends is found to be
// too much when at most one part more was received.
func (p Price) worst(c Config) float64 {
	return p.Cost(p.billed(c.Timeout)+p.Step, c.Memory, c.MaxResponse+maxHeaderBytes+readAheadLeast)
}

func (p Price) billed(d time.Duration) time.Duration {
	d = max(d, p.Least, 0)
	if p.Step > 0 {
		steps := math.Ceil(float64(d) / float64(p.Step))
		d = time.Duration(steps) * p.Step
	}
	return d
}
