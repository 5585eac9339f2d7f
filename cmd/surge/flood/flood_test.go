package flood

import (
	"testing"
	"time"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func testOptions() options {
	return options{
		profiles: names(profiles), payloads: names(payloads), rates: rates, settings: settingNames(),
		rounds: 1, each: time.Second,
	}
}

func TestCheck(t *testing.T) {
	if err := testOptions().check(); err != nil {
		t.Error(err)
	}
	f := func(what string, spoil func(*options)) {
		t.Helper()
		o := testOptions()
		spoil(&o)
		if o.check() == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	f("an unknown profile", func(o *options) { o.profiles = []string{"other"} })
	f("an unknown payload", func(o *options) { o.payloads = []string{"other"} })
	f("an unknown setting", func(o *options) { o.settings = []string{"other"} })
	f("a rate of no packets", func(o *options) { o.rates = []string{"0"} })
	f("a rate that is no number", func(o *options) { o.rates = []string{"fast"} })
	f("no round", func(o *options) { o.rounds = 0 })
	f("a flood without an end", func(o *options) { o.each = time.Hour })
	f("a flood without a load", func(o *options) { o.each = time.Millisecond })
}

func TestTrials(t *testing.T) {
	o := testOptions()
	all := o.trials()
	if want := len(profiles) * len(payloads) * len(rates) * len(settings); len(all) != want {
		t.Errorf("%d trials, want %d", len(all), want)
	}
	// What is compared comes one after the other.
	for i, s := range settings {
		if all[i].Setting.Name != s.Name || all[i].Rate != 5000 {
			t.Errorf("trial %d is %s", i, all[i])
		}
	}
	o.settings, o.rates = []string{"full"}, []string{most}
	if all := o.trials(); len(all) != len(profiles)*len(payloads) || all[0].Rate != 0 || all[0].String() != "random, hello, max/s, full" {
		t.Errorf("trials %v", all)
	}
}
