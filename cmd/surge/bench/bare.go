package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/spf13/cobra"
	"golang.org/x/net/http2"
)

// BareCommand is `surge bare`: the servers of the three protocols alone, the
// yardstick of the benchmark. They answer what the edge answers from its cache, and
// do nothing else.
func BareCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "bare",
		Short: "Serve one body by the libraries alone, as a yardstick",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			certificate, err := selfSigned()
			if err != nil {
				return err
			}
			conn, err := net.ListenPacket("udp", listen)
			if err != nil {
				return err
			}
			defer conn.Close()
			listener, err := net.Listen("tcp", conn.LocalAddr().String())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", conn.LocalAddr())
			return serveBare(cmd.Context(), conn, listener, certificate)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on, UDP and TCP")
	return cmd
}

// startBare starts the yardstick.
func (f *field) startBare(folder string) (*peer, error) { return f.ours(folder, "surge", "bare") }

// serveBare serves HTTP/3 on the one and HTTP/2 and HTTP/1.1 on the other until ctx
// is done.
func serveBare(ctx context.Context, conn net.PacketConn, listener net.Listener, certificate tls.Certificate) error {
	handler := bareHandler()
	quic := &http3.Server{TLSConfig: serverTLS(certificate), Handler: handler}
	tcp := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, Handler: handler}
	//lint:ignore SA1019 the library that the edge serves HTTP/2 with
	if err := http2.ConfigureServer(tcp, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		quic.Close()
		tcp.Close()
	})
	served := make(chan error, 2)
	go func() { served <- quic.Serve(conn) }()
	go func() { served <- tcp.ServeTLS(listener, "", "") }()
	err := <-served
	stopped := ctx.Err() != nil
	cancel()
	<-served
	<-closed // a server that serves no more has connections yet
	if stopped {
		return nil
	}
	return err
}

// bareHandler sends the fields of a hit and a body of the same size, in one
// Write from shared slices: the least that any handler can do.
func bareHandler() http.Handler {
	type answer struct {
		body   []byte
		length []string
	}
	answers := map[string]answer{}
	for _, size := range hitSizes {
		answers[fmt.Sprintf("/bytes/%d", size)] = answer{make([]byte, size), []string{strconv.Itoa(size)}}
	}
	date := []string{time.Now().UTC().Format(http.TimeFormat)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answers[r.URL.Path]
		h := w.Header()
		h["Content-Type"] = []string{"text/plain; charset=utf-8"}
		h["Content-Length"] = a.length
		h["Cache-Control"] = []string{"max-age=3600"}
		h["Date"] = date
		h["Age"] = []string{"1"}
		h["Cache-Status"] = []string{"spillway; hit; ttl=3599"}
		h["Spillway"] = []string{"hit"}
		w.Write(a.body)
	})
}

func serverTLS(c tls.Certificate) *tls.Config {
	return http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{c}})
}

// selfSigned makes a certificate of the kind that the edge makes: ECDSA P-256.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
