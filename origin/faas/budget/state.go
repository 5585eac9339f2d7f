package budget

import (
	"math"
	"time"
)

// A State is a snapshot for metrics and the status view, in US dollars.
type State struct {
	Name    string        `json:"name"`
	Periods []PeriodState `json:"periods"`     // hour, day and month
	AtRisk  float64       `json:"at_risk_usd"` // set aside for calls in flight
	// Left is what may still be spent now. It means nothing without a limit.
	Left    float64 `json:"left_usd"`
	Limited bool    `json:"limited"`
	// Drained tells that the operator emptied the budget.
	Drained bool `json:"drained"`
	// Stopped tells that nothing is spent because the ledger does not work.
	Stopped bool `json:"stopped"`
	// Rate is what is spent in an hour at the pace of the last minute.
	Rate float64 `json:"rate_usd_per_hour"`
	// EmptyAt is when nothing is left at that pace; zero if a period ends before.
	EmptyAt time.Time `json:"empty_at,omitzero"`
}

// A PeriodState is what a State says of the present hour, day or month.
type PeriodState struct {
	Period string  `json:"period"`
	Limit  float64 `json:"limit_usd"` // zero: none
	Added  float64 `json:"added_usd"` // by the operator, to the limit
	Spent  float64 `json:"spent_usd"`
	Left   float64 `json:"left_usd"` // charges in flight are taken off; zero without a limit
	// Warned is 75 or 90 once so much of the limit, in percent, was spent.
	Warned int       `json:"warned_percent"`
	Ends   time.Time `json:"ends"`
}

// warnings are the shares of a limit, in percent, that are warned of. Not knobs.
var warnings = [...]int{90, 75}

// State returns a snapshot.
func (b *Budget) State(now time.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	rate := b.pace.rate(now)
	s := State{
		Name: b.name, AtRisk: b.atRisk, Limited: b.config.Limited(),
		Drained: b.emptied(), Stopped: b.stopped(), Rate: rate * time.Hour.Seconds(),
	}
	for _, span := range spans {
		p := b.periodState(span)
		s.Periods = append(s.Periods, p)
		if p.Limit == 0 || rate <= 0 {
			continue
		}
		end := now.Add(time.Duration(min(p.Left/rate, math.MaxInt32) * float64(time.Second)))
		if end.Before(p.Ends) && (s.EmptyAt.IsZero() || end.Before(s.EmptyAt)) {
			s.EmptyAt = end
		}
	}
	if s.Limited && !s.Drained {
		s.Left = max(0, b.left())
	}
	return s
}

func (b *Budget) periodState(s span) PeriodState {
	v := b.periods[s].present()
	p := PeriodState{
		Period: s.String(), Limit: b.config.limit(s), Added: v.Added, Spent: b.spent(s),
		Warned: v.Warned, Ends: s.next(v.Start),
	}
	if p.Limit > 0 {
		p.Left = max(0, p.Limit+p.Added-p.Spent-b.atRisk)
	}
	return p
}

// passed notes which shares of a limit were passed since it was asked last, and
// returns the periods with those that it had not told of yet.
func (b *Budget) passed(now time.Time) []PeriodState {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	var news []PeriodState
	for _, s := range spans {
		limit, v := b.config.limit(s), b.periods[s].present()
		for _, percent := range warnings {
			if limit > 0 && b.spent(s) >= (limit+v.Added)*float64(percent)/100 {
				if v.Warned < percent {
					v.Warned = percent
					news = append(news, b.periodState(s))
				}
				break
			}
		}
	}
	return news
}

// warn logs once in a period that a budget comes to its end.
func (l *Ledger) warn(b *Budget) {
	for _, p := range b.passed(time.Now()) {
		l.log.Warn("budget comes to its end", "budget", b.name, "period", p.Period, "passed_percent", p.Warned,
			"spent_usd", p.Spent, "limit_usd", p.Limit+p.Added, "ends", p.Ends)
	}
}
