package cache

import (
	"math/bits"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An arena is the memory of a shard, outside of the garbage-collected heap: the
// collector neither reads nor moves it, and its pacing does not count it.
//
// Records lie in it one after the other, each in one piece, in units of 64
// bytes; what is freed joins the free memory beside it. Address space is plenty,
// so that there is several times as much of it as may be used: a large record
// finds a place although the free pages lie scattered. What is bounded is the
// pages that are in memory. Pages under free memory go back to the kernel when
// others are wanted.
//
// An arena has no lock of its own.
type arena struct {
	memory *mapping // unmapped when nobody refers to it any more
	data   []byte
	slots  []slot // the first stands for none
	made   uint32 // slots that were ever used
	spare  uint32 // the first of them that stands for nothing now

	free     [classes]uint32 // lists by class of length
	occupied [classes / 64]uint64

	page     int64
	resident []bool // by page
	top      int64  // no page from here on was ever resident
	held     int64  // bytes of resident pages
	limit    int64  // of taken
	loose    bool   // there may be resident pages under free memory
	onFree   func([]byte)
}

// A slot is a stretch of an arena: a record, or free memory. It fills a cache
// line, holds no pointers, and belongs to the arena, the index and the policy.
type slot struct {
	hash  uint64
	id    uint64 // of the record, never used twice in a shard
	chain uint32 // the next in the index

	prev, next    uint32 // in a queue of the policy, or in a list of free memory
	below, above  uint32 // the neighbours in memory
	start, length uint32 // in units
	head, body    uint32 // in bytes

	frequency atomic.Int32  // of hits, up to maxFrequency
	pins      atomic.Uint32 // see shard.pin
	state     slotState
	proven    bool // it belongs into the main queue, or replaces one that does
}

type slotState uint8

const (
	free     slotState = iota
	reserved           // no part of the index: being written, or only read to its end
	inSmall
	inMain
)

const (
	unit     = 64
	slotSize = int64(unsafe.Sizeof(slot{}))
	classes  = 128
	// spread is how many times the limit the address space is where it costs nothing.
	spread = 4
)

// size is what the slot takes of the limit.
func (s *slot) size() int64 { return int64(s.length)*unit + slotSize }

// A mapping is memory of the kernel's.
type mapping struct{ bytes []byte }

// mapMemory gets address space; pages come when they are written to. Huge pages
// would come where a small one was asked for, and stay.
var mapMemory = func(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err == nil {
		unix.Madvise(b, unix.MADV_NOHUGEPAGE) // a kernel without them refuses
	}
	return b, err
}

// width is how many times the limit the address space is: once where the kernel
// counts that against what the process, or all of them (vm.overcommit_memory 2),
// may have. The heap needs some of it, too.
func width() int64 {
	for _, resource := range [...]int{unix.RLIMIT_AS, unix.RLIMIT_DATA} {
		var most unix.Rlimit
		if err := unix.Getrlimit(resource, &most); err == nil && most.Cur != unix.RLIM_INFINITY {
			return 1
		}
	}
	if b, err := os.ReadFile("/proc/sys/vm/overcommit_memory"); err == nil && strings.TrimSpace(string(b)) == "2" {
		return 1
	}
	return spread
}

// newArena makes an arena that takes at most limit bytes. It returns extra bytes of
// the same memory for others. Where the kernel gives no address space the memory is
// the heap's.
func newArena(limit, extra int64) (a arena, others []byte) {
	a = arena{page: int64(os.Getpagesize()), limit: limit}
	slots := limit/slotSize + 2
	for wide := width(); a.memory == nil; wide /= 2 {
		room := min(roundUp(limit*max(wide, 1)+1, a.page), 1<<32*unit-a.page)
		fixed := roundUp(slots*slotSize+extra+room/a.page, a.page)
		if wide == 0 {
			a.memory = &mapping{make([]byte, fixed+room)}
		} else if b, err := mapMemory(int(fixed + room)); err == nil {
			a.memory = &mapping{b}
			runtime.AddCleanup(a.memory, func(b []byte) { unix.Munmap(b) }, b)
		}
		if a.memory != nil {
			a.data = a.memory.bytes[fixed:]
		}
	}
	rest := a.memory.bytes
	a.slots, rest = carve[slot](rest, slots)
	others, rest = rest[:extra:extra], rest[extra:]
	a.resident, _ = carve[bool](rest, int64(len(a.data))/a.page)
	i := a.newSlot()
	a.slots[i].length = uint32(int64(len(a.data)) / unit)
	a.list(i)
	return a, others
}

// carve makes n values of bytes that are zero, and returns the rest.
func carve[T any](b []byte, n int64) (values []T, rest []byte) {
	values = unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
	return values, b[uintptr(n)*unsafe.Sizeof(*new(T)):]
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// taken is what counts against the limit.
func (a *arena) taken() int64 { return a.held + int64(a.made)*slotSize }

// bytes are the first n of a slot's memory. Nobody can append into what follows.
func (a *arena) bytes(i uint32, n int64) []byte {
	start := int64(a.slots[i].start) * unit
	return a.data[start : start+n : start+n]
}

// find returns free memory of at least n units, or none: of its own class the
// first that is long enough, else any of the next class.
func (a *arena) find(n uint32) uint32 {
	const looks = 8
	c := class(n)
	for i, seen := a.free[c], 0; i != 0 && seen < looks; i, seen = a.slots[i].next, seen+1 {
		if a.slots[i].length >= n {
			return i
		}
	}
	for c++; c < classes; c = (c/64 + 1) * 64 {
		if word := a.occupied[c/64] >> (c % 64); word != 0 {
			return a.free[c+bits.TrailingZeros64(word)]
		}
	}
	return 0
}

// class puts lengths into classes, four to each doubling.
func class(n uint32) int {
	if n < 4 {
		return int(n)
	}
	log := bits.Len32(n) - 1
	return 4*log + int(n>>(log-2)&3)
}

// cost is what taken grows by if n units of a free slot are used.
func (a *arena) cost(i, n uint32) (bytes int64) {
	first, end := a.pages(a.slots[i].start, n)
	for p := first; p < end; p++ {
		if !a.resident[p] {
			bytes += a.page
		}
	}
	if a.spare == 0 && n < a.slots[i].length {
		bytes += slotSize // for the rest of the slot
	}
	return bytes
}

// pages are those that n units lie on, be it in part.
func (a *arena) pages(start, n uint32) (first, end int64) {
	return int64(start) * unit / a.page, (int64(start+n)*unit + a.page - 1) / a.page
}

// take makes a free slot a reserved one of n units.
func (a *arena) take(i, n uint32) {
	a.unlist(i)
	s := &a.slots[i]
	if rest := s.length - n; rest > 0 {
		j := a.newSlot()
		a.slots[j] = slot{start: s.start + n, length: rest, below: i, above: s.above}
		if s.above != 0 {
			a.slots[s.above].below = j
		}
		s.above, s.length = j, n
		a.list(j)
	}
	s.state = reserved
	first, end := a.pages(s.start, n)
	for p := first; p < end; p++ {
		if !a.resident[p] {
			a.resident[p] = true
			a.held += a.page
		}
	}
	a.top = max(a.top, end)
}

// release frees a slot that nobody refers to any more.
func (a *arena) release(i uint32) {
	s := &a.slots[i]
	if a.onFree != nil {
		a.onFree(a.bytes(i, int64(s.length)*unit))
	}
	if b := s.below; b != 0 && a.slots[b].state == free {
		a.unlist(b)
		a.join(b, i)
		i = b
	}
	if t := a.slots[i].above; t != 0 && a.slots[t].state == free {
		a.unlist(t)
		a.join(i, t)
	}
	a.list(i)
	a.loose = a.loose || int64(a.slots[i].length)*unit >= a.page
}

// join adds a slot to its neighbour below.
func (a *arena) join(i, above uint32) {
	s, t := &a.slots[i], &a.slots[above]
	s.length += t.length
	s.above = t.above
	if t.above != 0 {
		a.slots[t.above].below = i
	}
	*t = slot{next: a.spare}
	a.spare = above
}

// newSlot returns one that stands for nothing. There is one for each that the
// limit has room for.
func (a *arena) newSlot() uint32 {
	if i := a.spare; i != 0 {
		a.spare = a.slots[i].next
		return i
	}
	a.made++
	return a.made
}

// list makes a slot free memory.
func (a *arena) list(i uint32) {
	s := &a.slots[i]
	c := class(s.length)
	*s = slot{start: s.start, length: s.length, below: s.below, above: s.above, next: a.free[c]}
	if s.next != 0 {
		a.slots[s.next].prev = i
	}
	a.free[c] = i
	a.occupied[c/64] |= 1 << (c % 64)
}

func (a *arena) unlist(i uint32) {
	s := &a.slots[i]
	if s.next != 0 {
		a.slots[s.next].prev = s.prev
	}
	if s.prev != 0 {
		a.slots[s.prev].next = s.next
		return
	}
	c := class(s.length)
	if a.free[c] = s.next; s.next == 0 {
		a.occupied[c/64] &^= 1 << (c % 64)
	}
}

// shed gives pages under free memory back to the kernel until that many bytes
// are given, the largest stretches first, and none of the first n units of the
// slot but, which are about to be used. It returns how many bytes it gave.
func (a *arena) shed(bytes int64, but, n uint32) (given int64) {
	for c := classes - 1; c >= class(uint32(a.page/unit)) && given < bytes; c-- {
		for i := a.free[c]; i != 0 && given < bytes; i = a.slots[i].next {
			kept := uint32(0)
			if i == but {
				kept = n
			}
			given += a.unload(&a.slots[i], kept, bytes-given)
		}
	}
	a.loose = given >= bytes
	return given
}

// unload gives whole pages of a free slot back, but for its first units.
func (a *arena) unload(s *slot, kept uint32, bytes int64) (given int64) {
	p := roundUp(int64(s.start+kept)*unit, a.page) / a.page
	end := min(int64(s.start+s.length)*unit/a.page, a.top)
	for p < end && given < bytes {
		first := p
		for p < end && a.resident[p] && given < bytes {
			a.resident[p] = false
			given += a.page
			p++
		}
		if p > first {
			unix.Madvise(a.data[first*a.page:p*a.page], unix.MADV_DONTNEED)
		} else {
			p++
		}
	}
	a.held -= given
	return given
}
