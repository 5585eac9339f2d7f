package functions

import "time"

// PriceTable says what the prices are and how old. Free amounts, discounts and
// tiers above the first are left out: an emulated bill is an upper bound.
const PriceTable = "public on-demand list prices of 2026-11 in the cheapest US region, x86, first tier, nothing free"

// A price is what a platform charges, in US dollars.
type price struct {
	perRequest        float64
	perGBSecond       float64
	perInstanceSecond float64       // of one vCPU, where that is billed apart
	perGBOut          float64       // to the internet
	round             time.Duration // calls are billed in steps of this
	least             time.Duration // and at least for this long
}

// prices has no entry for OpenFaaS: it runs on machines that are paid anyway.
var prices = map[Platform]price{
	Lambda: {
		perRequest: 0.20e-6, perGBSecond: 1.66667e-5, perGBOut: 0.09, round: time.Millisecond,
	},
	CloudRun: {
		perRequest: 0.40e-6, perGBSecond: 0.25e-5, perInstanceSecond: 2.4e-5, perGBOut: 0.12, round: 100 * time.Millisecond,
	},
	Azure: {
		perRequest: 0.20e-6, perGBSecond: 1.6e-5, perGBOut: 0.087, round: time.Millisecond, least: 100 * time.Millisecond,
	},
}

// A Bill is what the platform would charge so far. Calls that were refused cost
// nothing; the start of an instance is billed like the call that needed it.
type Bill struct {
	Platform Platform `json:"platform"`
	Prices   string   `json:"prices"`

	Requests        int     `json:"requests"`
	BilledSeconds   float64 `json:"billed_seconds"` // start and call, rounded up per call
	InitSeconds     float64 `json:"init_seconds"`   // of these, the start of instances
	GBSeconds       float64 `json:"gb_seconds"`
	BytesOut        int64   `json:"bytes_out"`
	RequestsUSD     float64 `json:"requests_usd"`
	ComputeUSD      float64 `json:"compute_usd"`
	DataOutUSD      float64 `json:"data_out_usd"`
	USD             float64 `json:"usd"`
	USDPerMillion   float64 `json:"usd_per_million_requests"`
	MemoryBytes     int64   `json:"memory_bytes"`
	RoundedToMillis int64   `json:"rounded_to_ms"`
}

// A meter adds up what a bill needs.
type meter struct {
	requests int
	billed   time.Duration
	init     time.Duration
	out      int64
}

// charge counts one call that took an instance for start and run.
func (m *meter) charge(p price, start, run time.Duration) {
	m.requests++
	m.init += start
	d := max(start+run, p.least)
	if p.round > 0 {
		d = (d + p.round - 1).Truncate(p.round)
	}
	m.billed += d
}

// bill prices the meter. A GB of memory is 2^30 bytes, as platforms count it; a GB
// of data is 10^9, the dearer reading.
func (m *meter) bill(platform Platform, memory int64) Bill {
	p := prices[platform]
	b := Bill{
		Platform: platform, Prices: PriceTable,
		Requests: m.requests, BilledSeconds: m.billed.Seconds(), InitSeconds: m.init.Seconds(),
		GBSeconds: m.billed.Seconds() * float64(memory) / (1 << 30), BytesOut: m.out,
		MemoryBytes: memory, RoundedToMillis: p.round.Milliseconds(),
	}
	if platform == OpenFaaS {
		b.Prices = "no charge per call: own machines"
	}
	b.RequestsUSD = float64(b.Requests) * p.perRequest
	b.ComputeUSD = b.GBSeconds*p.perGBSecond + b.BilledSeconds*p.perInstanceSecond
	b.DataOutUSD = float64(b.BytesOut) / 1e9 * p.perGBOut
	b.USD = b.RequestsUSD + b.ComputeUSD + b.DataOutUSD
	if b.Requests > 0 {
		b.USDPerMillion = b.USD / float64(b.Requests) * 1e6
	}
	return b
}
