package lambda

// Config describes a function on AWS Lambda. Its keys are the machine's: none of
// them stands here.
type Config struct {
	// Function is a name, a name and an alias or version (thumb:live), or an ARN.
	Function string `koanf:"function" required:"true"`
	// Region is where the function is. Empty means that of the ARN, else what the
	// environment (AWS_REGION) or the shared configuration said when the function
	// was set up: at the start, or when one of its settings changed.
	Region string `koanf:"region"`
	// Endpoint is called instead of AWS's own, such as a VPC endpoint. It is https,
	// but for an address of this machine.
	Endpoint string `koanf:"endpoint" format:"url"`
	// Payload is the format of events and answers: that of HTTP APIs and function
	// URLs, 2.0, or that of REST APIs, 1.0.
	Payload string `koanf:"payload" enum:"2.0,1.0" default:"2.0"`
	// Profile is a part of the shared configuration of AWS.
	Profile string `koanf:"profile"`
	// RoleARN is a role that the node takes on to call the function.
	RoleARN string `koanf:"role_arn"`
}
