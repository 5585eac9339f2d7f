package unit

import "testing"

func TestBytes(t *testing.T) {
	f := func(in string, want int64, shown string) {
		t.Helper()
		var b Bytes
		if err := b.Set(in); err != nil {
			t.Fatalf("Set(%q): %v", in, err)
		}
		if int64(b) != want || b.String() != shown {
			t.Fatalf("Set(%q) = %d, %q; want %d, %q", in, int64(b), b.String(), want, shown)
		}
	}
	f("0", 0, "0B")
	f("16KiB", 16384, "16KiB")
	f("1.5KiB", 1536, "1536B")
	f("2MB", 2_000_000, "2000000B")
	f("3GiB", 3<<30, "3GiB")
	f("7B", 7, "7B")
}

func TestBytesRefused(t *testing.T) {
	for _, in := range []string{"", "16", "KiB", "-1KiB", "NaNKiB", "+InfB", "1e30GiB", "16 k"} {
		var b Bytes
		if err := b.Set(in); err == nil {
			t.Errorf("Set(%q) = %d, want an error", in, int64(b))
		}
	}
}

func TestShare(t *testing.T) {
	f := func(in string, want float64, shown string) {
		t.Helper()
		var v Share
		if err := v.Set(in); err != nil {
			t.Fatalf("Set(%q): %v", in, err)
		}
		if float64(v) != want || v.String() != shown {
			t.Fatalf("Set(%q) = %v, %q; want %v, %q", in, float64(v), v.String(), want, shown)
		}
	}
	f("5%", 0.05, "5%")
	f("0.25", 0.25, "25%")
	f("0", 0, "0%")
	f("100%", 1, "100%")
	for _, in := range []string{"", "%", "-1%", "101%", "2", "NaN", "many"} {
		var v Share
		if err := v.Set(in); err == nil {
			t.Errorf("Set(%q) = %v, want an error", in, float64(v))
		}
	}
}
