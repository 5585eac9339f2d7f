// Package disk keeps objects on a disk, below a cache in memory: append-only
// segments in a folder, an index in memory, no fsync.
//
// # Form
//
// A segment is a file of 64 to 256 MiB. Records are appended to the newest by one
// goroutine, in the order in which they were asked for, so that all segments
// together are a log. A record is a header of 64 bytes with a checksum (CRC-32C),
// a meta part with another (the marks that the object can be purged by, a checksum
// for each 64 KiB of the body, the caller's head) and the body. There are records
// of objects, of a new head for the body of an older record, of deletes and of
// purges. What is later in the log counts. The index knows of each object 8 bytes
// of its key, its place and how often it was asked for.
//
// # Room
//
// When there is no room for another segment, or more than an object for each 2 KiB of
// the tier, the oldest is removed as a whole. Of its objects, those that were asked for
// most are appended again, a sixteenth of a segment at most. Removed segments that
// somebody still reads count as room taken, until the last reader leaves. So the files
// never take more than the configured size, and each byte is written 1.07 times plus
// the headers.
//
// # Deletes and purges
//
// Both work at once and are records, so that they hold after a restart. They need
// no look at what is older than them: it is before them in the log, and the log
// loses its oldest end first, so what a delete kills is gone before the delete is.
// A purge names marks, hashes of tags or of prefixes. An object is compared with
// the purges after it when it is asked for and before it is moved, so that a purge
// costs the same however many objects it hits.
//
// # Crashes
//
// What was written outlives the process, for the kernel has it. A last record that
// is not whole is cut off. A crash of the machine loses what the kernel had not
// written yet: objects, which is no harm, and deletes and purges, unless Sync has
// returned. A place in the log that cannot be followed may have been a delete, so
// all before it is removed. A body is never believed: each block is compared with
// its checksum before a byte of it is served, and what is damaged is deleted.
//
// # When it fails
//
// The tier fails open: Get misses, Put refuses, both at once, and nobody waits for
// a disk but who calls Sync or reads. A full disk makes the tier smaller; it tries
// to grow again after ten minutes. After any other error of writing nobody knows
// what is on the disk: all is removed, the log and State say so once, and the tier
// begins anew after half a minute. Another process that holds the folder is waited
// for.
//
// It does not choose what is worth keeping, knows nothing of HTTP, and does not
// send from the file (sendfile): every visitor has TLS, which needs the bytes in
// memory anyway, and they are compared with their checksums there.
package disk
