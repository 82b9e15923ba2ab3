package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Beside each file of the log is one with the leaf hashes of its records, 32 bytes each. A checkpoint says that something in a
// file was changed, these say which record. They prove nothing by themselves: who reads them holds them to a root first, and
// they can be made anew from what has the right root.
const leavesOfFile = "audit-%08d.leaves"

func leavesPath(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf(leavesOfFile, number))
}

// openLeaves opens the leaf hashes of the file that is written, and cuts them to what is acknowledged.
func (l *Log) openLeaves() error {
	if l.leaves != nil {
		_ = l.leaves.Close()
		l.leaves = nil
	}
	f, err := os.OpenFile(leavesPath(l.opts.Dir, l.number), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.leaves = f
	return f.Truncate(l.leavesSize())
}

func (l *Log) leavesSize() int64 { return int64(l.tree.size()-l.start.size()) * hashSize }

// keepLeaves writes the leaf hashes of the group that is being written.
func (l *Log) keepLeaves() error {
	_, err := l.leaves.WriteAt(l.hashed, l.leavesSize())
	return err
}

// eachLine calls fn with every line of r, without its newline; whole is false for the last one if it has none. The line is
// fn's until it returns.
func eachLine(r io.Reader, fn func(line []byte, whole bool) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var long []byte
	for {
		part, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, part...)
			continue
		}
		if err != nil && err != io.EOF {
			return err
		}
		line := part
		if len(long) > 0 {
			long = append(long, part...)
			line = long
		}
		if len(line) > 0 {
			whole := line[len(line)-1] == '\n'
			if whole {
				line = line[:len(line)-1]
			}
			if e := fn(line, whole); e != nil {
				return e
			}
		}
		if err == io.EOF {
			return nil
		}
		long = long[:0]
	}
}
