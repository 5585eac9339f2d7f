package budget

// Config bounds what functions may cost. Amounts are US dollars; an amount of
// zero means no bound for that period.
type Config struct {
	PerHour float64 `koanf:"per_hour" unit:"money"`
	PerDay  float64 `koanf:"per_day" unit:"money"`
	// PerClient is the largest share of the hour's budget (of the day's, when the
	// hour has none) that one visitor key may use up. Zero means no bound.
	PerClient float64 `koanf:"per_client" unit:"ratio" max:"100%"`
	// OnExhausted is what follows when the budget is spent: stale answers, if the
	// cache has one, else shed; the same with the waiting room for page visits
	// before requests are shed; or shed at once.
	OnExhausted string `koanf:"on_exhausted" enum:"stale,wait,shed" default:"stale"`
}
