package flood

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// TestHellosAreGenuine gives one to a real server, which answers only what it could
// decrypt.
func TestHellosAreGenuine(t *testing.T) {
	const count = 64
	file := filepath.Join(t.TempDir(), "hellos")
	if err := writeHellos(t.Context(), file, count); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != count*initialLen {
		t.Fatalf("%d bytes, want %d datagrams of %d", len(all), count, initialLen)
	}
	seen := map[string]bool{}
	for i := range count {
		one := all[i*initialLen:][:initialLen]
		seen[string(one[6:6+one[5]])] = true
	}
	if len(seen) != count {
		t.Errorf("%d connection IDs of %d", len(seen), count)
	}

	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	transport := &quic.Transport{Conn: server}
	defer transport.Close()
	if _, err := transport.Listen(&tls.Config{
		GetCertificate: func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if info.ServerName != serverName || len(info.SupportedProtos) != 1 || info.SupportedProtos[0] != http3.NextProtoH3 {
				t.Errorf("the client asks %q for %v", info.ServerName, info.SupportedProtos)
			}
			return nil, os.ErrNotExist
		},
		NextProtos: []string{http3.NextProtoH3},
	}, nil); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("udp4", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write(all[:initialLen]); err != nil {
		t.Fatal(err)
	}
	client.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 1500)
	if n, err := client.Read(b); err != nil || b[0]&0xf0 != 0xc0 {
		t.Errorf("the server answered %x: %v", b[:n], err)
	}
}
