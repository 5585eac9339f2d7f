package wan

import (
	"context"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

// Each datagram is delivered at the instant it is due, also one that is put before
// those that wait.
func TestLineDeliversWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		l := newLine(time.Now())
		type delivery struct {
			name byte
			at   time.Duration
		}
		var got []delivery
		done := make(chan struct{})
		go func() {
			l.run(ctx, func(d datagram) { got = append(got, delivery{d.data[0], time.Since(l.epoch)}) })
			close(done)
		}()
		put := func(name byte, due time.Duration) { l.push(datagram{due: due, data: []byte{name}}) }
		put('c', 300*ms)
		put('a', 100*ms)
		time.Sleep(150 * ms)
		put('b', 200*ms)
		put('x', 50*ms) // overdue: at once
		put('d', 300*ms)
		time.Sleep(time.Hour)
		put('e', time.Hour+time.Second)
		time.Sleep(time.Hour)
		stop()
		<-done
		want := []delivery{
			{'a', 100 * ms}, {'x', 150 * ms}, {'b', 200 * ms}, {'c', 300 * ms}, {'d', 300 * ms}, {'e', time.Hour + time.Second},
		}
		if !slices.Equal(got, want) {
			t.Errorf("delivered %v, want %v", got, want)
		}
	})
}

func TestLineIsBounded(t *testing.T) {
	l := newLine(time.Now())
	data := make([]byte, 1<<20)
	n := 0
	for l.push(datagram{data: data}) {
		n++
	}
	if n != lineBytes>>20 {
		t.Fatalf("%d MiB taken in, want %d", n, lineBytes>>20)
	}
	l.pop()
	if !l.push(datagram{data: data}) {
		t.Fatal("no room after one left")
	}
}

func TestLineOrders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLine(time.Now())
		dues := rapid.SliceOf(rapid.IntRange(0, 20)).Draw(t, "dues")
		for _, due := range dues {
			l.push(datagram{due: time.Duration(due)})
		}
		slices.Sort(dues)
		seq := map[time.Duration]uint64{}
		for _, want := range dues {
			d := l.pop()
			if d.due != time.Duration(want) || d.seq <= seq[d.due] {
				t.Fatalf("due %d, seq %d; want due %d and a seq above %d", d.due, d.seq, want, seq[d.due])
			}
			seq[d.due] = d.seq
		}
	})
}

func BenchmarkLine(b *testing.B) {
	l := newLine(time.Now())
	var batch []datagram
	for i := range 1000 {
		l.push(datagram{due: time.Hour + time.Duration(i)})
	}
	b.ReportAllocs()
	for i := time.Duration(0); b.Loop(); i++ {
		l.push(datagram{due: time.Hour + i})
		l.mu.Lock()
		batch = append(batch[:0], l.pop())
		l.mu.Unlock()
	}
}
