package waiting

import (
	"context"
	"slices"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// TestDoorGoesByArrival lets visitors stand at the door in another order than that
// of their arrival.
func TestDoorGoesByArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d door
		if d.stand(50) != nil {
			t.Fatal("an empty door is taken")
		}
		var order []int64
		for _, arrival := range []int64{30, 10, 40, 10, 20} {
			c := d.stand(arrival)
			go func() {
				if d.await(t.Context(), c, time.Minute) {
					order = append(order, arrival)
					d.leave()
				}
			}()
			synctest.Wait()
		}
		time.Sleep(time.Second)
		if n, since := d.standing(); n != 6 || time.Since(since) != time.Second {
			t.Errorf("%d stand since %v", n, since)
		}
		d.leave()
		synctest.Wait()
		if !slices.Equal(order, []int64{10, 10, 20, 30, 40}) {
			t.Errorf("let in as %v", order)
		}
		if n, _ := d.standing(); n != 0 {
			t.Errorf("%d stand at the end", n)
		}
	})
}

func TestDoorIsLeftByThoseWhoGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d door
		d.stand(1)
		left, cancel := context.WithCancel(t.Context())
		gone, late, last := d.stand(2), d.stand(3), d.stand(4)
		var goneIn, lateIn, lastIn bool
		go func() { goneIn = d.await(left, gone, time.Minute) }()
		go func() { lateIn = d.await(t.Context(), late, time.Second) }()
		go func() { lastIn = d.await(t.Context(), last, time.Minute) }()
		cancel()
		time.Sleep(2 * time.Second)
		d.leave()
		synctest.Wait()
		if goneIn || lateIn || !lastIn {
			t.Errorf("let in: %v %v %v", goneIn, lateIn, lastIn)
		}
		d.leave()
		if n, _ := d.standing(); n != 0 {
			t.Errorf("%d stand at the end", n)
		}
	})
}
