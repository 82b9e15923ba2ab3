package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Each file of the log has a file of leaf hashes, 32 bytes per record. A checkpoint shows that a file was changed, the leaf
// hashes show which record. They prove nothing by themselves: a reader first compares them with a root. They can be computed
// again from intact records.
const leavesOfFile = "audit-%08d.leaves"

func leavesPath(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf(leavesOfFile, number))
}

// openLeaves opens the leaf hashes of the current file and truncates them to the acknowledged records.
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

// keepLeaves writes the leaf hashes of the current group.
func (l *Log) keepLeaves() error {
	_, err := l.leaves.WriteAt(l.hashed, l.leavesSize())
	return err
}

// eachLine calls fn with every line of r, without its newline; whole is false for a last line without one. The line is valid
// until fn returns.
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
