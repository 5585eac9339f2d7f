package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"spillway/config"
	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/recorder"
	"spillway/edge/waiting"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
)

// A nodeState is what /status answers and `spillway status` prints.
type nodeState struct {
	Version   string      `json:"version"`
	PID       int         `json:"pid"` // of the process that serves
	Uptime    float64     `json:"uptime_seconds"`
	Ready     string      `json:"ready"` // ok, or why not
	Config    configState `json:"config"`
	Memory    memoryState `json:"memory"`
	Listeners []string    `json:"listeners"`
	// ECH is what the HTTPS records of the hosts must have as ech, or empty.
	ECH       string                      `json:"ech_config_list,omitempty"`
	InFlight  int64                       `json:"requests_in_flight"`
	Outcomes  map[outcome.Outcome]uint64  `json:"outcomes"`
	Origins   map[string]origin.State     `json:"origins"`
	Functions map[string]faas.State       `json:"functions"`
	Shared    map[string]faas.SharedState `json:"shared,omitempty"`
	Budgets   map[string]budget.State     `json:"budgets"`
	Ledger    budget.LedgerState          `json:"ledger"` // of the budgets
	Routes    []edge.RouteState           `json:"routes"` // that may cost something
	Proofs    []edge.ProofState           `json:"proofs"` // that functions answer as the origins do
	Cache     cache.State                 `json:"cache"`
	// CacheRoutes say what the cache did for each route.
	CacheRoutes []edge.CacheState `json:"cache_routes"`
	// Waiting are the waiting rooms, by the names of their origins.
	Waiting   map[string]waiting.State `json:"waiting,omitempty"`
	Admission admit.State              `json:"admission"`
	Visits    edge.ListenState         `json:"visits"`
	// Recorder says what the flight recorder wrote out last.
	Recorder recorder.State `json:"recorder,omitzero"`
	// Upgrade says which processes the node has.
	Upgrade upgradeState `json:"upgrade"`
}

type configState struct {
	Path   string    `json:"path"`
	Hash   string    `json:"hash"`
	Loaded time.Time `json:"loaded"`
	// Reloads and Refusals count reloads by how they ended.
	Reloads  uint64 `json:"reloads"`
	Refusals uint64 `json:"refusals"`
	// Changed are the settings that the last reload changed.
	Changed []string `json:"changed,omitempty"`
	// Warnings are about the configuration in force.
	Warnings config.Problems `json:"warnings,omitempty"`
	// Refused says why the last reload did not take effect.
	Refused refusal `json:"refused,omitzero"`
}

// refusal is a reload that changed nothing. The zero value is none.
type refusal struct {
	At       time.Time       `json:"at"`
	Problems config.Problems `json:"problems"`
}

func (n *node) status() nodeState {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := nodeState{
		Version: version(), PID: os.Getpid(), Uptime: time.Since(n.started).Seconds(), Ready: "ok",
		Config: configState{
			Path: n.path, Hash: n.config.Hash(), Loaded: n.loaded, Changed: n.changed, Warnings: n.config.Warnings(),
			Reloads: n.reloads, Refusals: n.refusals, Refused: n.refused,
		},
		Memory:    memoryNow(n.memory),
		Listeners: n.addresses(), ECH: n.listeners.ECHConfigList(), InFlight: n.server.InFlight(), Outcomes: n.server.Outcomes(),
		Origins: map[string]origin.State{}, Functions: map[string]faas.State{}, Shared: map[string]faas.SharedState{},
		Budgets: map[string]budget.State{}, Ledger: n.parts.ledger.State(), Routes: n.server.Routes(), Proofs: n.server.Proofs(),
		Cache: n.cache.State(), CacheRoutes: n.server.CacheStates(), Waiting: n.server.Waiting(), Admission: n.admit.State(), Visits: n.listeners.State(),
		Recorder: n.server.Recorder().State(),
		Upgrade:  upgradeState{Inherited: n.inherited.succeeds(), Refusals: n.upgradeRefusals, Refused: n.upgradeRefused},
	}
	s.Upgrade.Draining, _ = n.before.state()
	if err := n.ready(); err != nil {
		s.Ready = err.Error()
	}
	for name, o := range n.parts.origins {
		s.Origins[name] = o.State()
	}
	for name, f := range n.parts.functions {
		s.Functions[name] = f.State()
	}
	for name, shared := range n.parts.shared {
		s.Shared[name] = shared.State()
	}
	for name, b := range n.parts.budgets {
		s.Budgets[name] = b.State(time.Now())
	}
	return s
}

// serveOrigin keeps new requests from a server, or gives it requests again:
// POST /origin/NAME/drain?server=URL, and ?undo=1 beside it.
func (n *node) serveOrigin(w http.ResponseWriter, r *http.Request) {
	name, act, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/origin/"), "/")
	n.mu.Lock()
	o := n.parts.origins[name]
	n.mu.Unlock()
	query := r.URL.Query()
	switch {
	case r.Method != http.MethodPost:
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
	case o == nil:
		http.Error(w, fmt.Sprintf("there is no origin %q", name), http.StatusNotFound)
	case act != "drain" || !query.Has("server"):
		http.Error(w, "say /origin/NAME/drain?server=URL, and &undo=1 to end it", http.StatusBadRequest)
	default:
		if err := o.Drain(query.Get("server"), !query.Has("undo")); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	}
}

func (n *node) writeMetrics(w io.Writer) {
	n.metrics.WritePrometheus(w)
	writeStateMetrics(w, n.status())
}
