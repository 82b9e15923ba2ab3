package pkcs11

import (
	"errors"
	"fmt"

	"github.com/keyside/keyside/plugins/driver"
)

// class says how the driver recovers from a return value.
type class uint8

const (
	never          class = iota // the call was wrong, or repeating it does not help
	badData                     // the caller's data is invalid
	freshSession                // the session is unusable: use another one
	findAgain                   // a handle is stale: load the key or find the object again
	loginAgain                  // the token lost the login
	makeRoom                    // the device is full: evict live keys
	busy                        // the token has no free session
	unclear                     // cause unknown: run a canary to decide
	replaceProcess              // the module or token no longer works in this process
)

// callError reports a C function that did not return CKR_OK.
type callError struct {
	rv       uint
	function string
}

func (e *callError) Error() string { return e.name() + " from " + e.function }

// name returns the name of the return value in the standard.
func (e *callError) name() string {
	if c, ok := returnValues[e.rv]; ok {
		return c.name
	}
	return fmt.Sprintf("CKR_0x%08X", e.rv)
}

func (e *callError) class() class {
	if c, ok := returnValues[e.rv]; ok {
		return c.class
	}
	return unclear // a vendor's own code
}

// deviceError is an error of the module or token. It names the C function that its %w operand reports.
func deviceError(retry driver.Retry, format string, args ...any) *driver.Error {
	e := driver.Errorf(driver.Device, format, args...)
	e.Retry = retry
	var ce *callError
	if errors.As(e, &ce) {
		e.CKR, e.Function = ce.name(), ce.function
	}
	return e
}

type returnValue struct {
	name  string
	class class
}

// returnValues has the codes of PKCS#11 v2.40, and those of v3.0 that a v2.40 function may return.
var returnValues = map[uint]returnValue{
	0x001:      {"CKR_CANCEL", freshSession},
	0x002:      {"CKR_HOST_MEMORY", unclear},
	0x003:      {"CKR_SLOT_ID_INVALID", replaceProcess},
	0x005:      {"CKR_GENERAL_ERROR", unclear},
	0x006:      {"CKR_FUNCTION_FAILED", unclear},
	0x007:      {"CKR_ARGUMENTS_BAD", never},
	0x008:      {"CKR_NO_EVENT", never},
	0x009:      {"CKR_NEED_TO_CREATE_THREADS", replaceProcess},
	0x00A:      {"CKR_CANT_LOCK", replaceProcess},
	0x010:      {"CKR_ATTRIBUTE_READ_ONLY", never},
	0x011:      {"CKR_ATTRIBUTE_SENSITIVE", never},
	0x012:      {"CKR_ATTRIBUTE_TYPE_INVALID", never},
	0x013:      {"CKR_ATTRIBUTE_VALUE_INVALID", never},
	0x01B:      {"CKR_ACTION_PROHIBITED", never},
	0x020:      {"CKR_DATA_INVALID", badData},
	0x021:      {"CKR_DATA_LEN_RANGE", badData},
	0x030:      {"CKR_DEVICE_ERROR", replaceProcess},
	0x031:      {"CKR_DEVICE_MEMORY", makeRoom},
	0x032:      {"CKR_DEVICE_REMOVED", replaceProcess},
	0x040:      {"CKR_ENCRYPTED_DATA_INVALID", badData},
	0x041:      {"CKR_ENCRYPTED_DATA_LEN_RANGE", badData},
	0x042:      {"CKR_AEAD_DECRYPT_FAILED", badData},
	0x050:      {"CKR_FUNCTION_CANCELED", freshSession},
	0x051:      {"CKR_FUNCTION_NOT_PARALLEL", never},
	0x054:      {"CKR_FUNCTION_NOT_SUPPORTED", never},
	0x060:      {"CKR_KEY_HANDLE_INVALID", findAgain},
	0x062:      {"CKR_KEY_SIZE_RANGE", never},
	0x063:      {"CKR_KEY_TYPE_INCONSISTENT", never},
	0x064:      {"CKR_KEY_NOT_NEEDED", never},
	0x065:      {"CKR_KEY_CHANGED", findAgain},
	0x066:      {"CKR_KEY_NEEDED", findAgain},
	0x067:      {"CKR_KEY_INDIGESTIBLE", never},
	0x068:      {"CKR_KEY_FUNCTION_NOT_PERMITTED", never},
	0x069:      {"CKR_KEY_NOT_WRAPPABLE", never},
	0x06A:      {"CKR_KEY_UNEXTRACTABLE", never},
	0x070:      {"CKR_MECHANISM_INVALID", never},
	0x071:      {"CKR_MECHANISM_PARAM_INVALID", never},
	0x082:      {"CKR_OBJECT_HANDLE_INVALID", findAgain},
	0x090:      {"CKR_OPERATION_ACTIVE", freshSession},
	0x091:      {"CKR_OPERATION_NOT_INITIALIZED", freshSession},
	0x0A0:      {"CKR_PIN_INCORRECT", never},
	0x0A1:      {"CKR_PIN_INVALID", never},
	0x0A2:      {"CKR_PIN_LEN_RANGE", never},
	0x0A3:      {"CKR_PIN_EXPIRED", never},
	0x0A4:      {"CKR_PIN_LOCKED", never},
	0x0B0:      {"CKR_SESSION_CLOSED", freshSession},
	0x0B1:      {"CKR_SESSION_COUNT", busy},
	0x0B3:      {"CKR_SESSION_HANDLE_INVALID", freshSession},
	0x0B4:      {"CKR_SESSION_PARALLEL_NOT_SUPPORTED", never},
	0x0B5:      {"CKR_SESSION_READ_ONLY", never},
	0x0B6:      {"CKR_SESSION_EXISTS", never},
	0x0B7:      {"CKR_SESSION_READ_ONLY_EXISTS", never},
	0x0B8:      {"CKR_SESSION_READ_WRITE_SO_EXISTS", never},
	0x0C0:      {"CKR_SIGNATURE_INVALID", badData},
	0x0C1:      {"CKR_SIGNATURE_LEN_RANGE", badData},
	0x0D0:      {"CKR_TEMPLATE_INCOMPLETE", never},
	0x0D1:      {"CKR_TEMPLATE_INCONSISTENT", never},
	0x0E0:      {"CKR_TOKEN_NOT_PRESENT", replaceProcess},
	0x0E1:      {"CKR_TOKEN_NOT_RECOGNIZED", replaceProcess},
	0x0E2:      {"CKR_TOKEN_WRITE_PROTECTED", never},
	0x0F0:      {"CKR_UNWRAPPING_KEY_HANDLE_INVALID", findAgain},
	0x0F1:      {"CKR_UNWRAPPING_KEY_SIZE_RANGE", never},
	0x0F2:      {"CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", never},
	0x100:      {"CKR_USER_ALREADY_LOGGED_IN", never},
	0x101:      {"CKR_USER_NOT_LOGGED_IN", loginAgain},
	0x102:      {"CKR_USER_PIN_NOT_INITIALIZED", never},
	0x103:      {"CKR_USER_TYPE_INVALID", never},
	0x104:      {"CKR_USER_ANOTHER_ALREADY_LOGGED_IN", never},
	0x105:      {"CKR_USER_TOO_MANY_TYPES", never},
	0x110:      {"CKR_WRAPPED_KEY_INVALID", badData},
	0x112:      {"CKR_WRAPPED_KEY_LEN_RANGE", badData},
	0x113:      {"CKR_WRAPPING_KEY_HANDLE_INVALID", findAgain},
	0x114:      {"CKR_WRAPPING_KEY_SIZE_RANGE", never},
	0x115:      {"CKR_WRAPPING_KEY_TYPE_INCONSISTENT", never},
	0x120:      {"CKR_RANDOM_SEED_NOT_SUPPORTED", never},
	0x121:      {"CKR_RANDOM_NO_RNG", unclear},
	0x130:      {"CKR_DOMAIN_PARAMS_INVALID", never},
	0x140:      {"CKR_CURVE_NOT_SUPPORTED", never},
	0x150:      {"CKR_BUFFER_TOO_SMALL", freshSession},
	0x160:      {"CKR_SAVED_STATE_INVALID", never},
	0x170:      {"CKR_INFORMATION_SENSITIVE", never},
	0x180:      {"CKR_STATE_UNSAVEABLE", freshSession},
	0x190:      {"CKR_CRYPTOKI_NOT_INITIALIZED", replaceProcess},
	0x191:      {"CKR_CRYPTOKI_ALREADY_INITIALIZED", never},
	0x1A0:      {"CKR_MUTEX_BAD", replaceProcess},
	0x1A1:      {"CKR_MUTEX_NOT_LOCKED", replaceProcess},
	0x1B0:      {"CKR_NEW_PIN_MODE", never},
	0x1B1:      {"CKR_NEXT_OTP", never},
	0x1B5:      {"CKR_EXCEEDED_MAX_ITERATIONS", never},
	0x1B6:      {"CKR_FIPS_SELF_TEST_FAILED", replaceProcess},
	0x1B7:      {"CKR_LIBRARY_LOAD_FAILED", replaceProcess},
	0x1B8:      {"CKR_PIN_TOO_WEAK", never},
	0x1B9:      {"CKR_PUBLIC_KEY_INVALID", never},
	0x200:      {"CKR_FUNCTION_REJECTED", never},
	0x201:      {"CKR_TOKEN_RESOURCE_EXCEEDED", makeRoom},
	0x202:      {"CKR_OPERATION_CANCEL_FAILED", freshSession},
	0x203:      {"CKR_KEY_EXHAUSTED", never},
	0x80000000: {"CKR_VENDOR_DEFINED", unclear},
}

// isReturnValue reports whether a name is the standard's, or "CKR_0x" and 8 upper-case digits for a vendor's own code.
func isReturnValue(name string) bool {
	for _, c := range returnValues {
		if c.name == name {
			return true
		}
	}
	var code uint
	_, err := fmt.Sscanf(name, "CKR_0x%08X", &code)
	return err == nil && (&callError{rv: code}).name() == name
}
