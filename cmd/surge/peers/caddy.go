package peers

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"spillway/cmd/surge/program"
)

// lookCaddy finds the Caddy that scripts/setup peers has built from its module.
func lookCaddy(b *bed) (version, missing string) {
	path := filepath.Join(b.tools, caddyProgram)
	if _, err := os.Stat(path); err != nil {
		return "", path + " is missing: scripts/setup peers builds it"
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err.Error()
	}
	return info.Main.Version, ""
}

const caddyProgram = "caddy"

// prepareCaddy lets it serve files: it has no cache of its own.
func prepareCaddy(b *bed, _ *contender, folder string, s *server) (program.Spec, error) {
	path, err := filepath.Abs(filepath.Join(b.tools, caddyProgram))
	if err != nil {
		return program.Spec{}, err
	}
	if s.address, err = program.FreeAddress(); err != nil {
		return program.Spec{}, err
	}
	err = os.Mkdir(filepath.Join(folder, "bytes"), 0o755)
	for _, size := range sizes {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, "bytes", fmt.Sprint(size)), make([]byte, size), 0o644))
	}
	config := filepath.Join(folder, "Caddyfile")
	err = errors.Join(err, os.WriteFile(config, []byte(caddyConfig(folder, s.address, b.certificate)), 0o600))
	return program.Spec{
		Path: path, Args: []string{"run", "--config", config, "--adapter", "caddyfile"},
		Env: []string{oneCore, "XDG_DATA_HOME=" + folder, "XDG_CONFIG_HOME=" + folder, "HOME=" + folder},
	}, err
}

func caddyConfig(folder, address, certificate string) string {
	return fmt.Sprintf(`{
	admin off
	auto_https off
	persist_config off
	servers {
		protocols h1 h2 h3
	}
}
https://%[4]s:%[5]s {
	bind %[6]s
	tls %[3]s %[3]s {
		protocols tls1.3
	}
	root * %[1]s
	file_server
}
`, folder, address, certificate, serverName, port(address), host(address))
}
