package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// FunctionConfig describes one function of the host. Zero values mean the
// defaults that are named beside them.
type FunctionConfig struct {
	// Command starts the function: an unchanged Lambda bootstrap, or an interpreter
	// with its arguments.
	Command []string
	// Dir is where it starts. Empty means the folder of Command[0].
	Dir string
	// MaxInstances bounds the child processes, each of which runs one invocation at
	// a time. Zero means one per CPU.
	MaxInstances int
	// Timeout bounds one invocation. Zero means 5 s.
	Timeout time.Duration
	// InitTimeout bounds a start. Zero means 10 s, as on Lambda.
	InitTimeout time.Duration
	// MaxWait bounds how long a call waits for a free instance before it is
	// throttled. Zero means 100 ms.
	MaxWait time.Duration
	// Memory is what the function is told to have; a Go program keeps its heap below
	// it. Zero means 512 MiB.
	Memory int64
	// Env is added to the function's environment, which has nothing of the host's.
	Env map[string]string
	// IdleTimeout ends an instance that nobody called for so long. Zero means 5 min.
	IdleTimeout time.Duration
	// KeepUser runs the function as the host's user. Otherwise a host that is root
	// runs it as nobody, who must be able to read and execute the program.
	KeepUser bool
}

// complete fills in the defaults and finds the program.
func (c FunctionConfig) complete() (FunctionConfig, error) {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return c, errors.New("command is empty: name the bootstrap program")
	}
	program, err := exec.LookPath(c.Command[0])
	if err != nil {
		return c, err
	}
	if program, err = filepath.Abs(program); err != nil {
		return c, err
	}
	c.Command = append([]string{program}, c.Command[1:]...)
	setDefault(&c.Dir, filepath.Dir(program))
	setDefault(&c.MaxInstances, runtime.NumCPU())
	setDefault(&c.Timeout, 5*time.Second)
	setDefault(&c.InitTimeout, 10*time.Second)
	setDefault(&c.MaxWait, 100*time.Millisecond)
	setDefault(&c.Memory, 512<<20)
	setDefault(&c.IdleTimeout, 5*time.Minute)
	if c.MaxInstances < 0 || c.Timeout < 0 || c.MaxWait < 0 || c.Memory < 0 || c.IdleTimeout < 0 || c.InitTimeout < 0 {
		return c, errors.New("limits must not be negative")
	}
	return c, nil
}

func setDefault[T comparable](v *T, standard T) {
	if *v == *new(T) {
		*v = standard
	}
}

// environ is the environment of an instance: what Lambda promises a runtime, and
// nothing of the host's own, which may hold secrets.
func (c FunctionConfig) environ(name, api string) []string {
	env := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          api,
		"AWS_LAMBDA_FUNCTION_NAME":        name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.FormatInt(c.Memory>>20, 10),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/spillway/" + name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      name,
		"AWS_REGION":                      "local",
		"AWS_DEFAULT_REGION":              "local",
		"LAMBDA_TASK_ROOT":                c.Dir,
		"LAMBDA_RUNTIME_DIR":              c.Dir,
		"_HANDLER":                        name,
		"GOMEMLIMIT":                      strconv.FormatInt(c.Memory, 10),
		// An instance answers one call at a time, as on Lambda, where it has a
		// share of one core: threads for more only get into each other's way.
		"GOMAXPROCS": "1",
		"HOME":       os.TempDir(),
		"LANG":       "C.UTF-8",
		"PATH":       "/usr/local/bin:/usr/bin:/bin",
		"TZ":         ":UTC",
	}
	maps.Copy(env, c.Env)
	list := make([]string, 0, len(env))
	for key, value := range env {
		list = append(list, fmt.Sprintf("%s=%s", key, value))
	}
	slices.Sort(list)
	return list
}
