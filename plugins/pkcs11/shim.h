// The few PKCS#11 v2.40 types that the hot calls need, and one function per operation.
#ifndef KEYSIDE_PKCS11_SHIM_H
#define KEYSIDE_PKCS11_SHIM_H

typedef unsigned long ks_ulong; // CK_ULONG and every handle

// ks_result is the result of a call: the return value, the bytes written (or the handle created), and which function
// of the function list returned rv.
typedef struct {
	ks_ulong rv;
	ks_ulong value;
	ks_ulong function;
} ks_result;

// Positions in CK_FUNCTION_LIST, in the order of PKCS#11 v2.40 section 3.6.
enum {
	KS_LOGIN = 18,
	KS_CREATE_OBJECT = 20,
	KS_DESTROY_OBJECT = 22,
	KS_GET_ATTRIBUTE_VALUE = 24,
	KS_ENCRYPT_INIT = 29,
	KS_ENCRYPT = 30,
	KS_DECRYPT_INIT = 33,
	KS_DECRYPT = 34,
	KS_SIGN_INIT = 42,
	KS_SIGN = 43,
	KS_WRAP_KEY = 60,
	KS_UNWRAP_KEY = 61,
	KS_DERIVE_KEY = 62,
	KS_GENERATE_RANDOM = 64
};

// ks_open loads a module and returns its function list; on failure it returns NULL and a message in error.
void *ks_open(const char *path, char *error, ks_ulong error_size);

// ks_random fills out.
ks_result ks_random(void *list, ks_ulong session, unsigned char *out, ks_ulong out_len);

// ks_gcm encrypts or decrypts with AES-GCM and a tag of 128 bits. fresh bytes at the start of in are filled with random
// bytes first, for a data key.
ks_result ks_gcm(void *list, int decrypt, ks_ulong session, ks_ulong key, unsigned char *iv, ks_ulong iv_len,
		 unsigned char *aad, ks_ulong aad_len, unsigned char *in, ks_ulong in_len, ks_ulong fresh,
		 unsigned char *out, ks_ulong out_size);

// ks_operate runs init (ENCRYPT_INIT, DECRYPT_INIT or SIGN_INIT) and the operation that follows it in one go.
ks_result ks_operate(void *list, int init, ks_ulong session, ks_ulong mechanism, void *param, ks_ulong param_len,
		     ks_ulong key, unsigned char *in, ks_ulong in_len, unsigned char *out, ks_ulong out_size);

// ks_wrap wraps key under wrapping_key.
ks_result ks_wrap(void *list, ks_ulong session, ks_ulong mechanism, ks_ulong wrapping_key, ks_ulong key,
		  unsigned char *out, ks_ulong out_size);

// ks_unwrap makes a key of wrapped bytes. A template is flat: per attribute its type, its length, and its value padded
// to whole words.
ks_result ks_unwrap(void *list, ks_ulong session, ks_ulong mechanism, void *param, ks_ulong param_len,
		    ks_ulong unwrapping_key, unsigned char *wrapped, ks_ulong wrapped_len,
		    ks_ulong *flat, ks_ulong flat_words);

// ks_create makes an object of a flat template.
ks_result ks_create(void *list, ks_ulong session, ks_ulong *flat, ks_ulong flat_words);

// ks_ecdh does ECDH without a key derivation function into an object of a flat template, which allows reading, reads its
// value into out and destroys it.
ks_result ks_ecdh(void *list, ks_ulong session, ks_ulong key, unsigned char *point, ks_ulong point_len,
		  ks_ulong *flat, ks_ulong flat_words, unsigned char *out, ks_ulong out_size);

// ks_login logs the normal user in.
ks_result ks_login(void *list, ks_ulong session, unsigned char *pin, ks_ulong pin_len);

#endif
