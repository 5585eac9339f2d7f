package edge

import (
	"hash/maphash"
	"net/http"
	"sync/atomic"
	"time"

	"spillway/edge/cache"
)

// A rendering is the head of a hit, as a protocol writes it. It is good as long as
// nothing that it was made of has changed: Age and Cache-Status do each second, and
// all else with the entry or the settings. It holds the entry's fields, not its body.
type rendering struct {
	of   renderingKey
	head []byte
	id   int // where in head the field with the request's ID goes, if there is one
}

// A renderingKey is all that the head of a hit depends on.
type renderingKey struct {
	// found was looked up, answer is what is sent: the same, or found in another coding.
	found, answer *cache.Entry
	age, ttl      time.Duration // whole seconds
	settings      *settings
	policy        *cache.Policy // of the settings by which it was found, which may be older
	proto         proto
	altSvc        *string // the one value; nil: there is none
}

// A proto is how a head is written.
type proto uint8

const (
	protoHTTP1 proto = iota
	protoHTTP2
	protoHTTP3
)

// renderings remembers the heads that were made last. It is no second store: what it
// has is asked for with an entry in hand. Its zero value is empty; it is safe for
// concurrent use.
type renderings struct {
	slots [1 << 12]atomic.Pointer[rendering]
}

// mostRendered bounds the head that is remembered: 4,096 of them hold at most 8 MiB. A
// longer one is made for each request.
const mostRendered = 2 << 10

var renderingSeed = maphash.MakeSeed()

// slot is where an entry's head is, if it is remembered.
func (r *renderings) slot(k *renderingKey) *atomic.Pointer[rendering] {
	n := maphash.Comparable(renderingSeed, struct {
		answer *cache.Entry
		proto  proto
	}{k.answer, k.proto})
	return &r.slots[n%uint64(len(r.slots))]
}

// An encoder appends the head of an answer as its protocol writes it, without what frames
// it. With the status 0 it appends fields alone.
type encoder func(b []byte, status int, fields http.Header) []byte

// appendHead appends the head of a hit. altSvc is the field that the listeners add, or
// nil.
func (x *exchange) appendHead(b []byte, p proto, altSvc []string, encode encoder) []byte {
	k := renderingKey{
		found: x.found.Entry, answer: x.found.Answer(x.r), settings: x.s.settings.Load(), policy: x.found.Policy, proto: p,
		age: x.found.Entry.Age(x.start).Truncate(time.Second), ttl: x.found.Entry.TTL(x.start).Truncate(time.Second),
	}
	if len(altSvc) > 0 {
		k.altSvc = &altSvc[0]
	}
	slot := x.s.renderings.slot(&k)
	made := slot.Load()
	if made == nil || made.of != k {
		made = x.render(&k, altSvc, encode)
		// A reload in this instant may have changed what the fields are made of. And of what
		// is no entry of the store, nobody finds the head again.
		if len(made.head) <= mostRendered && k.found.Stored() && k.answer.Stored() && x.s.settings.Load() == k.settings {
			slot.Store(made)
		}
	}
	if k.settings.expose != "full" {
		return append(b, made.head...)
	}
	b = append(b, made.head[:made.id]...)
	b = encode(b, 0, http.Header{requestID: {x.requestID()}})
	return append(b, made.head[made.id:]...)
}

// requestID names the field that differs with each request. The libraries of HTTP/1.1 and
// HTTP/2 write fields in the order of their names.
const requestID = "X-Request-Id"

// render makes the head of a hit, but for the request's ID.
func (x *exchange) render(k *renderingKey, altSvc []string, encode encoder) *rendering {
	before, after := x.hitFields(altSvc, k.answer), http.Header{}
	for name, values := range before {
		if name > requestID {
			after[name] = values
			delete(before, name)
		}
	}
	head := encode(nil, k.answer.Status(), before)
	return &rendering{of: *k, head: encode(head, 0, after), id: len(head)}
}

// hitFields are those of the answer, but for the request's ID.
func (x *exchange) hitFields(altSvc []string, e *cache.Entry) http.Header {
	fields := make(http.Header, len(e.Header())+4)
	if altSvc != nil {
		fields["Alt-Svc"] = altSvc
	}
	x.entryFields(fields, e)
	if x.s.settings.Load().expose == "full" {
		delete(fields, requestID)
	}
	return fields
}
