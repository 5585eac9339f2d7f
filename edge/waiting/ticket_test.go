package waiting

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anyTicket(t *rapid.T) ticket {
	return ticket{
		kind: rapid.SampledFrom([]kind{kindTicket, kindPass}).Draw(t, "kind"),
		id:   rapid.Uint64().Draw(t, "id"), at: rapid.Int64().Draw(t, "at"),
		hint: hint{
			node: rapid.Uint32().Draw(t, "node"), at: rapid.Int64().Draw(t, "written"),
			cursor: rapid.Int64().Draw(t, "cursor"), speed: rapid.Float32().Draw(t, "speed"),
		},
	}
}

func TestTicketsAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyTicket(t)
		key := rapid.IntRange(0, 1).Draw(t, "key") // the second is one of yesterday, or of tomorrow
		got, ok := parse(want.sign(&testKeys()[key], "app"), want.kind, testKeys(), "app")
		if !ok || got != want {
			t.Fatalf("got %+v %v, want %+v", got, ok, want)
		}
	})
}

func TestTicketsCannotBeMade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyTicket(t)
		text := want.sign(&testKeys()[0], "app")
		refused := func(what, text string, kind kind, keys [][32]byte, room string) {
			if _, ok := parse(text, kind, keys, room); ok {
				t.Fatalf("%s was taken: %s", what, text)
			}
		}
		other := kindPass
		if want.kind == kindPass {
			other = kindTicket
		}
		refused("a ticket of another kind", text, other, testKeys(), "app")
		refused("a ticket of another room", text, want.kind, testKeys(), "shop")
		refused("a ticket under other keys", text, want.kind, [][32]byte{{9}}, "app")
		refused("a ticket without keys", text, want.kind, nil, "app")
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		refused("a changed ticket", base64.RawURLEncoding.EncodeToString(raw), want.kind, testKeys(), "app")
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		last := strings.IndexByte(alphabet, text[len(text)-1])
		refused("another text of the same bytes", text[:len(text)-1]+alphabet[last^1:][:1], want.kind, testKeys(), "app")
		refused("a part of a ticket", text[:rapid.IntRange(0, len(text)-1).Draw(t, "length")], want.kind, testKeys(), "app")
		refused("a longer ticket", text+"A", want.kind, testKeys(), "app")
	})
}

// TestTicketsAreGoodForTheirTime asks what a room believes of tickets that it did
// sign.
func TestTicketsAreGoodForTheirTime(t *testing.T) {
	f := func(age time.Duration, good bool) {
		t.Helper()
		r, now := stillRoom()
		s := ticket{kind: kindTicket, id: 1, at: *now - age.Microseconds()}
		if g := r.Enter(Ask{Waits: true, Ticket: s.sign(&testKeys()[0], "app")}); (g.Standing == Called) != good {
			t.Errorf("a ticket of %v before stands %d", age, g.Standing)
		}
	}
	f(0, true)
	f(TicketLife, true)
	f(TicketLife+time.Second, false)
	f(-time.Minute, true) // of a node whose clock is ahead
	f(-clockAhead-time.Second, false)
	f(-1000*time.Hour, false)
}

func FuzzTicket(f *testing.F) {
	s := ticket{kind: kindTicket, id: 1, at: 1_790_000_000_000_000}
	f.Add(s.sign(&testKeys()[0], "app"))
	f.Add(s.sign(&[32]byte{7}, "app"))
	f.Add("")
	f.Add("AXQ")
	f.Fuzz(func(t *testing.T, text string) {
		r, _ := stillRoom()
		for _, k := range []kind{kindTicket, kindPass} {
			if got, ok := parse(text, k, testKeys(), "app"); ok {
				if got.sign(&testKeys()[0], "app") != text && got.sign(&testKeys()[1], "app") != text {
					t.Errorf("%q is a ticket, and not the text of it", text)
				}
			}
		}
		g := r.Enter(Ask{Waits: true, Ticket: text, Pass: text})
		if n := r.Wait(&g); n.Ticket == "" && g.Standing != Admitted {
			t.Errorf("%q is told %+v", text, n)
		}
	})
}
