package process

// DefaultSocket is where a function host answers, and where a node looks for it,
// unless they are told otherwise: a folder of the host's own, which the node may
// enter.
const DefaultSocket = "/run/spillway-functions/functions.sock"

// Config describes a function that the node's own function host runs.
type Config struct {
	// Socket is the unix socket of the function host; empty means DefaultSocket.
	Socket string `koanf:"socket" format:"path" default:"/run/spillway-functions/functions.sock"`
	// Function is the name that the host knows the function by.
	Function string `koanf:"function" required:"true"`
}
