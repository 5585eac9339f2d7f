package disk

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// FuzzHeader asks that whatever is taken for a header is one that is written so.
func FuzzHeader(f *testing.F) {
	for _, h := range []header{
		{kind: objectRecord, soft: true, marks: 2, sequence: 7, key: key(1), expires: 1 << 40, head: 100, body: 100_000, metaSum: 5},
		{kind: headRecord, key: key(2), body: 5, bodyAt: place{1, 64}},
		{kind: deleteRecord, sequence: 1, key: key(3)},
		{kind: purgeRecord, sequence: 1, marks: maxMarks},
	} {
		f.Add(h.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		if again := h.append(nil); string(again) != string(b[:headerBytes]) {
			t.Errorf("%+v is written as %x, not %x", h, again, b[:headerBytes])
		}
		if h.bytes() < headerBytes || h.metaBytes() < h.head {
			t.Errorf("%+v is of %d bytes", h, h.bytes())
		}
	})
}

// FuzzSegment opens a segment of any bytes behind its preamble. Records whose
// checksums were made right for them reach everything that a scan and a read do.
func FuzzSegment(f *testing.F) {
	x := opened(f, f.TempDir(), smallestTier)
	put(x, 0, 1, 100, 1, 2)
	put(x, 1, 2, 70<<10, 2)
	drain(f, x)
	o := x.Get(key(1))
	x.Update(Item{Key: key(1), Head: []byte("new")}, o.Version)
	o.Close()
	x.Delete(key(0))
	x.Purge(2)
	drain(f, x)
	data, err := os.ReadFile(segmentFiles(f, x.c.Path)[0])
	if err != nil {
		f.Fatal(err)
	}
	x.crash()
	f.Add(data[preambleBytes:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, records []byte) {
		folder := t.TempDir()
		records = append([]byte(nil), records...)
		for offset := 0; offset+headerBytes <= len(records); {
			h := resum(records[offset:])
			offset += int(align(h.bytes()))
		}
		file := append(make([]byte, preambleBytes), records...)
		copy(file, preamble)
		if err := os.WriteFile(filepath.Join(folder, segmentName(1)), file, 0o600); err != nil {
			t.Fatal(err)
		}
		x := New(Config{Path: folder, Size: smallestTier}, slog.New(slog.DiscardHandler))
		if err := x.open(context.Background()); err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			if o := x.Get(key(n)); o != nil {
				_, _ = o.WriteTo(io.Discard)
				o.Close()
			}
		}
		put(x, 5, 5, 200<<10)
		put(x, 6, 6, 200<<10)
		put(x, 7, 7, 200<<10)
		put(x, 8, 8, 200<<10) // the fuzzed segment is evicted
		drain(t, x)
		if read(t, x, 8) != 8 {
			t.Error("it does not go on")
		}
		x.crash()
	})
}

// resum makes the checksums right of a record that begins b, as far as it is
// there.
func resum(b []byte) header {
	binary.LittleEndian.PutUint32(b, magic)
	sum := func() {
		binary.LittleEndian.PutUint32(b[headerBytes-4:], crc32.Checksum(b[:headerBytes-4], castagnoli))
	}
	sum()
	h, err := parseHeader(b)
	if err != nil || h.bytes() > int64(len(b)) {
		return header{kind: deleteRecord}
	}
	m := meta(b[headerBytes : headerBytes+h.metaBytes()])
	if h.kind == objectRecord {
		copy(m.sums(&h), appendSums(nil, b[headerBytes+len(m):h.bytes()]))
	}
	binary.LittleEndian.PutUint32(b[56:], m.sum())
	sum()
	return h
}
