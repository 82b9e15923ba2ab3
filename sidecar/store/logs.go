package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// badger keeps what is not in its tables yet in logs, NUMBER.mem, and believes each as far as its entries are intact: what
// follows a damaged one it drops without a word, as if it had never been acknowledged. So a flipped bit would bring back
// what was revoked. These are looked through before badger does that; the format is that of badger 4 (memtable.go, value.go):
//
//	20 bytes of header, then entries, then zeros
//	entry: meta, user meta, lengths of key and value and expiry as uvarints, key, value, CRC-32C of all of it, big-endian
//
// An entry with the key "!badger!txn" ends a transaction. Each of ours is synced before the next begins, so what a crash
// leaves unfinished is one transaction, and what is missing of that are zeros: from somewhere to its end where the process was
// killed, in sectors of the disk where the power went.
const (
	logHeader  = 20
	sectorSize = 512
)

// endHeader and endKey are how the entry begins that ends a transaction: its key is 19 bytes, the last 8 of them the time.
const endHeader = 5

var endKey = []byte("!badger!txn")

var errLog = errors.New("is damaged behind what it was last synced to: restore the database from a backup")

// checkLogs refuses logs that hold more than can be read.
func checkLogs(dir string) error {
	logs, err := fs.Glob(os.DirFS(dir), "*.mem")
	if err != nil {
		return err
	}
	for _, name := range logs {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if at := damageIn(b); at >= 0 {
			return fmt.Errorf("%s, byte %d: the log %w", name, at, errLog)
		}
	}
	return nil
}

// damageIn returns where a log is damaged, -1 if it ends as a crash may leave it.
func damageIn(b []byte) int {
	at := min(logHeader, len(b))
	for {
		length, intact := logEntry(b[at:])
		if !intact {
			if unfinished(b, at, length) {
				return -1
			}
			return at
		}
		at += length
	}
}

// unfinished reports whether what follows the intact entries of a log, which end at a place, can be the transaction that a
// crash left. length is that of the entry there, 0 if there is none.
func unfinished(b []byte, at, length int) bool {
	first, n := transactionEnds(b[at:])
	switch {
	case n > 1:
		return false
	case n == 1:
		return lostSector(b, at, at+first)
	default:
		written := length > 0 && b[at+length-1] != 0 // to the last byte of its checksum
		return !written || lostSector(b, at, at+length)
	}
}

// logEntry returns the length of the entry that b begins with, 0 if it is too long for b or there is none, and whether it is
// as it was written.
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

// transactionEnds counts the intact ends of transactions, and says where the first begins.
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

// lostSector reports whether a sector of the disk between two places of a log was never written.
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
