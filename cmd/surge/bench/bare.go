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
)

// BareCommand is `surge bare`: http3.Server alone, the yardstick of the
// benchmark. It answers what the edge answers from its cache, and does nothing
// else.
func BareCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "bare",
		Short: "Serve one body over HTTP/3 by quic-go alone, as a yardstick",
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
			server := &http3.Server{
				TLSConfig: serverTLS(certificate),
				Handler:   bareHandler(),
			}
			fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", conn.LocalAddr())
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			context.AfterFunc(ctx, func() { server.Close() })
			if err := server.Serve(conn); ctx.Err() == nil {
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "UDP address to listen on")
	return cmd
}

// bareHandler sends the fields of a hit and a body of the same size, in one
// Write from shared slices: the least that any handler can do.
func bareHandler() http.Handler {
	body := make([]byte, hitBytes)
	for i := range body {
		body[i] = 'x'
	}
	length := []string{strconv.Itoa(len(body))}
	date := []string{time.Now().UTC().Format(http.TimeFormat)}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"] = []string{"text/plain; charset=utf-8"}
		h["Content-Length"] = length
		h["Cache-Control"] = []string{"max-age=3600"}
		h["Date"] = date
		h["Age"] = []string{"1"}
		h["Cache-Status"] = []string{"spillway; hit; ttl=3599"}
		h["Spillway"] = []string{"hit"}
		w.Write(body)
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
