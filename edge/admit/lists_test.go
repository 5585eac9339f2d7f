package admit

import (
	"net/netip"
	"testing"
)

func TestParsePrefix(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		got, err := ParsePrefix(text)
		if err != nil || got.String() != want {
			t.Errorf("%s is %v, %v; want %s", text, got, err, want)
		}
	}
	f("203.0.113.7", "203.0.113.7/32")
	f("203.0.113.0/24", "203.0.113.0/24")
	f("2001:db8::1", "2001:db8::1/128")
	f("2001:db8::/56", "2001:db8::/56")
	f("::ffff:203.0.113.7", "203.0.113.7/32")
	f("::ffff:203.0.113.0/120", "203.0.113.0/24")
	f("0.0.0.0/0", "0.0.0.0/0")
	bad := func(text, want string) {
		t.Helper()
		if got, err := ParsePrefix(text); err == nil || err.Error() != want {
			t.Errorf("%s is %v, %v; want %s", text, got, err, want)
		}
	}
	bad("", `"" is neither an address nor a prefix; write 203.0.113.7 or 203.0.113.0/24`)
	bad("example.com", `"example.com" is neither an address nor a prefix; write 203.0.113.7 or 203.0.113.0/24`)
	bad("203.0.113.7/33", `"203.0.113.7/33" is neither an address nor a prefix; write 203.0.113.7 or 203.0.113.0/24`)
	bad("fe80::1%eth0", `"fe80::1%eth0" is neither an address nor a prefix; write 203.0.113.7 or 203.0.113.0/24`)
	bad("203.0.113.7/24", "203.0.113.7/24 has bits set behind its length; write 203.0.113.0/24")
}

func TestRulesOfConfig(t *testing.T) {
	c := Config{Allow: []string{"10.0.0.0/8", "nonsense"}, Deny: []string{"203.0.113.7"}}
	got := c.Rules()
	want := []Rule{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Allow: true}, {Prefix: netip.MustParsePrefix("203.0.113.7/32")}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the rules are %v, want %v", got, want)
	}
}
