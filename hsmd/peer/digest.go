package peer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// Limits of the files that are read, and of the digests that are cached.
const (
	maxExecutable = 1 << 30 // bytes
	maxDigests    = 256
	settled       = 2 * time.Second // age of a file from which its ctime shows every change: file systems have coarse clocks
)

// digests caches the digests of executables.
var digests = digestCache{now: time.Now, known: map[version]*digest{}}

// digestCache caches digests of files by attributes that change with the content.
type digestCache struct {
	now   func() time.Time
	mu    sync.Mutex
	known map[version]*digest
}

// version identifies one content of a file.
type version struct {
	dev, ino    uint64
	size        int64
	ctime, ctns int64
}

// digest is computed by the first goroutine that needs it; the others wait for it.
type digest struct {
	once sync.Once
	sum  string
}

// of returns the SHA-256 of a file in hexadecimal digits, or "" if it cannot be read or changes meanwhile.
func (c *digestCache) of(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	v, err := versionOf(f)
	if err != nil {
		return ""
	}
	d := c.entry(v)
	d.once.Do(func() {
		sum := sha256.New()
		n, err := io.Copy(sum, io.LimitReader(f, v.size))
		after, statErr := versionOf(f)
		if err := errors.Join(err, statErr); err == nil && n == v.size && after == v {
			d.sum = hex.EncodeToString(sum.Sum(nil))
		}
		if d.sum == "" {
			c.forget(v)
		}
	})
	return d.sum
}

func versionOf(f *os.File) (v version, err error) {
	info, err := f.Stat()
	if err != nil {
		return v, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || st.Size > maxExecutable {
		return v, errors.New("not a file that is read")
	}
	return version{st.Dev, st.Ino, st.Size, int64(st.Ctim.Sec), int64(st.Ctim.Nsec)}, nil
}

// entry returns the cached digest of a version, or a new one.
func (c *digestCache) entry(v version) *digest {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.known[v]
	if d == nil {
		d = &digest{}
		if len(c.known) >= maxDigests {
			clear(c.known)
		}
		if c.now().Sub(time.Unix(v.ctime, v.ctns)) > settled {
			c.known[v] = d
		}
	}
	return d
}

func (c *digestCache) forget(v version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, v)
}
