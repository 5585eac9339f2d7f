package flood

import (
	"net/netip"
	"testing"
)

func TestVisitors(t *testing.T) {
	for _, p := range profiles {
		count := map[class]int{}
		back := 0
		for _, v := range p.visitors() {
			count[v.class]++
			if v.returning {
				back++
			}
			if (v.class == returning) != v.returning && v.class != inBlock {
				t.Errorf("%s: %+v", p, v)
			}
		}
		want := map[class]int{returning: 25, first: 25}
		if p == spoofed {
			want = map[class]int{returning: 20, first: 20, inBlock: 10}
		}
		if back != visitorCount/2 || count[returning] != want[returning] || count[first] != want[first] || count[inBlock] != want[inBlock] {
			t.Errorf("%s: %v, %d of them return", p, count, back)
		}
	}
}

// Who returns has one address; who is there for the first time, another each time.
func TestAddresses(t *testing.T) {
	for _, p := range profiles {
		owner := map[netip.Addr]int{}
		for nth := range 60 {
			for _, v := range p.visitors() {
				a := v.address(p, nth)
				switch {
				case p == shared:
					if a != sharedAddr {
						t.Fatalf("%+v is at %s", v, a)
					}
				case block.Contains(a) != (v.class == inBlock), !visitorNet.Contains(a), a == sharedAddr:
					t.Fatalf("%s: %+v is at %s", p, v, a)
				case v.returning:
					if other, taken := owner[a]; taken && other != v.number || v.address(p, 0) != a {
						t.Fatalf("%s: %+v is at %s as %d is", p, v, a, other)
					}
					owner[a] = v.number
				case v.class == first:
					if _, taken := owner[a]; taken {
						t.Fatalf("%s: %+v is at %s for the second time", p, v, a)
					}
					owner[a] = v.number
				}
			}
		}
	}
}

func TestSources(t *testing.T) {
	r := testRandom()
	for range 10_000 {
		a := random.source(r)
		if !a.IsValid() || a.Port() < 1024 || a.Addr().As4()[0] < 11 || a.Addr().As4()[0] > 126 {
			t.Fatalf("a random source is %s", a)
		}
		if a := spoofed.source(r).Addr(); !block.Contains(a) {
			t.Fatalf("a spoofed source is %s", a)
		}
	}
	own := 0
	for range 10_000 {
		if shared.source(r).Addr() == sharedAddr {
			own++
		}
	}
	if own < 4500 || own > 5500 {
		t.Errorf("%d of 10000 are of the shared address", own)
	}
}
