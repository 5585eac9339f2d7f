package peers

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"spillway/cmd/surge/program"
)

// prepareNginx sets up one worker with a cache.
func prepareNginx(b *bed, _ *contender, folder string, s *server) (program.Spec, error) {
	path, args, err := b.root.find("nginx")
	if err != nil {
		return program.Spec{}, err
	}
	if s.address, err = program.FreeAddress(); err != nil {
		return program.Spec{}, err
	}
	us, err := user.Current()
	if err != nil {
		return program.Spec{}, err
	}
	config := filepath.Join(folder, "nginx.conf")
	text := nginxConfig(folder, s.address, b.certificate, b.source.Address(), us.Username)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return program.Spec{}, err
	}
	return program.Spec{Path: path, Args: append(args, "-c", config, "-e", filepath.Join(folder, "error.log"))}, nil
}

// nginxConfig is what an operator writes who wants hits over HTTP/3 to cost little: a
// log in large writes, segmentation by the kernel, and buffers that hold a crowd's
// first packets. A stream of HTTP/3 counts as a connection of the worker's.
func nginxConfig(folder, address, certificate, origin, user string) string {
	return fmt.Sprintf(`daemon off;
user %[5]s;
worker_processes 1;
worker_rlimit_nofile 65536;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events {
	worker_connections 32768;
}
http {
	access_log %[1]s/access.log combined buffer=64k flush=1s;
	sendfile on;
	tcp_nopush on;
	client_body_temp_path %[1]s/body;
	fastcgi_temp_path %[1]s/fastcgi;
	proxy_temp_path %[1]s/proxy;
	scgi_temp_path %[1]s/scgi;
	uwsgi_temp_path %[1]s/uwsgi;
	proxy_cache_path %[1]s/cache levels=1:2 keys_zone=hits:10m max_size=512m inactive=1h use_temp_path=off;
	open_file_cache max=1000 inactive=1h;
	server {
		listen %[2]s quic reuseport rcvbuf=4m sndbuf=4m;
		listen %[2]s ssl;
		http2 on;
		quic_gso on;
		ssl_certificate %[3]s;
		ssl_certificate_key %[3]s;
		ssl_protocols TLSv1.3;
		ssl_early_data on;
		keepalive_requests 1000000000;
		location / {
			proxy_pass http://%[4]s;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache hits;
			proxy_cache_lock on;
		}
	}
}
`, folder, address, certificate, origin, user)
}
