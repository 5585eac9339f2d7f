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
	// PerGBSecond what each GiB of its memory adds.
	PerSecond, PerGBSecond float64
	// PerGBOut is the price of 10^9 bytes sent to the visitor.
	PerGBOut float64
	// Step is what a duration is rounded up to, and Least the shortest one billed.
	Step, Least time.Duration
}

// prices are list prices in US dollars: first paid tier, us-east-1 or its like,
// as published in 2025. Free tiers, discounts and taxes are left out, so a bill
// is rather smaller. A price that has changed is overridden in the configuration.
//
// Cloud Run sells CPU and memory apart. One vCPU is assumed, and one request at
// a time: an instance that serves several at once costs less for each.
var prices = map[string]Price{
	"aws-lambda": {
		Label: "AWS Lambda x86, list price of 2025", PerRequest: 0.20e-6,
		PerGBSecond: 0.0000166667, PerGBOut: 0.09, Step: time.Millisecond,
	},
	"aws-lambda-arm": {
		Label: "AWS Lambda arm64, list price of 2025", PerRequest: 0.20e-6,
		PerGBSecond: 0.0000133334, PerGBOut: 0.09, Step: time.Millisecond,
	},
	"google-cloud-run": {
		Label: "Google Cloud Run with one vCPU, list price of 2025", PerRequest: 0.40e-6,
		PerSecond: 0.000024, PerGBSecond: 0.0000025, PerGBOut: 0.12, Step: 100 * time.Millisecond,
	},
	"azure-functions": {
		Label: "Azure Functions on Consumption, list price of 2025", PerRequest: 0.20e-6,
		PerGBSecond: 0.000016, PerGBOut: 0.087, Step: time.Millisecond, Least: 100 * time.Millisecond,
	},
	"none": {Label: "free of charge", Step: time.Millisecond},
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

// Free reports whether calls of the function cost nothing that is counted.
func (c Config) Free() bool {
	p := c.price()
	return p.PerRequest == 0 && p.PerSecond == 0 && p.PerGBSecond == 0 && p.PerGBOut == 0
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
	if c.PerMillionRequests != nil || c.PerGBSecond != nil || c.PerGBOut != nil {
		p.Label += ", amounts changed"
	}
	return p
}

// Cost is the price of one call of an instance with that much memory.
func (p Price) Cost(d time.Duration, memory, out int64) float64 {
	gib := float64(memory) / (1 << 30)
	return p.PerRequest +
		p.billed(d).Seconds()*(p.PerSecond+p.PerGBSecond*gib) +
		float64(out)/1e9*p.PerGBOut
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
