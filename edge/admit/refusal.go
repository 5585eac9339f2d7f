package admit

import "errors"

// A Refusal is why packets are judged nowhere better, in a word for metrics. The text
// beside it says more.
type Refusal string

// The refusals.
const (
	NotRefused  Refusal = "none"
	Off         Refusal = "off"      // by the configuration
	Loopback    Refusal = "loopback" // no flood comes from there
	NoInterface Refusal = "no_interface"
	NoPrivilege Refusal = "no_privilege"
	OldKernel   Refusal = "old_kernel"
	HookInUse   Refusal = "hook_in_use"
	NotByDriver Refusal = "not_by_driver"
	NotEthernet Refusal = "not_ethernet"
	Rejected    Refusal = "rejected" // by the verifier
	Detached    Refusal = "detached" // by somebody else
	GivenUp     Refusal = "given_up" // native mode, which failed its trial
	Other       Refusal = "other"
)

// Refusals are all of them.
var Refusals = []Refusal{
	NotRefused, Off, Loopback, NoInterface, NoPrivilege, OldKernel, HookInUse, NotByDriver, NotEthernet, Rejected,
	Detached, GivenUp, Other,
}

// refuse notes why packets are judged nowhere better; nil is for no reason.
func (k *control) refuse(why error) {
	k.refused, k.reason = "", NotRefused
	switch {
	case why == nil:
		return
	case errors.Is(why, errGivenUp):
		k.reason = GivenUp
	case k.refusal != nil:
		k.reason = k.refusal(why)
	default:
		k.reason = Other
	}
	k.refused = why.Error()
}
