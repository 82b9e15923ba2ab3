package pkcs11

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// library is a loaded and initialized module. Drivers of one process share it, because a module's state belongs to the process. It
// is never finalized: C_Finalize with calls in flight crashes some modules.
type library struct {
	ctx      *p11.Ctx
	list     functionList
	reserved string
	version  string // of the module, as it states it

	mu        sync.Mutex
	pinFailed map[string]bool // serial numbers of tokens that rejected the PIN
	lastIV    [driver.GCMIVSize]byte
}

// newIVs returns an error if the generator is stuck: at zeros, or at the IVs that it returned before.
func (l *library) newIVs(ivs []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := [driver.GCMIVSize]byte(ivs); first != l.lastIV {
		l.lastIV = first
		return nil
	}
	return driver.Errorf(driver.Device, "the module's random numbers repeat")
}

var loaded = struct {
	sync.Mutex
	libraries map[string]*library // by path
}{libraries: map[string]*library{}}

// loadLibrary returns the module of these settings. The first call loads it.
func loadLibrary(s *Settings, byPath bool) (*library, error) {
	loaded.Lock()
	defer loaded.Unlock()
	if l := loaded.libraries[s.Module]; l != nil {
		if l.reserved != s.Reserved {
			return nil, driver.Errorf(driver.InvalidArgument, "the module is already initialized with another reserved string")
		}
		return l, nil
	}
	file, err := checkModule(s.Module, s.ModuleSHA256)
	if err != nil {
		return nil, err
	}
	// The descriptor stays open, because miekg/pkcs11 opens the module again by this name.
	path := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	if byPath {
		path = s.Module
	}
	list, err := openModule(path)
	if err != nil {
		return nil, errors.Join(driver.Errorf(driver.Device, "load module %s: %w", s.Module, err), file.Close())
	}
	l := &library{ctx: p11.New(path), list: list, reserved: s.Reserved, pinFailed: map[string]bool{}}
	if l.ctx == nil {
		return nil, errors.Join(driver.Errorf(driver.Device, "load module %s a second time", s.Module), file.Close())
	}
	if err := l.initialize(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if info, err := l.ctx.GetInfo(); err == nil {
		l.version = fmt.Sprintf("%d.%d", info.LibraryVersion.Major, info.LibraryVersion.Minor)
	}
	loaded.libraries[s.Module] = l
	keepOpen = append(keepOpen, file)
	return l, nil
}

// keepOpen has the descriptors of loaded modules, so that the garbage collector does not close them.
var keepOpen []*os.File

func (l *library) initialize() error {
	var options []p11.InitializeOption
	if l.reserved != "" {
		// The string stays allocated: a module may keep the pointer.
		options = append(options, p11.InitializeWithReserved(cString(l.reserved)))
	}
	err := called(l.ctx.Initialize(options...), "C_Initialize")
	var ce *callError
	if err == nil || errors.As(err, &ce) && ce.rv == p11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
		return nil
	}
	return deviceError(0, "the module does not initialize: check its configuration and environment: %w", err)
}

// called returns an error of miekg/pkcs11 as the callError of the C function.
func called(err error, function string) error {
	var rv p11.Error
	if errors.As(err, &rv) {
		return &callError{rv: uint(rv), function: function}
	}
	return err
}

// checkModule opens the module's file. It refuses a file that users other than root and this user can change, and one whose
// checksum is not the pinned one.
func checkModule(path, pin string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "module: %w", err)
	}
	if err := checkFile(file, pin); err != nil {
		return nil, errors.Join(driver.Errorf(driver.InvalidArgument, "module %s: %w", path, err), file.Close())
	}
	return file, nil
}

// checkFile returns an error unless file is a regular file of root or this user that others cannot write, with the pinned
// SHA-256 if pin is not empty.
func checkFile(file *os.File, pin string) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("belongs to uid %d: it must belong to root or to this user", stat.Uid)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("writable by others (mode %04o): chmod go-w", info.Mode().Perm())
	case pin == "":
		return nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	want, err := hex.DecodeString(pin)
	if err != nil || subtle.ConstantTimeCompare(hash.Sum(nil), want) != 1 {
		return fmt.Errorf("checksum %x is not the pinned one", hash.Sum(nil))
	}
	return nil
}

// token is the slot of a token with the token's information.
type token struct {
	slot uint
	info p11.TokenInfo
}

// findToken finds the token by label and serial number. Slot numbers are not stable.
func (l *library) findToken(s *Settings) (token, error) {
	slots, err := l.ctx.GetSlotList(true)
	if err != nil {
		return token{}, called(err, "C_GetSlotList")
	}
	var found []token
	for _, slot := range slots {
		info, err := l.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // another token may be broken
		}
		if (s.Token == "" || info.Label == s.Token) && (s.Serial == "" || info.SerialNumber == s.Serial) {
			found = append(found, token{slot, info})
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return token{}, driver.Errorf(driver.Device, "no token with label %q and serial %q in %d slots: connect the HSM, or restore its backup", s.Token, s.Serial, len(slots))
	default:
		return token{}, driver.Errorf(driver.InvalidArgument, "%d tokens are labeled %q: set serial", len(found), s.Token)
	}
}
