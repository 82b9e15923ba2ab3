package pkcs11

import (
	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/plugins/driver"
)

// secret is a PIN kept for later logins, in its own memory mapping that is neither swapped nor dumped.
type secret []byte

func keepSecret(b []byte) (secret, error) {
	if len(b) == 0 {
		return nil, driver.Errorf(driver.InvalidArgument, "no pin: the driver needs a credential")
	}
	m, err := unix.Mmap(-1, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "keep the pin: %w", err)
	}
	_ = unix.Mlock(m) // best effort: the limit on locked memory may be 0
	_ = unix.Madvise(m, unix.MADV_DONTDUMP)
	copy(m, b)
	return m, nil
}

func (s *secret) wipe() {
	if *s != nil {
		clear(*s)
		_ = unix.Munmap(*s)
		*s = nil
	}
}
