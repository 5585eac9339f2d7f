package main

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"

	"spillway/config"
	"spillway/edge"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
	"spillway/origin/faas/lambda"
)

// parts are what the configuration names: origins, functions and budgets. A
// reload keeps those whose settings did not change.
type parts struct {
	origins   map[string]*origin.Origin
	stop      map[string]context.CancelFunc // ends an origin's background work
	changes   []func()                      // of origins, put into force by adopt
	functions map[string]*faas.Function
	budgets   map[string]*budget.Budget
	shared    map[string]*faas.Shared
	// What outlives reloads: the account that all functions on AWS share, and what
	// the budgets have spent.
	aws    *lambda.Account
	ledger *budget.Ledger
}

// newParts builds what c names, and takes over from old what did not change.
func newParts(c, was *config.Config, old *parts, log *slog.Logger) (*parts, error) {
	p := &parts{
		origins: map[string]*origin.Origin{}, stop: map[string]context.CancelFunc{},
		functions: map[string]*faas.Function{}, budgets: map[string]*budget.Budget{}, shared: map[string]*faas.Shared{},
		aws: old.aws, ledger: old.ledger,
	}
	for name, bc := range c.Budgets {
		// The amounts of one that is known change in adopt, once all else is sound.
		p.budgets[name] = old.ledger.Budget(name, bc)
	}
	for name, sc := range c.Shared {
		if p.shared[name] = old.shared[name]; p.shared[name] == nil {
			p.shared[name] = faas.NewShared(name, sc) // with its origins in adopt
		}
	}
	for name := range c.Origins {
		if err := p.addOrigin(name, c.Origin(name), was.Origin(name), old, log); err != nil {
			return nil, err
		}
	}
	for name, fc := range c.Functions {
		if err := p.addFunction(name, fc, was, old, log); err != nil {
			return nil, fmt.Errorf("function %s: %w", name, err)
		}
	}
	return p, nil
}

// addFunction takes a function over from old, or makes it.
func (p *parts) addFunction(name string, fc config.Function, was *config.Config, old *parts, log *slog.Logger) error {
	same := reflect.DeepEqual(fc, was.Functions[name]) && p.budgets[fc.Budget] == old.budgets[fc.Budget] &&
		p.shared[fc.Protects] == old.shared[fc.Protects]
	if f := old.functions[name]; f != nil && same {
		p.functions[name] = f
		return nil
	}
	provider, err := newProvider(fc, p.aws)
	if err == nil {
		p.functions[name] = faas.New(name, fc.Config, provider, p.budgets[fc.Budget], log)
		p.functions[name].Protect(p.shared[fc.Protects])
	}
	return err
}

// addOrigin takes an origin over from old, so that what it has learned is kept,
// or makes it. What changes in its settings does so in adopt.
func (p *parts) addOrigin(name string, oc, was origin.Config, old *parts, log *slog.Logger) (err error) {
	o := old.origins[name]
	switch {
	case o == nil:
		o, err = origin.New(name, oc, log)
	case !reflect.DeepEqual(oc, was):
		var apply func()
		apply, err = o.Prepare(oc)
		p.changes = append(p.changes, apply)
	}
	p.origins[name] = o
	if stop := old.stop[name]; stop != nil {
		p.stop[name] = stop
	}
	return err
}

// share tells what functions share with origins which those are.
func (p *parts) share(c *config.Config) {
	for name, s := range p.shared {
		var origins []func() int
		for origin, oc := range c.Origins {
			if oc.Protects == name {
				origins = append(origins, claim(p.origins[origin]))
			}
		}
		s.Set(c.Shared[name], origins)
	}
}

// claim says how many requests an origin may have at work: one that is down has
// those alone that it began.
func claim(o *origin.Origin) func() int {
	return func() int {
		s := o.Limiter().State()
		if !o.Up() {
			return s.InFlight
		}
		return max(s.Limit, s.Steady, s.InFlight)
	}
}

func (p *parts) backends(c *config.Config) edge.Backends {
	shed, wait := map[string]bool{}, map[string]bool{}
	for name, f := range c.Functions {
		shed[name] = c.Budgets[f.Budget].OnExhausted == "shed"
		wait[name] = c.Budgets[f.Budget].OnExhausted == "wait"
	}
	return edge.Backends{Origins: p.origins, Functions: p.functions, ShedUnpaid: shed, WaitUnpaid: wait}
}
