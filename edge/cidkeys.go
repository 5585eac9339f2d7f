package edge

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"
)

// tagKeyLife is how long a key tags new connection IDs. It is believed for almost as
// long again, and a connection that lives longer than that is not recognised any
// more. So it is long: who knows a key can forge a lane, and read nothing.
const tagKeyLife = 7 * 24 * time.Hour

// tagKeyLead is how long a key is known before it tags: to the kernel, which hears of
// it within a second, and to nodes whose clock is behind.
const tagKeyLead = time.Hour

// ConnectionIDKeys are the keys that tag connection IDs, so that the kernel tells
// packets of connections from others without a table. They change by the week, and are
// the same after a restart, in a successor, and on all nodes of one tls.secret.
type ConnectionIDKeys struct {
	master []byte
	tagKeys
}

// tagKeys are two keys, and which of them makes new connection IDs.
type tagKeys struct {
	keys  [2][16]byte
	epoch int
}

// ErrOtherKeys means that state or tls.secret have changed, so that packets of the
// connections of the process before would not be known.
var ErrOtherKeys = errors.New("the keys of connection IDs are not those of the process before, because state or tls.secret has changed; " +
	"restart the node instead")

// OpenConnectionIDKeys reads or makes what the keys are derived from. A secret that
// changes by a reload changes them at the next start only. Before is the Master of the
// process that this one succeeds beside it, or nil: without a folder or a secret it is
// gone on with, and all else that differs is ErrOtherKeys.
func OpenConnectionIDKeys(c Config, before []byte) (*ConnectionIDKeys, error) {
	now := time.Now()
	k, err := loadKeys(c, now)
	if err != nil {
		return nil, err
	}
	switch {
	case before == nil:
	case c.State == "" && c.TLS.Secret == "":
		k.file.ConnectionID = before
	case subtle.ConstantTimeCompare(before, k.file.ConnectionID) == 0:
		return nil, ErrOtherKeys
	}
	ids := &ConnectionIDKeys{master: k.file.ConnectionID}
	ids.tagKeys, err = ids.at(now)
	return ids, err
}

// Master returns what the keys are derived from, for a successor. It is a secret.
func (k *ConnectionIDKeys) Master() []byte { return k.master }

// Keys returns both keys, and the epoch, 0 or 1, whose key makes new IDs. It must not
// be called during Run.
func (k *ConnectionIDKeys) Keys() (keys [2][16]byte, epoch int) { return k.keys, k.epoch }

// Run tells of each change until ctx ends.
func (k *ConnectionIDKeys) Run(ctx context.Context, set func(keys [2][16]byte, epoch int)) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		want, err := k.at(time.Now())
		if err != nil {
			return err
		}
		if next := k.step(want); next != k.tagKeys {
			k.tagKeys = next
			set(next.keys, next.epoch)
		}
	}
}

// at returns the keys of a moment: that of the week, and that of the week before or,
// in the last hour, of the next one.
func (k *ConnectionIDKeys) at(now time.Time) (tagKeys, error) {
	week := func(t time.Time) int64 { return t.Unix() / int64(tagKeyLife/time.Second) }
	this := week(now)
	other := this - 1
	if next := week(now.Add(tagKeyLead)); next != this {
		other = next
	}
	t := tagKeys{epoch: int(this & 1)}
	for _, w := range []int64{this, other} {
		key, err := hkdf.Key(sha256.New, k.master, nil, fmt.Sprintf("spillway connection ID %d", w), len(t.keys[0]))
		if err != nil {
			return tagKeys{}, fmt.Errorf("derive connection ID key: %w", err)
		}
		t.keys[w&1] = [16]byte(key)
	}
	return t, nil
}

// step returns what may follow on the way to want. A key makes IDs only if it was
// known before, because the kernel must know it first. A clock that goes on arrives
// in one step; one that jumps by weeks, in four at most.
func (t tagKeys) step(want tagKeys) tagKeys {
	if t.keys[want.epoch] == want.keys[want.epoch] {
		return want
	}
	other := 1 - t.epoch
	if t.keys[other] == want.keys[other] {
		t.epoch = other
	}
	t.keys[other] = want.keys[other]
	return t
}
