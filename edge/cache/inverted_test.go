package cache

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestInvertedIndexIsANaiveOne plays any history on the index and on lists.
func TestInvertedIndexIsANaiveOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newInverted[int]()
		lists := map[uint64][]int{}
		chains, keysOf := map[int]uint32{}, map[int][]uint64{}
		remove := func(ref int) {
			if n := x.remove(chains[ref]); n != int64(len(keysOf[ref])) {
				t.Fatalf("removed from %d keys, of %d", n, len(keysOf[ref]))
			}
			for _, key := range keysOf[ref] {
				lists[key] = slices.DeleteFunc(lists[key], func(r int) bool { return r == ref })
			}
			delete(chains, ref)
		}
		for n := range rapid.IntRange(1, 200).Draw(t, "steps") {
			key := rapid.Uint64Range(1, 6).Draw(t, "key")
			switch refs := slices.Sorted(maps.Keys(chains)); rapid.IntRange(0, 3).Draw(t, "op") {
			case 0, 1:
				keys := rapid.SliceOfNDistinct(rapid.Uint64Range(1, 6), 0, 6, rapid.ID[uint64]).Draw(t, "keys")
				chains[n], keysOf[n] = x.add(n, keys), keys
				for _, key := range keys {
					lists[key] = append(lists[key], n)
				}
			case 2:
				if len(refs) > 0 {
					remove(rapid.SampledFrom(refs).Draw(t, "ref"))
				}
			case 3:
				x.rotate(key)
				if l := lists[key]; len(l) > 0 {
					lists[key] = append(l[1:len(l):len(l)], l[0])
				}
			}
			for key := range uint64(7) {
				if got := refsOf(&x, key); !slices.Equal(got, lists[key]) || x.length(key) != len(got) {
					t.Fatalf("key %d has %v and says %d, want %v", key, got, x.length(key), lists[key])
				}
			}
		}
		for ref := range chains {
			remove(ref)
		}
		if len(x.numbers) != 0 {
			t.Fatalf("left behind: %v", x.numbers)
		}
		used, rings := x.used, len(x.rings)
		x.add(1, []uint64{1, 2, 3})
		if used >= 3 && x.used != used || rings >= 3 && len(x.rings) != rings {
			t.Fatalf("%d links and %d rings are not used again, but %d and %d", used, rings, x.used, len(x.rings))
		}
	})
}

// refsOf walks a ring.
func refsOf[R comparable](x *inverted[R], key uint64) (refs []R) {
	for at := uint32(0); ; {
		ref, next, ok := x.after(key, at)
		if !ok {
			return refs
		}
		refs, at = append(refs, ref), next
	}
}

// A link that is gone, or has come into other hands, begins the list anew.
func TestInvertedIndexGoesOnBehindWhatIsGone(t *testing.T) {
	x := newInverted[string]()
	a := x.add("a", []uint64{1})
	x.add("b", []uint64{1})
	x.remove(a)
	for _, link := range []uint32{a, 9, 1 << 30} {
		if ref, _, ok := x.after(1, link); !ok || ref != "b" {
			t.Errorf("behind link %d is %q", link, ref)
		}
	}
	x.add("c", []uint64{2}) // in the place of a
	if ref, _, ok := x.after(1, a); !ok || ref != "b" {
		t.Errorf("behind another key's link is %q", ref)
	}
}
