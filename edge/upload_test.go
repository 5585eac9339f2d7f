package edge

import (
	"io"
	"testing"
	"time"
)

// What each body of a connection is charged for, sweep by sweep.
func TestUploadDebts(t *testing.T) {
	const stall = 30 * time.Second
	f := func(what string, others int64, own int64, unread bool, want time.Duration) {
		t.Helper()
		c := &connection{}
		g := &guard{conn: c, body: upload{from: io.NopCloser(nil)}}
		c.enter(g)
		other := &guard{conn: c, body: upload{from: io.NopCloser(nil)}}
		c.enter(other)
		g.body.reads.begin()
		if !unread {
			other.body.reads.begin()
		}
		s := sight{tick: time.Second, stall: stall, finish: time.Hour}
		for at := time.Second; at <= 2*time.Hour; at += time.Second {
			g.body.got.Add(own)
			other.body.got.Add(others)
			c.keepPace()
			other.body.behind(s, &c.pace)
			if g.body.behind(s, &c.pace) {
				if at != want {
					t.Errorf("%s: cut after %v, want %v", what, at, want)
				}
				return
			}
		}
		if want != 0 {
			t.Errorf("%s: never cut, want after %v", what, want)
		}
	}
	f("nothing", 0, 0, false, stall)
	f("half the least rate", 0, leastUpload/2, false, 2*stall)
	f("the least rate", 0, leastUpload, false, 0)
	f("two share the least rate", leastUpload/2, leastUpload/2, false, 2*starved*stall)
	f("others pay", leastUpload, 0, false, starved*stall)
	f("the node leaves others unread", 0, 0, true, starved*stall)
	f("the least rate beside what is unread", 0, leastUpload, true, 0)
}

// What the node does not read is nobody's debt, however long that lasts.
func TestUploadUnreadByTheNode(t *testing.T) {
	c := &connection{}
	g := &guard{conn: c, body: upload{from: io.NopCloser(nil)}}
	c.enter(g)
	for range 7200 {
		c.keepPace()
		if g.body.behind(sight{tick: time.Second, stall: 30 * time.Second}, &c.pace) {
			t.Fatal("cut")
		}
	}
}
