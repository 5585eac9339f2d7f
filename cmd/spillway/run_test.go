package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"spillway/config"
)

// slowNode is a node in front of an origin that answers when it is told to.
type slowNode struct {
	*node
	signals chan os.Signal
	arrived chan struct{} // a request has reached the origin
	answer  chan struct{} // closed to let the origin answer
	ended   chan error    // what serve returned
}

func startSlowNode(t *testing.T) *slowNode {
	t.Helper()
	s := &slowNode{
		signals: make(chan os.Signal), arrived: make(chan struct{}, 1),
		answer: make(chan struct{}), ended: make(chan error, 1),
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.arrived <- struct{}{}
		select {
		case <-s.answer:
		case <-t.Context().Done(): // the test has failed
		}
		io.WriteString(w, "done")
	}))
	t.Cleanup(origin.Close)
	dir := t.TempDir()
	file := strings.NewReplacer("DIR", dir, "ORIGIN", origin.URL).Replace(quiet + `
origins: {app: {servers: ["ORIGIN"]}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`)
	c, err := config.Parse(filepath.Join(dir, "spillway.yaml"), []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if s.node, err = build(c, "spillway.yaml", new(inheritance), log); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- serve(context.Background(), s.node, log, s.signals) }()
	return s
}

// visit sends a request and returns its answer later.
func (s *slowNode) visit() <-chan string {
	answers := make(chan string, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
		defer client.CloseIdleConnections()
		resp, err := client.Get("https://" + s.listeners.Addr().String() + "/")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			answers <- err.Error()
			return
		}
		answers <- resp.Status + " " + string(body)
	}()
	return answers
}

// awaitDraining waits until the node says that it drains.
func (s *slowNode) awaitDraining(t *testing.T) {
	t.Helper()
	until(t, "the node drains", func() bool { return s.ready() != nil })
}

func TestSignalDrains(t *testing.T) {
	s := startSlowNode(t)
	answer := s.visit()
	<-s.arrived
	s.signals <- syscall.SIGTERM
	s.awaitDraining(t)
	s.signals <- syscall.SIGHUP // too late, and no reason to abort
	close(s.answer)
	if got := <-answer; got != "200 OK done" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func TestSecondSignalAborts(t *testing.T) {
	s := startSlowNode(t)
	answer := s.visit()
	<-s.arrived
	s.signals <- syscall.SIGINT
	s.awaitDraining(t)
	s.signals <- syscall.SIGINT
	if err := <-s.ended; !errors.Is(err, errAborted) {
		t.Errorf("serve returned %v", err)
	}
	close(s.answer)
	<-answer
}

// The signal that was sent to the process before as well may come after that has passed
// it on: it is no second one.
func TestSignalAfterItsWord(t *testing.T) {
	s := startSlowNode(t)
	answer := s.visit()
	<-s.arrived
	s.before.stopped <- struct{}{}
	s.awaitDraining(t)
	s.signals <- syscall.SIGTERM
	close(s.answer)
	if got := <-answer; got != "200 OK done" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}
