package faas

import (
	"math"
	"testing"
	"time"
)

func TestCost(t *testing.T) {
	f := func(c PriceConfig, d time.Duration, memory, out int64, want float64) {
		t.Helper()
		if got := c.Price().Cost(d, memory, out); math.Abs(got-want) > 1e-12 {
			t.Errorf("%+v: Cost(%v, %d, %d) = %v, want %v", c, d, memory, out, got, want)
		}
	}
	const gib = 1 << 30
	// A million calls of 20 ms at 512 MiB cost 0.37 dollars.
	f(PriceConfig{Platform: "aws-lambda"}, 20*time.Millisecond, gib/2, 0, 0.2e-6+0.01*0.0000166667)
	f(PriceConfig{Platform: "aws-lambda"}, 19*time.Millisecond+1, gib/2, 0, 0.2e-6+0.01*0.0000166667)
	f(PriceConfig{Platform: "aws-lambda"}, -time.Hour, gib, 0, 0.2e-6)
	f(PriceConfig{Platform: "aws-lambda"}, 0, gib, 50_000, 0.2e-6+0.0000045)
	f(PriceConfig{Platform: "aws-lambda-arm"}, time.Second, gib, 0, 0.2e-6+0.0000133334)
	f(PriceConfig{Platform: "google-cloud-run"}, time.Millisecond, gib/2, 0, 0.4e-6+0.1*(0.000024+0.00000125))
	f(PriceConfig{Platform: "azure-functions"}, time.Millisecond, gib, 0, 0.2e-6+0.1*0.000016)
	f(PriceConfig{Platform: "none"}, time.Hour, gib, gib, 0)
	f(PriceConfig{}, time.Hour, gib, gib, 0)
	f(PriceConfig{Platform: "none", PerMillionRequests: new(5.0)}, time.Hour, gib, 0, 5e-6)
	f(PriceConfig{Platform: "aws-lambda", PerGBOut: new(0.0)}, 0, gib, gib, 0.2e-6)
	// An HTTP API counts a request for each 512 KiB, a REST API each request.
	f(PriceConfig{Platform: "none", Gateway: "aws-http-api"}, time.Second, gib, 0, 1e-6)
	f(PriceConfig{Platform: "none", Gateway: "aws-http-api"}, time.Second, gib, 512<<10, 1e-6)
	f(PriceConfig{Platform: "none", Gateway: "aws-http-api"}, time.Second, gib, 512<<10+1, 2e-6)
	f(PriceConfig{Platform: "none", Gateway: "aws-rest-api"}, time.Second, gib, 5<<20, 3.5e-6)
	f(PriceConfig{Platform: "none", Gateway: "aws-rest-api", PerMillionGatewayRequests: new(2.0)}, time.Second, gib, 0, 2e-6)
	f(PriceConfig{Platform: "google-cloud-run", PerGBSecond: new(0.1)}, time.Second, 2*gib, 0, 0.4e-6+0.2)
}

func TestPriceIsLabelled(t *testing.T) {
	f := func(c PriceConfig, want string) {
		t.Helper()
		if got := c.Price().Label; got != want {
			t.Errorf("label %q, want %q", got, want)
		}
	}
	f(PriceConfig{Platform: "aws-lambda"}, "AWS Lambda x86, list price of 2025")
	f(PriceConfig{Platform: "aws-lambda", PerGBOut: new(1.0)}, "AWS Lambda x86, list price of 2025, amounts changed")
}

// The worst case bears a call that was stopped a moment after its timeout, with
// the largest header and a part more than the largest answer.
func TestWorstCase(t *testing.T) {
	f := func(platform string, timeout time.Duration) {
		t.Helper()
		c := Config{Timeout: timeout, Memory: 1 << 30, MaxResponse: 1 << 20, Price: PriceConfig{Platform: platform}}
		p := c.Price.Price()
		late := p.Cost(timeout+time.Microsecond, c.Memory, c.MaxResponse+maxHeaderBytes+readAheadLeast)
		if worst := p.worst(c); worst < late || worst > late+p.Cost(2*p.Step, c.Memory, 0) {
			t.Errorf("%s: worst case %v, a late call costs %v", platform, worst, late)
		}
	}
	f("aws-lambda", 5*time.Second)
	f("google-cloud-run", 5*time.Second)
	f("google-cloud-run", 5*time.Second+time.Millisecond)
	f("azure-functions", 50*time.Millisecond)
}

// The provider lambda has a list price of its own, unless another is asked for.
func TestPriceOfTheProvider(t *testing.T) {
	f := func(provider, platform, want string) {
		t.Helper()
		c := Config{Provider: provider, Price: PriceConfig{Platform: platform}}
		if got := c.price().Label; got != want {
			t.Errorf("%s, %s: %q, want %q", provider, platform, got, want)
		}
	}
	f("lambda", "auto", "AWS Lambda x86, list price of 2025")
	f("lambda", "aws-lambda-arm", "AWS Lambda arm64, list price of 2025")
	f("lambda", "none", "free of charge")
	f("web", "auto", "free of charge")
	f("process", "auto", "free of charge")
}
