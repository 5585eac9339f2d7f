package edge

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keysVersion is the version of the key file. A node refuses a file of another
// version, because to start with new keys would end every visitor's resumption
// without a word.
const keysVersion = 1

// ticketAge is how long a ticket key encrypts. It decrypts for as long again,
// so that a ticket is good for one to two days: what a stolen key opens.
const ticketAge = 24 * time.Hour

// keyFile is the form of keys.json.
type keyFile struct {
	Version int `json:"version"`
	// Token protects QUIC address tokens.
	Token []byte `json:"quic_token_key"`
	// StatelessReset authenticates resets (RFC 9000 section 10.3).
	StatelessReset []byte `json:"stateless_reset_key"`
	// ConnectionID is what the keys that tag connection IDs are derived from. Files
	// of versions before have none.
	ConnectionID []byte `json:"connection_id_key"`
	// Tickets are the keys of TLS session tickets. The first encrypts.
	Tickets []ticketKey `json:"tls_ticket_keys"`
}

// A ticketKey knows when it was made by the wall clock: the monotonic one stands
// still while a machine is suspended, and is not in the file.
type ticketKey struct {
	Key  []byte    `json:"key"`
	Made time.Time `json:"made"`
}

// keys are the node's secrets that should outlive a restart: without them every
// returning visitor pays a full handshake.
type keys struct {
	path string // empty keeps them in memory only

	mu     sync.Mutex
	file   keyFile
	secret []byte // that several nodes share; nil for keys of the node's own
	// unsaved tells that the file could not be written, and that a restart would
	// lose what is in memory.
	unsaved bool
}

// openKeys reads the keys in the folder, or makes them. An empty folder keeps
// them in memory.
func openKeys(folder string, now time.Time) (*keys, error) {
	k := &keys{}
	if folder != "" {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, fmt.Errorf("make state folder: %w: %s", err, stateRemedy)
		}
		k.path = filepath.Join(folder, "keys.json")
		if err := k.load(now); !errors.Is(err, fs.ErrNotExist) {
			return k, err
		}
	}
	k.file = keyFile{
		Version:        keysVersion,
		Token:          randomKey(),
		StatelessReset: randomKey(),
		ConnectionID:   randomKey(),
		Tickets:        []ticketKey{{Key: randomKey(), Made: now.UTC().Round(0)}},
	}
	return k, remedied(k.write())
}

// load reads the keys, and brings them up to date.
func (k *keys) load(now time.Time) error {
	f, err := k.open()
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	defer f.Close()
	if k.file, err = readKeys(f); err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	changed := k.file.due(now)
	if changed {
		k.file.renew(now)
	}
	if k.file.ConnectionID == nil {
		k.file.ConnectionID, changed = randomKey(), true
	}
	if !changed {
		return nil
	}
	return remedied(k.save())
}

// open returns the key file, locked until it is closed. During an upgrade two processes
// change it, and who did not see what the other has written would write over it.
func (k *keys) open() (*os.File, error) {
	for {
		f, err := os.Open(k.path)
		if err != nil {
			return nil, err
		}
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err == nil {
			var locked, now os.FileInfo
			if locked, err = f.Stat(); err == nil {
				now, err = os.Stat(k.path)
			}
			if err == nil && os.SameFile(locked, now) {
				return f, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		// Somebody has replaced it meanwhile.
	}
}

const stateRemedy = "name a folder in state that the node may write to, or none to keep its keys in memory"

// remedied says what to do about keys that could not be written at start.
func remedied(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", err, stateRemedy)
}

func randomKey() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

func readKeys(f *os.File) (file keyFile, err error) {
	info, err := f.Stat()
	if err != nil {
		return file, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return file, fmt.Errorf("%s has mode %04o and others may have read it: delete it, or chmod 600 it if nobody has", f.Name(), mode)
	}
	if err := json.NewDecoder(f).Decode(&file); err != nil {
		return file, fmt.Errorf("%s is damaged (%w): delete it to start with new keys", f.Name(), err)
	}
	if err := file.valid(); err != nil {
		return file, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return file, nil
}

// valid checks what was read, byte lengths included: a short key would be
// padded with zeros further on.
func (f *keyFile) valid() error {
	if f.Version != keysVersion {
		return fmt.Errorf("version %d is unknown, this program knows %d: delete the file to start with new keys", f.Version, keysVersion)
	}
	all := [][]byte{f.Token, f.StatelessReset}
	if f.ConnectionID != nil {
		all = append(all, f.ConnectionID)
	}
	for _, t := range f.Tickets {
		all = append(all, t.Key)
	}
	for _, key := range all {
		if len(key) != 32 {
			return errors.New("a key is not 32 bytes long: delete the file to start with new keys")
		}
	}
	if len(f.Tickets) == 0 {
		return errors.New("no ticket key: delete the file to start with new keys")
	}
	return nil
}

// write puts the keys in place as a whole, readable by the owner only.
func (k *keys) write() error {
	if k.path == "" {
		return nil
	}
	b, err := json.MarshalIndent(&k.file, "", "  ")
	if err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	if err := writeSecret(k.path, append(b, '\n')); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

// writeSecret replaces a file, so that a crash leaves the old or the new one.
func writeSecret(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// rotate makes a new ticket key when the present one is old enough, or takes the one
// that another process has made, and reports whether there is another. On an error the
// keys in memory are the new ones all the same, and the next call tries again to write
// them.
func (k *keys) rotate(now time.Time) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.secret != nil {
		return k.turn(now)
	}
	if !k.unsaved && !k.file.due(now) {
		return false, nil
	}
	changed := false
	if k.path != "" {
		if f, err := k.open(); err == nil { // else there is nobody's to take
			defer f.Close()
			changed = k.file.join(f)
		}
	}
	if k.file.due(now) {
		k.file.renew(now)
		changed = true
	}
	return changed, k.save()
}

// due reports whether it is time for another ticket key. One that was made under a
// clock that was ahead would encrypt until that time comes.
func (f *keyFile) due(now time.Time) bool { return now.Sub(f.Tickets[0].Made).Abs() >= ticketAge }

// renew puts a new ticket key first, and keeps the one before it unless the node slept
// for long.
func (f *keyFile) renew(now time.Time) {
	last := f.Tickets[0]
	f.Tickets = []ticketKey{{Key: randomKey(), Made: now.UTC().Round(0)}}
	if now.Sub(last.Made) < 2*ticketAge {
		f.Tickets = append(f.Tickets, last)
	}
}

// join takes the ticket keys that another process of this node has put into the file
// instead of its own, and reports whether there were any. If both have made one, its
// own is the last.
func (f *keyFile) join(on *os.File) bool {
	theirs, err := readKeys(on)
	if err != nil || !bytes.Equal(theirs.Token, f.Token) || f.knows(theirs.Tickets[0]) {
		return false
	}
	own := f.Tickets[0]
	if f.Tickets = theirs.Tickets; !f.knows(own) {
		f.Tickets = append(f.Tickets, own)
	}
	return true
}

func (f *keyFile) knows(key ticketKey) bool {
	return slices.ContainsFunc(f.Tickets, func(t ticketKey) bool { return bytes.Equal(t.Key, key.Key) })
}

func (k *keys) save() error {
	err := k.write()
	k.unsaved = err != nil
	return err
}

// held reports whether a restart would lose keys.
func (k *keys) held() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.unsaved
}

// tickets returns the ticket keys for one purpose, the encrypting one first.
// Keys of different purposes do not open each other's tickets. A purpose that
// names the limits of early data so makes old tickets void when they change:
// RFC 9114 section 7.2.4.2 forbids to accept early data under lower limits than
// the ticket was given for.
func (k *keys) tickets(purpose string) ([][32]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out [][32]byte
	for _, t := range k.file.Tickets {
		b, err := hkdf.Key(sha256.New, t.Key, nil, "spillway ticket "+purpose, 32)
		if err != nil {
			return nil, fmt.Errorf("derive ticket key: %w", err)
		}
		out = append(out, [32]byte(b))
	}
	return out, nil
}
