package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"spillway/edge"
)

// What a folder should have left beside what is planned: enough for keys, the ledger
// and a day of logs, and so little that nothing can be written any more.
const (
	littleSpace = 1 << 30
	noSpace     = 16 << 20
)

// space says how much room a folder has, or the one that it will be made in.
func space(f Folder) Finding {
	what := f.What + " folder"
	at := f.Path
	_, err := os.Stat(at)
	for errors.Is(err, fs.ErrNotExist) && at != "/" && at != "." {
		at = filepath.Dir(at)
		_, err = os.Stat(at)
	}
	var s unix.Statfs_t
	if err == nil {
		err = unix.Statfs(at, &s)
	}
	if err != nil {
		return Warn.of(what, "run this as root", "%s does not show: %v", f.Path, err)
	}
	free := int64(s.Bavail) * s.Bsize
	switch missing := f.Size - used(f.Path) - free; {
	case free < noSpace:
		return Fail.of(what, "make room there, or move it", "%s has %s left", f.Path, size(free))
	case s.Files > 0 && s.Ffree == 0:
		return Fail.of(what, "make room there, or move it", "%s has no inodes left", f.Path)
	case missing > 0:
		return Warn.of(what, "make room there, or lower the size that the configuration gives it",
			"%s is to reach %s, for which %s are missing", f.Path, size(f.Size), size(missing))
	case free < littleSpace:
		return Warn.of(what, "make room there, or move it", "%s has %s left", f.Path, size(free))
	}
	return ok(what, "%s has %s left", f.Path, size(free))
}

// pinned says whether the node keeps maps in the folder of admission.pin.
func (m machine) pinned(folder string) Finding {
	const what = "pinned maps"
	all, err := os.ReadDir(folder)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Warn.of(what, "run this as root", "%s does not show", folder)
	case m.process == 0 && (errors.Is(err, fs.ErrNotExist) || len(all) == 0):
		return ok(what, "none in %s, and the node does not run", folder)
	case len(all) == 0:
		return Warn.of(what, "see the node's log for the reason, and the README for what the service needs",
			"none in %s: a restart forgets what sources owe", folder)
	}
	return ok(what, "%d in %s", len(all), folder)
}

// used is what the files of a folder take, as far as this command may see them.
func used(folder string) (bytes int64) {
	_ = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := entry.Info(); err == nil && entry.Type().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// renewBy is when a certificate of 90 days should have been renewed.
const renewBy = 14 * 24 * time.Hour

// certificate says until when a file is good: until the first of its certificates
// expires, for browsers want the whole chain.
func certificate(file string, now time.Time) Finding {
	what := "certificate " + file
	data, err := os.ReadFile(file)
	if err != nil {
		return Warn.of(what, "run this as root, or mend tls.cert", "%v", err)
	}
	var ends time.Time
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && (ends.IsZero() || c.NotAfter.Before(ends)) {
			ends = c.NotAfter
		}
	}
	day := ends.UTC().Format(time.DateOnly)
	switch left := ends.Sub(now); {
	case ends.IsZero():
		return Fail.of(what, "name a PEM file that holds -----BEGIN CERTIFICATE-----", "there is no certificate in it")
	case left <= 0:
		return Fail.of(what, "renew it; the node takes the new file by itself", "expired on %s", day)
	case left < renewBy:
		return Warn.of(what, "renew it now; the node takes the new file by itself", "expires on %s", day)
	}
	return ok(what, "good until %s", day)
}

// signing says which certificates cost each new visitor an RSA signature. What does not
// load is complained of elsewhere.
func signing(files []string) (all []Finding) {
	var leaves []*x509.Certificate
	from := map[*x509.Certificate]string{}
	for _, file := range files {
		data, _ := os.ReadFile(file)
		block, _ := pem.Decode(data)
		if block == nil {
			continue
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		leaves, from[leaf] = append(leaves, leaf), file
	}
	for _, leaf := range edge.ShownRSA(leaves) {
		all = append(all, Warn.of("key of "+from[leaf],
			"get a certificate with an ECDSA P-256 key, and list this one beside it if old clients need it", "RSA: %s", edge.RSACost))
	}
	return all
}
