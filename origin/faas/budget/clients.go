package budget

import "hash/maphash"

// Four rows of 2048 sums know a client's spending to about e/2048 of what all
// have spent, 0.13 %, in 64 KiB however many clients there are. Not a knob.
const (
	rows    = 4
	columns = 2048 // 11 bits of the hash a row
)

// clients is a count-min sketch of what each client has spent in a period. It
// may take a client for a little more than it has spent, when all its sums are
// shared, and never for less: a heavy client cannot be forgotten, as an evicted
// entry of a map would be. Being linear, it lets a charge be taken back.
type clients struct {
	seed  maphash.Seed // secret, so that nobody can choose whose sums to share
	epoch uint64       // counts the clearings, so that an old charge is known as such
	sums  [rows][columns]float64
}

func newClients() *clients { return &clients{seed: maphash.MakeSeed()} }

func (c *clients) clear() {
	c.sums = [rows][columns]float64{}
	c.epoch++
}

func (c *clients) hash(client string) uint64 { return maphash.String(c.seed, client) }

func (c *clients) spent(hash uint64) float64 {
	least := c.sums[0][hash%columns]
	for row := 1; row < rows; row++ {
		least = min(least, c.sums[row][hash>>(11*row)%columns])
	}
	return least
}

func (c *clients) add(hash uint64, amount float64) {
	for row := range rows {
		c.sums[row][hash>>(11*row)%columns] += amount
	}
}
