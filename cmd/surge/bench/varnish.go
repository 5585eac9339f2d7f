package bench

import "spillway/cmd/surge/program"

// startVarnish starts Varnish with its defaults, half a gigabyte of memory and
// HTTP/2. It speaks no TLS, so what it answers costs less by the encryption; its log
// is in shared memory, and nobody writes it down.
func (f *field) startVarnish(folder string) (*peer, error) {
	path, err := program.Find("varnishd")
	if err != nil {
		return nil, err
	}
	p := &peer{Version: program.Version(path, "-V"), Plain: true, Lacks: map[protocol]string{h3: "it has none"}}
	if p.address, err = program.FreeAddress(); err != nil {
		return nil, err
	}
	return f.foreign(p, folder, path, varnishArguments(folder, p.address, f.source.Address())...)
}

func varnishArguments(folder, address, origin string) []string {
	return []string{
		"-F", "-j", "none", "-T", "none", "-n", folder + "/work", "-a", address, "-b", origin, "-s", "malloc,512m",
		"-p", "feature=+http2",
	}
}
