package cache

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"spillway/edge/synctest"
)

// fillIn sets all that a value consists of, and fails where it does not know how.
// Times are whole, since a record keeps them as distances.
func fillIn(t *testing.T, v reflect.Value, rng *rand.Rand, but ...string) {
	t.Helper()
	v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem() // unexported fields, too
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 1)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(rng.Int64N(1 << 30))
	case reflect.Uint64, reflect.Uint32, reflect.Uint8:
		v.SetUint(rng.Uint64N(1 << 7))
	case reflect.String:
		b := make([]byte, rng.IntN(300))
		for i := range b {
			b[i] = byte(rng.IntN(256))
		}
		v.SetString(string(b))
	case reflect.Pointer:
		if rng.IntN(2) == 1 {
			v.Set(reflect.New(v.Type().Elem()))
			fillIn(t, v.Elem(), rng)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+rng.IntN(20), 20))
		for i := range v.Len() {
			fillIn(t, v.Index(i), rng)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rng.IntN(20) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillIn(t, key, rng)
			fillIn(t, value, rng)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(epoch0.Add(time.Duration(rng.Int64N(1 << 50)))))
			return
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if v.Type() == reflect.TypeFor[Entry]() && (name == "body" || name == "hold") {
				continue
			}
			fillIn(t, v.Field(i), rng)
		}
	default:
		t.Fatalf("the test cannot fill in a %v", v.Type())
	}
}

// A record keeps all that there is of an entry: a field that is added to Entry,
// directives or nominated and not to the record fails here.
func TestRecordKeepsTheWholeEntry(t *testing.T) {
	base := time.Now()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var e Entry
		fillIn(t, reflect.ValueOf(&e).Elem(), rng)
		for _, d := range e.control.deltas() {
			if !d.set {
				d.Duration = 0 // means nothing
			}
		}
		var key target
		fillIn(t, reflect.ValueOf(&key).Elem(), rng)
		got := decodeHead(appendHead(nil, &key, &e, base), base)
		if !got.received.Equal(e.received) {
			t.Fatalf("seed %d: received %v, kept %v", seed, e.received, got.received)
		}
		got.received = e.received
		if !reflect.DeepEqual(got, &e) {
			t.Fatalf("seed %d: kept\n%+v of\n%+v", seed, got, &e)
		}
	}
}

// Two keys that differ in any part have different records: a field that is added
// to target and not to its parts fails here.
func TestRecordKeepsTheWholeKey(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var key target
	fillIn(t, reflect.ValueOf(&key).Elem(), rng)
	head := appendHead(nil, &key, &Entry{}, epoch0)
	if !hasKey(head, &key) {
		t.Fatal("a record does not have its key")
	}
	for i := range reflect.TypeFor[target]().NumField() {
		name := reflect.TypeFor[target]().Field(i).Name
		switch name {
		case "hash", // the slot keeps it
			"varied", "sent", "sentQuery", "asked": // of a request, and no part of a key
			continue
		}
		other := key
		field := reflect.ValueOf(&other).Elem().Field(i)
		for reflect.DeepEqual(other, key) {
			fillIn(t, field, rng)
		}
		if hasKey(head, &other) {
			t.Errorf("another %s is the same key", name)
		}
	}
	joined := target{host: key.host + key.path, query: key.query, scheme: key.scheme, hasQuery: key.hasQuery}
	if hasKey(head, &joined) {
		t.Error("parts that are joined are the same key")
	}
}

// The age of a stored entry is by the monotonic clock, as that of one on the heap.
func TestRecordedTimeIsMonotonic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := time.Now()
		time.Sleep(time.Hour)
		e := &Entry{received: time.Now()}
		time.Sleep(time.Minute)
		got := decodeHead(appendHead(nil, &target{}, e, base), base)
		if age := got.Age(time.Now()); age != time.Minute {
			t.Errorf("age %v", age)
		}
		if got.received.String() != e.received.String() { // tells the monotonic reading as well
			t.Errorf("kept %v of %v", got.received, e.received)
		}
	})
}

// Nothing that is decoded lies in the memory of the record.
func TestDecodedHeadIsTheHeaps(t *testing.T) {
	e := entryFor(get("/", "A: b"), 200, "Etag: \"x\"", "Vary: A", fresh)
	head := appendHead(nil, &target{host: "h"}, e, epoch0)
	got := decodeHead(head, epoch0)
	poison(head)
	if !reflect.DeepEqual(got.header, e.header) || !reflect.DeepEqual(got.vary, e.vary) {
		t.Errorf("%+v", got)
	}
}
