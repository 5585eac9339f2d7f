package edge_test

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block2 is a field section of HTTP/2, by an encoder that knows nothing yet.
func block2(fields []field) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range fields {
		e.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
	}
	return b.Bytes()
}

// plainly2 writes each field as a literal that is not to be indexed, without Huffman's
// code (RFC 7541 section 6.2.2).
func plainly2(fields []field) (block []byte) {
	for _, f := range fields {
		block = appendPrefixed(append(block, 0), 0, 7, f.name)
		block = appendPrefixed(block, 0, 7, f.value)
	}
	return block
}

// head2 is a request without a body.
func head2(id uint32, fields []field) []byte { return asked2(id, block2(fields), true) }

// asked2 writes a field section, in as many frames as it needs.
func asked2(id uint32, block []byte, end bool) []byte {
	return frames2(func(f *http2.Framer) {
		first := block[:min(len(block), 16<<10)]
		rest := block[len(first):]
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(rest) == 0, EndStream: end})
		for part := range slices.Chunk(rest, 16<<10) {
			rest = rest[len(part):]
			f.WriteContinuation(id, len(rest) == 0, part)
		}
	})
}

// seeds2 are frames that follow a visitor's preface.
func seeds2() (all [][]byte) {
	for _, name := range sortedVisitors() {
		all = append(all, head2(1, visitors[name]), asked2(1, plainly2(visitors[name]), true))
	}
	for _, fields := range unusual() {
		all = append(all, head2(1, fields), asked2(1, plainly2(fields), true))
	}
	hit := with(":path", "/plain/a")
	plain := asked2(1, plainly2(hit), true)
	one := func(write func(*http2.Framer)) []byte { return frames2(write) }
	more := func(write func(*http2.Framer)) { all = append(all, append(slices.Clone(plain), frames2(write)...)) }
	before := func(write func(*http2.Framer)) { all = append(all, append(frames2(write), plain...)) }
	all = append(all, nil, plain[:5], plain[:len(plain)-1], slices.Concat(plain, head2(3, with(":path", "/plain/page")), head2(5, with(":path", "/plain/large"))))
	all = append(all, slices.Concat(head2(3, hit), head2(1, hit)), slices.Concat(plain, plain), head2(2, hit), head2(0, hit), slices.Concat(head2(1, posted()), head2(3, hit)))

	// One encoder for two requests: the second is nothing but indexes.
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	var twice []byte
	for _, id := range []uint32{1, 3, 5} {
		b.Reset()
		for _, f := range visitors["chromium"] {
			e.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
		}
		twice = append(twice, asked2(id, b.Bytes(), true)...)
	}
	all = append(all, twice)
	// A request that is left to the library fills the table for one that is not, and the
	// other way round.
	b.Reset()
	e = hpack.NewEncoder(&b)
	var mixed []byte
	for i, path := range []string{"/plain/none", "/plain/a", "/nowhere", "/plain/page", "/plain/none"} {
		b.Reset()
		for _, f := range with(":path", path, "x-table", strings.Repeat("y", i), "x-table", "z") {
			e.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
		}
		mixed = append(mixed, asked2(uint32(2*i+1), b.Bytes(), true)...)
	}
	all = append(all, mixed)
	e.SetMaxDynamicTableSizeLimit(100)
	e.SetMaxDynamicTableSize(100)
	b.Reset()
	for _, f := range hit {
		e.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
	}
	all = append(all, slices.Concat(plain, asked2(3, b.Bytes(), true)), asked2(1, append([]byte{0x3f, 0xff, 0xff, 0x03}, block2(hit)...), true))
	for _, broken := range []string{"", "\x80", "\xff\xff\xff\xff\xff\xff", "\xbe", "\x82\x87\x84", "\x82\x87\x04\x08/plain/a\x01\x7f", "\x00\x85\xff\xff\xff\xff\xff\x00", "\x82\x86\x84\x41\x09edge.test"} {
		all = append(all, append(asked2(1, []byte(broken), true), head2(3, hit)...))
	}

	more(func(f *http2.Framer) { f.WriteRSTStream(1, http2.ErrCodeCancel) })
	more(func(f *http2.Framer) { f.WriteData(1, true, []byte("x")) })
	more(func(f *http2.Framer) { f.WriteData(3, true, []byte("x")) })
	more(func(f *http2.Framer) { f.WriteWindowUpdate(1, 1) })
	more(func(f *http2.Framer) { f.WriteWindowUpdate(1, 1<<31-1) })
	more(func(f *http2.Framer) { f.WriteWindowUpdate(0, 1<<31-1) })
	more(func(f *http2.Framer) { f.WriteWindowUpdate(0, 0) })
	more(func(f *http2.Framer) { f.WritePing(false, [8]byte{}) })
	more(func(f *http2.Framer) { f.WritePing(true, [8]byte{}) })
	more(func(f *http2.Framer) { f.WriteSettingsAck() })
	more(func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}) })
	more(func(f *http2.Framer) { f.WriteGoAway(0, http2.ErrCodeNo, nil) })
	more(func(f *http2.Framer) {
		f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: block2(hit), EndHeaders: true})
	})
	more(func(f *http2.Framer) { f.WriteRawFrame(0xfa, 0x5, 3, []byte("unknown")) })
	more(func(f *http2.Framer) { f.WriteContinuation(1, true, nil) })
	before(func(f *http2.Framer) { f.WriteRawFrame(0xfa, 0x5, 0, []byte("unknown")) })
	before(func(f *http2.Framer) { f.WritePriority(1, http2.PriorityParam{StreamDep: 3, Weight: 9}) })
	before(func(f *http2.Framer) { f.WriteRawFrame(0x10, 0, 0, []byte("\x00\x00\x00\x01u=1")) }) // PRIORITY_UPDATE
	before(func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2}) })
	before(func(f *http2.Framer) {
		f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
	})
	before(func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20}) })
	before(func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}) })
	before(func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 10}) })
	return append(all,
		one(func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block2(hit), EndHeaders: true, EndStream: true, PadLength: 7, Priority: http2.PriorityParam{StreamDep: 0, Weight: 5}})
		}),
		one(func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block2(hit), EndHeaders: true, EndStream: true, Priority: http2.PriorityParam{StreamDep: 1}})
		}),
		one(func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block2(hit)[:3], EndStream: true})
			f.WriteContinuation(1, true, block2(hit)[3:])
		}),
		one(func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block2(hit)[:3], EndStream: true})
			f.WritePing(false, [8]byte{})
		}),
		append(asked2(1, block2(hit), false), one(func(f *http2.Framer) { f.WriteData(1, true, nil) })...),
		append(asked2(1, block2(hit), false), one(func(f *http2.Framer) { f.WriteData(1, true, []byte("abc")) })...),
		append(asked2(1, block2(posted("content-length", "3")), false), one(func(f *http2.Framer) { f.WriteData(1, true, []byte("abc")) })...),
		append(asked2(1, block2(posted("content-length", "4")), false), one(func(f *http2.Framer) { f.WriteData(1, true, []byte("abc")) })...),
		append(asked2(1, block2(hit), false), asked2(1, block2([]field{{"x", "trailer"}}), true)...),
		asked2(1, block2(hit), false),
		[]byte("\x00\x00\x05\x01\x2d\x00\x00\x00\x01\x00\x00\x00\x00\x00"), // priority without a section
		[]byte("\x00\x00\x01\x01\x0d\x00\x00\x00\x01\x05"),                 // padding longer than its frame
		[]byte("\xff\xff\xff\x00\x00\x00\x00\x00\x01"),                     // a frame of 16 MiB
	)
}
