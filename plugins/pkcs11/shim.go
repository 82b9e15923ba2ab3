package pkcs11

// The calls of operations, with one cgo call each and buffers of a known size. miekg/pkcs11 first asks for the length of every
// output, which is a second round trip to a network HSM, and fails on modules whose answer omits the tag.

/*
#cgo CFLAGS: -O2 -Wall
#cgo LDFLAGS: -ldl
#cgo noescape ks_random
#cgo nocallback ks_random
#cgo noescape ks_gcm
#cgo nocallback ks_gcm
#cgo noescape ks_operate
#cgo nocallback ks_operate
#cgo noescape ks_wrap
#cgo nocallback ks_wrap
#cgo noescape ks_unwrap
#cgo nocallback ks_unwrap
#cgo noescape ks_create
#cgo nocallback ks_create
#cgo noescape ks_ecdh
#cgo nocallback ks_ecdh
#cgo noescape ks_login
#cgo nocallback ks_login
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"unsafe"

	p11 "github.com/miekg/pkcs11"
)

// functionList is a module's CK_FUNCTION_LIST.
type functionList struct{ p unsafe.Pointer }

// handle is a CK_OBJECT_HANDLE or CK_SESSION_HANDLE.
type handle = uint

// openModule loads the module at path, unless it is loaded already, and returns its functions.
func openModule(path string) (functionList, error) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	msg := make([]byte, 256)
	p := C.ks_open(cpath, (*C.char)(unsafe.Pointer(&msg[0])), C.ks_ulong(len(msg)))
	if p == nil {
		return functionList{}, errors.New(C.GoString((*C.char)(unsafe.Pointer(&msg[0]))))
	}
	return functionList{p}, nil
}

func bytesOf(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }

func sizeOf(b []byte) C.ks_ulong { return C.ks_ulong(len(b)) }

var shimFunctions = map[C.ks_ulong]string{
	C.KS_LOGIN: "C_Login", C.KS_CREATE_OBJECT: "C_CreateObject", C.KS_ENCRYPT_INIT: "C_EncryptInit", C.KS_ENCRYPT: "C_Encrypt",
	C.KS_DECRYPT_INIT: "C_DecryptInit", C.KS_DECRYPT: "C_Decrypt", C.KS_SIGN_INIT: "C_SignInit", C.KS_SIGN: "C_Sign",
	C.KS_WRAP_KEY: "C_WrapKey", C.KS_UNWRAP_KEY: "C_UnwrapKey", C.KS_GENERATE_RANDOM: "C_GenerateRandom",
	C.KS_DERIVE_KEY: "C_DeriveKey", C.KS_GET_ATTRIBUTE_VALUE: "C_GetAttributeValue", C.KS_DESTROY_OBJECT: "C_DestroyObject",
}

func shimError(r C.ks_result) error {
	return &callError{rv: uint(r.rv), function: shimFunctions[r.function]}
}

// written returns the part of out that a call filled. It returns an error if the module reports more bytes than out has.
func written(r C.ks_result, out []byte) ([]byte, error) {
	if r.rv != 0 {
		clear(out) // may be secret: in a call of several functions, a later one can fail
		return nil, shimError(r)
	}
	if uint64(r.value) > uint64(len(out)) {
		clear(out)
		return nil, &callError{rv: p11.CKR_GENERAL_ERROR, function: shimFunctions[r.function]}
	}
	return out[:r.value], nil
}

// made returns the handle of the object that a call created.
func made(r C.ks_result) (handle, error) {
	if r.rv != 0 {
		return 0, shimError(r)
	}
	return handle(r.value), nil
}

func (f functionList) random(session handle, out []byte) error {
	if len(out) == 0 {
		return nil
	}
	if r := C.ks_random(f.p, C.ks_ulong(session), bytesOf(out), sizeOf(out)); r.rv != 0 {
		return shimError(r)
	}
	return nil
}

// seal encrypts in with AES-GCM into out, which has room for the tag. The HSM first fills the first fresh bytes of in with random
// bytes, in the same cgo call.
func (f functionList) seal(session, key handle, iv, aad, in []byte, fresh int, out []byte) ([]byte, error) {
	return written(C.ks_gcm(f.p, 0, C.ks_ulong(session), C.ks_ulong(key), bytesOf(iv), sizeOf(iv), bytesOf(aad), sizeOf(aad),
		bytesOf(in), sizeOf(in), C.ks_ulong(fresh), bytesOf(out), sizeOf(out)), out)
}

// open decrypts in with AES-GCM into out, which is as long as in, because some modules need room for the tag.
func (f functionList) open(session, key handle, iv, aad, in, out []byte) ([]byte, error) {
	return written(C.ks_gcm(f.p, 1, C.ks_ulong(session), C.ks_ulong(key), bytesOf(iv), sizeOf(iv), bytesOf(aad), sizeOf(aad),
		bytesOf(in), sizeOf(in), 0, bytesOf(out), sizeOf(out)), out)
}

// mechanism is a CK_MECHANISM whose parameter has no pointers.
type mechanism struct {
	id    uint
	param []byte
}

func (f functionList) sign(session handle, m mechanism, key handle, in, out []byte) ([]byte, error) {
	return f.operate(C.KS_SIGN_INIT, session, m, key, in, out)
}

func (f functionList) decrypt(session handle, m mechanism, key handle, in, out []byte) ([]byte, error) {
	return f.operate(C.KS_DECRYPT_INIT, session, m, key, in, out)
}

func (f functionList) operate(init C.int, session handle, m mechanism, key handle, in, out []byte) ([]byte, error) {
	return written(C.ks_operate(f.p, init, C.ks_ulong(session), C.ks_ulong(m.id), unsafe.Pointer(unsafe.SliceData(m.param)),
		sizeOf(m.param), C.ks_ulong(key), bytesOf(in), sizeOf(in), bytesOf(out), sizeOf(out)), out)
}

func (f functionList) wrap(session handle, mech uint, wrapping, key handle, out []byte) ([]byte, error) {
	return written(C.ks_wrap(f.p, C.ks_ulong(session), C.ks_ulong(mech), C.ks_ulong(wrapping), C.ks_ulong(key),
		bytesOf(out), sizeOf(out)), out)
}

func (f functionList) unwrap(session handle, m mechanism, key handle, wrapped []byte, template []*p11.Attribute) (handle, error) {
	flat := flatten(template)
	return made(C.ks_unwrap(f.p, C.ks_ulong(session), C.ks_ulong(m.id), unsafe.Pointer(unsafe.SliceData(m.param)), sizeOf(m.param),
		C.ks_ulong(key), bytesOf(wrapped), sizeOf(wrapped), (*C.ks_ulong)(unsafe.Pointer(unsafe.SliceData(flat))), C.ks_ulong(len(flat))))
}

// create creates an object. Unlike miekg's function, it leaves no copy of the template, which has key material, in C memory.
func (f functionList) create(session handle, template []*p11.Attribute) (handle, error) {
	flat := flatten(template)
	defer clear(flat)
	return made(C.ks_create(f.p, C.ks_ulong(session), (*C.ks_ulong)(unsafe.Pointer(unsafe.SliceData(flat))), C.ks_ulong(len(flat))))
}

// ecdh computes the shared secret with the point of a peer. The object of template exists only during the call.
func (f functionList) ecdh(session, key handle, point []byte, template []*p11.Attribute, out []byte) ([]byte, error) {
	flat := flatten(template)
	return written(C.ks_ecdh(f.p, C.ks_ulong(session), C.ks_ulong(key), bytesOf(point), sizeOf(point),
		(*C.ks_ulong)(unsafe.Pointer(unsafe.SliceData(flat))), C.ks_ulong(len(flat)), bytesOf(out), sizeOf(out)), out)
}

// login leaves no copy of the PIN in C memory either.
func (f functionList) login(session handle, pin []byte) error {
	if r := C.ks_login(f.p, C.ks_ulong(session), bytesOf(pin), sizeOf(pin)); r.rv != 0 {
		return shimError(r)
	}
	return nil
}

// flatten returns a template in the form that shim.h describes. CK_ULONG has 8 bytes on every platform of this driver.
func flatten(template []*p11.Attribute) []uint64 {
	n := 0
	for _, a := range template {
		n += 2 + (len(a.Value)+7)/8
	}
	flat := make([]uint64, n)
	at := 0
	for _, a := range template {
		flat[at], flat[at+1] = uint64(a.Type), uint64(len(a.Value))
		words := (len(a.Value) + 7) / 8
		if words > 0 {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&flat[at+2])), words*8), a.Value)
		}
		at += 2 + words
	}
	return flat
}

// cString copies a string into C memory and never frees it.
func cString(s string) unsafe.Pointer { return unsafe.Pointer(C.CString(s)) }
