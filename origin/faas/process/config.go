package process

// Config describes a function that the node's own function host runs.
type Config struct {
	// Socket is the unix socket of the function host.
	Socket string `koanf:"socket" format:"path" default:"/run/spillway/functions.sock"`
	// Function is the name that the host knows the function by.
	Function string `koanf:"function" required:"true"`
}
