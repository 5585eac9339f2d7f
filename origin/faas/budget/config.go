package budget

// Config bounds what functions may cost. Amounts are US dollars; an amount of
// zero means no bound for that period. Periods are those of UTC.
type Config struct {
	PerHour  float64 `koanf:"per_hour" unit:"money"`
	PerDay   float64 `koanf:"per_day" unit:"money"`
	PerMonth float64 `koanf:"per_month" unit:"money"`
	// FreePerMonth is what the platform gives each month for nothing. It may be spent
	// beyond PerMonth; the shorter periods bound it all the same.
	FreePerMonth float64 `koanf:"free_per_month" unit:"money"`
	// PerClient is the largest share of the shortest bounded period's amount that one
	// visitor key may use up in that period. All warm-ups together are another. Zero
	// means no bound.
	PerClient float64 `koanf:"per_client" unit:"ratio" max:"100%"`
	// OnExhausted is what follows when the budget is spent: stale answers, if the
	// cache has one, else shed; the same with the waiting room for page visits
	// before requests are shed; or shed at once.
	OnExhausted string `koanf:"on_exhausted" enum:"stale,wait,shed" default:"stale"`
	// OnLedgerError is what follows when the ledger cannot be read or written: to go
	// on in memory, so that a restart forgets what was spent meanwhile; or to stop,
	// so that nothing is spent until it can.
	OnLedgerError string `koanf:"on_ledger_error" enum:"memory,stop" default:"memory"`
}

// limit is what may be spent in a period of the given length; zero without a
// bound.
func (c *Config) limit(s span) float64 {
	switch s {
	case hour:
		return c.PerHour
	case day:
		return c.PerDay
	}
	if c.PerMonth == 0 {
		return 0
	}
	return c.PerMonth + c.FreePerMonth
}

// Limited reports whether any period has a bound.
func (c Config) Limited() bool { return c.PerHour > 0 || c.PerDay > 0 || c.PerMonth > 0 }

// base is the shortest period that has a bound: a client's share is taken of it,
// and what an operator empties stays empty until it ends. Without any bound it is
// the hour.
func (c *Config) base() span {
	for _, s := range spans {
		if c.limit(s) > 0 {
			return s
		}
	}
	return hour
}
