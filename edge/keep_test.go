package edge

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

func TestKeepTakesRoomAsBytesCome(t *testing.T) {
	f := func(length int, room, buffer int64, kept int, whole bool, took int64) {
		t.Helper()
		s := &Server{}
		s.settings.Store(&settings{buffer: buffer})
		x := &exchange{s: s}
		body := bytes.Repeat([]byte("x"), length)
		rest := iotest.HalfReader(bytes.NewReader(body))
		b, all, err := x.keep(rest, room)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != kept || all != whole || x.kept != took || s.kept.Load() != took {
			t.Errorf("%d bytes, room %d of %d: kept %d, whole %v, took %d of %d; want %d, %v, %d",
				length, room, buffer, len(b), all, x.kept, s.kept.Load(), kept, whole, took)
		}
		after, _ := io.ReadAll(rest)
		if !bytes.Equal(append(b, after...), body) {
			t.Errorf("%d bytes, room %d of %d: bytes were lost", length, room, buffer)
		}
	}
	const mib = 1 << 20
	f(0, mib, mib, 0, true, 4<<10)
	f(10, mib, 64*mib, 10, true, 4<<10) // a small body takes little, whatever was announced
	f(4<<10, 4<<10, mib, 4<<10, true, 4<<10+1)
	f(5<<10, mib, 64*mib, 5<<10, true, 8<<10)
	f(100<<10, 100<<10, mib, 100<<10, true, 100<<10+1)
	f(100<<10, 50<<10, mib, 50<<10+1, false, 50<<10+1) // too long to keep
	f(100<<10, 100<<10, 20<<10, 16<<10, false, 16<<10) // the buffer is full: the rest is passed on
	f(100, mib, 0, 100, true, 4<<10)                   // the first bytes are always read
	f(100<<10, mib, 0, 4<<10, false, 4<<10)
}
