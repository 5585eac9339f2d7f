package cache

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"spillway/edge/coding"
)

// recodings are the bodies that are being encoded or decoded. Each body is, once for
// each coding that somebody wants, and streams to all who want it; then it is an entry
// of its own. It is found by way of the entry that it was made from, and only while
// that is what it was: what happens to the one happens to the other.
type recodings struct {
	mu      sync.Mutex
	running map[recodingKey]*recoding
	cores   coding.Cores
	most    int

	made    [4]atomic.Uint64 // by coding
	refused atomic.Uint64
	alone   atomic.Int64 // visitors for whom a body is decoded and not kept
}

type recodingKey struct {
	content uint64
	coding  coding.Coding
}

// A recoding is one body on its way from one coding to another.
type recoding struct {
	head *Entry
	fill *fill
}

func (rs *recodings) state() RecodedState {
	return RecodedState{
		Zstd: rs.made[coding.Zstd].Load(), Brotli: rs.made[coding.Brotli].Load(),
		Gzip: rs.made[coding.Gzip].Load(), Identity: rs.made[coding.Identity].Load(),
	}
}

// recodingsPerCore bounds the bodies under way, for each core that may encode: each
// takes up to some mebibytes. Not a knob.
const recodingsPerCore = 8

func newRecodings() recodings {
	cores := max(1, runtime.GOMAXPROCS(0)/2) // the other half answers visitors
	return recodings{
		running: map[recodingKey]*recoding{}, cores: coding.NewCores(cores), most: cores * recodingsPerCore,
	}
}

// decodeAlone answers one visitor, who could not read the bytes as they are, where what is
// being decoded for others takes no more readers or too much is. It returns nil where too
// many are answered so.
func (c *Cache) decodeAlone(ctx context.Context, o *original) *Response {
	rs := &c.recodings
	if rs.alone.Add(1) > int64(rs.most) {
		rs.alone.Add(-1)
		return nil
	}
	source := o.source(ctx)
	if source == nil {
		rs.alone.Add(-1)
		return nil
	}
	rc := &recoding{head: o.entry.in(o.coding, newSalt())}
	return rc.answer(&directBody{c.open(o, source), sync.OnceFunc(func() { rs.alone.Add(-1) })})
}

// enterRecoding returns what there is of an original in another coding: its body,
// pinned, or where it is made, with a reader announced.
func (c *Cache) enterRecoding(r *http.Request, found *Result, o *original, key *target) (*Entry, *recoding) {
	rs := &c.recodings
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if made := c.storedAs(key, r, found, o); made != nil {
		return made, nil
	}
	id := recodingKey{o.entry.content, o.coding}
	if rc := rs.running[id]; rc != nil {
		if rc.fill.expect() {
			return nil, rc
		}
		return c.storedAs(key, r, found, o), nil // at this very moment, or never
	}
	if len(rs.running) >= rs.most {
		return nil, nil
	}
	rc := c.beginRecoding(o)
	if rc == nil {
		return nil, nil
	}
	rs.running[id] = rc
	place, based := key.clone(), found.target.clone()
	epoch := found.epoch
	go func() {
		c.bringRecoded(rc, &based, &place, r, epoch)
		rs.mu.Lock()
		delete(rs.running, id)
		rs.mu.Unlock()
	}()
	return nil, rc
}

// beginRecoding returns a recoding with a reader announced, or nil when there is no
// memory for it.
func (c *Cache) beginRecoding(o *original) *recoding {
	ctx, cancel := context.WithCancel(context.Background())
	source := o.source(ctx)
	if source == nil {
		cancel()
		return nil
	}
	rc := &recoding{head: o.entry.in(o.coding, newSalt())}
	body := c.open(o, source)
	if rc.fill = newFill(body, -1, c.config.MaxObject, &c.fills, o.keep, 1); rc.fill == nil {
		cancel()
		body.Close()
		return nil
	}
	rc.fill.cancel = cancel
	return rc
}

// open returns the original's body in the other coding.
func (c *Cache) open(o *original, source coding.Source) io.ReadCloser {
	if o.coding == coding.Identity {
		return coding.Decode(o.entry.coding, source, maxGrowth*c.config.MaxObject)
	}
	return coding.Encode(o.coding, source, c.recodings.cores)
}

// storedAs returns what was made of the original's body, pinned, or nil.
func (c *Cache) storedAs(key *target, r *http.Request, found *Result, o *original) *Entry {
	made, _ := c.usable(key, r, found.Policy)
	if made == nil || made.content != o.entry.content {
		made.release()
		return nil
	}
	made.touch()
	return made
}

// withHeader returns what was made of the original's body with the original's header: a
// 304 may have changed that since, and left the body alone.
func (c *Cache) withHeader(made *Entry, key *target, r *http.Request, found *Result, o *original) *Entry {
	if made.number == o.entry.number {
		return made
	}
	e := o.entry.in(o.coding, made.salt).complete(made.body)
	kept := c.keepAt(&found.target, key, e, r, found.epoch)
	if kept != nil && !kept.hold.tight {
		made.release()
		return kept
	}
	kept.release()
	e.hold = made.hold // its body is that one's
	return e
}

// bringRecoded makes what is wanted, and stores it when it is complete. Readers go on in
// the store's copy.
func (c *Cache) bringRecoded(rc *recoding, based, key *target, r *http.Request, epoch uint32) {
	defer rc.fill.cancel()
	body, err := rc.fill.pump()
	var kept *Entry
	if err == nil {
		c.recodings.made[rc.head.coding].Add(1)
		if body != nil && rc.fill.keep {
			kept = c.keepAt(based, key, rc.head.complete(body), r, epoch)
		}
	}
	if kept != nil && kept.hold.tight {
		kept.release()
		kept = nil
	}
	rc.fill.end(body, kept, err)
}

// response is what one of those gets who want what is being made.
func (rc *recoding) response(ctx context.Context) *Response { return rc.answer(rc.fill.attach(ctx)) }

func (rc *recoding) answer(body io.ReadCloser) *Response {
	return &Response{
		Status: rc.head.status, Header: withAge(rc.head, time.Now()), Body: body, ContentLength: -1,
		Detail: rc.head.coding.String(),
	}
}
