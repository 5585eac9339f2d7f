package cache

import (
	"strings"
	"time"
)

// httpTime reads an HTTP-date in one of the three forms of RFC 9110 section
// 5.6.7, and nothing that only resembles one: what cannot be read has expired (RFC
// 9111 section 5.3). The time package would take a fraction, one digit for an hour
// and any number of spaces. Letter case means nothing, and a zone other than GMT
// is an error (RFC 9111 section 4.2). Whether the weekday fits is not looked at.
func httpTime(s string, now time.Time) (time.Time, bool) {
	for _, read := range [...]func(*dateText, time.Time){fixDate, rfc850Date, asctimeDate} {
		d := dateText{rest: s}
		if read(&d, now); !d.broken && d.rest == "" {
			return d.time()
		}
	}
	return time.Time{}, false
}

// fixDate is the form that is written today: Sun, 06 Nov 1994 08:49:37 GMT.
func fixDate(d *dateText, _ time.Time) {
	d.name(shortDays[:])
	d.literal(", ")
	d.day = d.number(2)
	d.literal(" ")
	d.month = d.name(months[:])
	d.literal(" ")
	d.year = d.number(4)
	d.literal(" ")
	d.clock()
	d.literal(" GMT")
}

// rfc850Date is obsolete: Sunday, 06-Nov-94 08:49:37 GMT.
func rfc850Date(d *dateText, now time.Time) {
	d.name(longDays[:])
	d.literal(", ")
	d.day = d.number(2)
	d.literal("-")
	d.month = d.name(months[:])
	d.literal("-")
	d.year = fullYear(d.number(2), now.Year())
	d.literal(" ")
	d.clock()
	d.literal(" GMT")
}

// asctimeDate is obsolete: Sun Nov  6 08:49:37 1994.
func asctimeDate(d *dateText, _ time.Time) {
	d.name(shortDays[:])
	d.literal(" ")
	d.month = d.name(months[:])
	d.literal(" ")
	if strings.HasPrefix(d.rest, " ") {
		d.literal(" ")
		d.day = d.number(1)
	} else {
		d.day = d.number(2)
	}
	d.literal(" ")
	d.clock()
	d.literal(" ")
	d.year = d.number(4)
}

// fullYear is the year with these last two digits that is no more than 50 years
// ahead (RFC 9110 section 5.6.7).
func fullYear(digits, now int) int {
	year := now + 50
	return year - (year-digits)%100
}

// A dateText is a date while it is read, from left to right.
type dateText struct {
	rest                                   string
	broken                                 bool
	year, month, day, hour, minute, second int
}

var (
	shortDays = [...]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	longDays  = [...]string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	months    = [...]string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
)

// literal reads exactly this text, in any case.
func (d *dateText) literal(text string) {
	if len(d.rest) < len(text) || !strings.EqualFold(d.rest[:len(text)], text) {
		d.broken = true
		return
	}
	d.rest = d.rest[len(text):]
}

// name reads one of the names and returns its number, from one.
func (d *dateText) name(names []string) int {
	for i, name := range names {
		if len(d.rest) >= len(name) && strings.EqualFold(d.rest[:len(name)], name) {
			d.rest = d.rest[len(name):]
			return i + 1
		}
	}
	d.broken = true
	return 0
}

// number reads exactly so many digits.
func (d *dateText) number(digits int) (n int) {
	if len(d.rest) < digits {
		d.broken = true
		return 0
	}
	for _, c := range []byte(d.rest[:digits]) {
		d.broken = d.broken || c < '0' || c > '9'
		n = n*10 + int(c-'0')
	}
	d.rest = d.rest[digits:]
	return n
}

func (d *dateText) clock() {
	d.hour = d.number(2)
	d.literal(":")
	d.minute = d.number(2)
	d.literal(":")
	d.second = d.number(2)
}

// time returns the date, if there is such a day. A leap second counts as the
// second after it.
func (d *dateText) time() (time.Time, bool) {
	if d.hour > 23 || d.minute > 59 || d.second > 60 {
		return time.Time{}, false
	}
	midnight := time.Date(d.year, time.Month(d.month), d.day, 0, 0, 0, 0, time.UTC)
	if midnight.Day() != d.day {
		return time.Time{}, false
	}
	return midnight.Add(time.Duration(d.hour*3600+d.minute*60+d.second) * time.Second), true
}
