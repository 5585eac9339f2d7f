package bench

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"spillway/cmd/surge/program"
)

// startNginx starts nginx as a cache with one worker.
func (f *field) startNginx(folder string) (*peer, error) {
	path, err := program.Find("nginx")
	if err != nil {
		return nil, err
	}
	p := &peer{Version: program.Version(path, "-v"), Lacks: map[protocol]string{h3: "from 1.25 on; Debian 12 has 1.22"}}
	if p.address, err = program.FreeAddress(); err != nil {
		return nil, err
	}
	if err := WriteCertificate(filepath.Join(folder, "both.pem")); err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "nginx.conf")
	if err := writeConfig(config, nginxConfig(folder, p.address, f.source.Address())); err != nil {
		return nil, err
	}
	return f.foreign(p, folder, path, "-c", config, "-e", filepath.Join(folder, "error.log"))
}

// writeConfig writes a file that whoever the peer runs as may read.
func writeConfig(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

// nginxConfig is what an operator writes who wants hits from the kernel's memory,
// one request of the origin for each miss, and an access log as Spillway has it.
func nginxConfig(folder, address, origin string) string {
	return fmt.Sprintf(`daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events {
	worker_connections 4096;
}
http {
	access_log %[1]s/access.log combined;
	sendfile on;
	tcp_nopush on;
	client_body_temp_path %[1]s/body;
	fastcgi_temp_path %[1]s/fastcgi;
	proxy_temp_path %[1]s/proxy;
	scgi_temp_path %[1]s/scgi;
	uwsgi_temp_path %[1]s/uwsgi;
	proxy_cache_path %[1]s/cache levels=1:2 keys_zone=hits:10m max_size=512m inactive=1h use_temp_path=off;
	server {
		listen %[2]s ssl http2;
		ssl_certificate %[1]s/both.pem;
		ssl_certificate_key %[1]s/both.pem;
		keepalive_requests 1000000000;
		location / {
			proxy_pass http://%[3]s;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache hits;
			proxy_cache_lock on;
			add_header X-Cache $upstream_cache_status;
		}
	}
}
`, folder, address, origin)
}

// WriteCertificate writes a certificate of the kind that the node makes, and its key.
// It is for loopback and for the time of the bench: whoever runs as another may read it.
func WriteCertificate(path string) error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return err
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	return writeConfig(path, string(both))
}
