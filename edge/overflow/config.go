package overflow

// Config says when and where the requests of a route may leave the origin. A
// route without one never spills.
type Config struct {
	// To names the functions to use, in the order of preference.
	To []string `koanf:"to" ref:"functions" required:"true"`
	// At is the share of the learned origin limit above which requests spill. It
	// lowers the admission threshold of the route, not the learned limit.
	At float64 `koanf:"overflow_at" unit:"ratio" default:"100%" min:"1%" max:"100%"`
	// PrewarmAt is the share of the learned capacity from which on functions are made
	// ready for what is about to arrive beyond it. Zero is never.
	PrewarmAt float64 `koanf:"prewarm_at" unit:"ratio" default:"80%" max:"100%"`
	// Hedge is the share of the requests that a function may answer, too, because
	// the origin is later than with all but a twentieth of them. Zero is off.
	Hedge float64 `koanf:"hedge" unit:"ratio" default:"0%" max:"2%"`
	// Exercise is the share of the requests that a function gets, too, to prove that it
	// answers as the origin does: of GET alone, and of HEAD where bodies are not
	// compared. It bounds what a route in between pays; a busy one compares every ten
	// seconds, a quiet one every five minutes. Zero is never.
	Exercise float64 `koanf:"exercise" unit:"ratio" default:"0.1%" max:"100%"`
	// ExerciseFields are the header fields that must be equal.
	ExerciseFields []string `koanf:"exercise_fields" default:"[Content-Type, Location, Cache-Control]"`
	// ExerciseBody says how bodies are compared: byte for byte once decompressed, as
	// values of JSON, or not.
	ExerciseBody string `koanf:"exercise_body" enum:"exact,json,off" default:"exact"`
	// Methods that may spill. A method that is not safe spills only when listed.
	Methods []string `koanf:"methods" format:"method" default:"[GET, HEAD]"`
	// MaxBody is the largest request body that may spill, in bytes. It is read
	// before a place is chosen.
	MaxBody int64 `koanf:"max_body" unit:"bytes" default:"1MiB" max:"64MiB"`
}
