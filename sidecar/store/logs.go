package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// badger stores entries that are not yet in its tables in logs, NUMBER.mem, and reads each up to the first corrupt entry. It
// silently drops the entries after that, although they were acknowledged. So a flipped bit would restore a revoked grant.
// Therefore the logs are checked before badger reads them. Their format is that of badger 4 (memtable.go, value.go):
//
//	20 bytes of header, then entries, then zeros
//	entry: meta, user meta, lengths of key and value and expiry as uvarints, key, value, CRC-32C of all of it, big-endian
//
// An entry with the key "!badger!txn" ends a transaction. Each of ours is synced before the next begins, so a crash can
// interrupt only one transaction. Its missing bytes are zeros: up to its end if the process was killed, in whole disk sectors
// after a power failure.
const (
	logHeader  = 20
	sectorSize = 512
)

// endHeader and endKey are how the entry begins that ends a transaction: its key is 19 bytes, the last 8 of them the time.
const endHeader = 5

var endKey = []byte("!badger!txn")

var errLog = errors.New("is corrupt, not just cut off by a crash")

// damageIn returns the offset at which a log is corrupt, -1 if it ends as a crash may leave it.
func damageIn(b []byte) int {
	begun, end, next := logEnd(b)
	if unfinished(b, begun, end, next) {
		return -1
	}
	return end
}

// logEnd returns the offset behind the last complete transaction of a log, that behind its last intact entry, and the length
// of the entry that follows, 0 if there is none.
func logEnd(b []byte) (begun, end, next int) {
	end = min(logHeader, len(b))
	for begun = end; ; {
		length, intact := logEntry(b[end:])
		if !intact {
			return begun, end, length
		}
		ends := bytes.HasPrefix(b[end+min(endHeader, length):], endKey)
		if end += length; ends {
			begun = end
		}
	}
}

// unfinished reports whether the bytes after the intact entries of a log, from an offset, can be the transaction that a
// crash interrupted. length is that of the entry there, 0 if there is none. The transaction begins at another offset, perhaps
// before: the sector in which its intact entries end was written.
func unfinished(b []byte, begun, at, length int) bool {
	from := at
	if begun < at {
		from = (at + sectorSize - 1) / sectorSize * sectorSize
	}
	first, n := transactionEnds(b[at:])
	switch {
	case n > 1:
		return false
	case n == 1:
		return lostSector(b, from, at+first)
	default:
		written := length > 0 && b[at+length-1] != 0 // to the last byte of its checksum
		return !written || lostSector(b, from, at+length)
	}
}

// logEntry returns the length of the entry at the start of b, 0 if it is too long for b or there is none, and whether it is
// intact.
func logEntry(b []byte) (length int, intact bool) {
	at := 2
	var sizes [3]uint64
	for i := range sizes {
		if at > len(b) {
			return 0, false
		}
		value, n := binary.Uvarint(b[at:])
		if n <= 0 {
			return 0, false
		}
		sizes[i], at = value, at+n
	}
	if sizes[0] == 0 || sizes[0] > uint64(len(b)) || sizes[1] > uint64(len(b)) {
		return 0, false
	}
	length = at + int(sizes[0]+sizes[1]) + crc32.Size
	if length > len(b) {
		return 0, false
	}
	body := b[:length-crc32.Size]
	return length, binary.BigEndian.Uint32(b[len(body):]) == crc32.Checksum(body, crcTable)
}

// transactionEnds counts the intact ends of transactions, and returns the offset of the first.
func transactionEnds(b []byte) (first, n int) {
	for at := 0; ; at += len(endKey) {
		i := bytes.Index(b[at:], endKey)
		if i < 0 {
			return first, n
		}
		at += i
		if at < endHeader {
			continue
		}
		if _, intact := logEntry(b[at-endHeader:]); intact {
			if n++; n == 1 {
				first = at - endHeader
			}
		}
	}
}

// lostSector reports whether a disk sector between two offsets of a log was never written.
func lostSector(b []byte, from, to int) bool {
	for from < to {
		end := min((from/sectorSize+1)*sectorSize, len(b))
		if len(bytes.Trim(b[from:end], "\x00")) == 0 {
			return true
		}
		from = end
	}
	return false
}
