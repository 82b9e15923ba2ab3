#include "shim.h"

#include <dlfcn.h>
#include <stdio.h>

typedef unsigned char byte;

typedef struct {
	ks_ulong mechanism;
	void *param;
	ks_ulong param_len;
} mechanism_t;

typedef struct {
	ks_ulong type;
	void *value;
	ks_ulong value_len;
} attribute_t;

typedef struct {
	byte *iv;
	ks_ulong iv_len;
	ks_ulong iv_bits;
	byte *aad;
	ks_ulong aad_len;
	ks_ulong tag_bits;
} gcm_params_t;

typedef struct {
	ks_ulong kdf;
	ks_ulong shared_len;
	byte *shared;
	ks_ulong point_len;
	byte *point;
} ecdh_params_t;

typedef struct {
	unsigned char version[2];
	void *function[68];
} function_list_t;

typedef ks_ulong (*get_list_f)(function_list_t **);
typedef ks_ulong (*login_f)(ks_ulong, ks_ulong, byte *, ks_ulong);
typedef ks_ulong (*create_f)(ks_ulong, attribute_t *, ks_ulong, ks_ulong *);
typedef ks_ulong (*init_f)(ks_ulong, mechanism_t *, ks_ulong);
typedef ks_ulong (*operate_f)(ks_ulong, byte *, ks_ulong, byte *, ks_ulong *);
typedef ks_ulong (*wrap_f)(ks_ulong, mechanism_t *, ks_ulong, ks_ulong, byte *, ks_ulong *);
typedef ks_ulong (*unwrap_f)(ks_ulong, mechanism_t *, ks_ulong, byte *, ks_ulong, attribute_t *, ks_ulong, ks_ulong *);
typedef ks_ulong (*derive_f)(ks_ulong, mechanism_t *, ks_ulong, attribute_t *, ks_ulong, ks_ulong *);
typedef ks_ulong (*get_f)(ks_ulong, ks_ulong, attribute_t *, ks_ulong);
typedef ks_ulong (*destroy_f)(ks_ulong, ks_ulong);
typedef ks_ulong (*random_f)(ks_ulong, byte *, ks_ulong);

#define CALL(list, index, type) ((type)((function_list_t *)(list))->function[index])
#define USER_NORMAL 1
#define ARGUMENTS_BAD 7
#define MAX_ATTRIBUTES 32

// Modules refuse NULL even where the length is 0.
static byte nothing[1];

void *ks_open(const char *path, char *error, ks_ulong error_size)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) {
		snprintf(error, error_size, "%s", dlerror());
		return NULL;
	}
	get_list_f get_list = (get_list_f)dlsym(handle, "C_GetFunctionList");
	if (get_list == NULL) {
		snprintf(error, error_size, "no C_GetFunctionList in it");
		return NULL;
	}
	function_list_t *list = NULL;
	ks_ulong rv = get_list(&list);
	if (rv != 0 || list == NULL) {
		snprintf(error, error_size, "C_GetFunctionList returned 0x%lx", rv);
		return NULL;
	}
	return list;
}

ks_result ks_random(void *list, ks_ulong session, byte *out, ks_ulong out_len)
{
	ks_result r = {0, out_len, KS_GENERATE_RANDOM};
	r.rv = CALL(list, KS_GENERATE_RANDOM, random_f)(session, out, out_len);
	return r;
}

ks_result ks_gcm(void *list, int decrypt, ks_ulong session, ks_ulong key, byte *iv, ks_ulong iv_len,
		 byte *aad, ks_ulong aad_len, byte *in, ks_ulong in_len, ks_ulong fresh, byte *out, ks_ulong out_size)
{
	if (fresh > 0) {
		ks_result r = ks_random(list, session, in, fresh);
		if (r.rv != 0)
			return r;
	}
	gcm_params_t gcm = {iv, iv_len, iv_len * 8, aad_len > 0 ? aad : NULL, aad_len, 128};
	return ks_operate(list, decrypt ? KS_DECRYPT_INIT : KS_ENCRYPT_INIT, session, 0x1087 /* CKM_AES_GCM */,
			  &gcm, sizeof(gcm), key, in, in_len, out, out_size);
}

ks_result ks_operate(void *list, int init, ks_ulong session, ks_ulong mechanism, void *param, ks_ulong param_len,
		     ks_ulong key, byte *in, ks_ulong in_len, byte *out, ks_ulong out_size)
{
	mechanism_t m = {mechanism, param_len > 0 ? param : NULL, param_len};
	ks_result r = {0, 0, init};
	r.rv = CALL(list, init, init_f)(session, &m, key);
	if (r.rv != 0)
		return r;
	// In the function list each of the three operations stands right behind its Init.
	r.function = init + 1;
	r.value = out_size;
	r.rv = CALL(list, init + 1, operate_f)(session, in_len > 0 ? in : nothing, in_len, out, &r.value);
	return r;
}

ks_result ks_wrap(void *list, ks_ulong session, ks_ulong mechanism, ks_ulong wrapping_key, ks_ulong key, byte *out,
		  ks_ulong out_size)
{
	mechanism_t m = {mechanism, NULL, 0};
	ks_result r = {0, out_size, KS_WRAP_KEY};
	r.rv = CALL(list, KS_WRAP_KEY, wrap_f)(session, &m, wrapping_key, key, out, &r.value);
	return r;
}

// expand points attributes into a flat template and returns how many there are, or -1.
static int expand(ks_ulong *flat, ks_ulong words, attribute_t *attributes)
{
	ks_ulong at = 0;
	int n = 0;
	while (at < words) {
		if (n == MAX_ATTRIBUTES || words - at < 2)
			return -1;
		ks_ulong len = flat[at + 1];
		ks_ulong value_words = (len + sizeof(ks_ulong) - 1) / sizeof(ks_ulong);
		if (words - at - 2 < value_words)
			return -1;
		attributes[n].type = flat[at];
		attributes[n].value = len > 0 ? &flat[at + 2] : NULL;
		attributes[n].value_len = len;
		at += 2 + value_words;
		n++;
	}
	return n;
}

ks_result ks_unwrap(void *list, ks_ulong session, ks_ulong mechanism, void *param, ks_ulong param_len,
		    ks_ulong unwrapping_key, byte *wrapped, ks_ulong wrapped_len, ks_ulong *flat, ks_ulong flat_words)
{
	attribute_t attributes[MAX_ATTRIBUTES];
	mechanism_t m = {mechanism, param_len > 0 ? param : NULL, param_len};
	ks_result r = {ARGUMENTS_BAD, 0, KS_UNWRAP_KEY};
	int n = expand(flat, flat_words, attributes);
	if (n >= 0)
		r.rv = CALL(list, KS_UNWRAP_KEY, unwrap_f)(session, &m, unwrapping_key, wrapped_len > 0 ? wrapped : nothing,
							   wrapped_len, attributes, n, &r.value);
	return r;
}

ks_result ks_create(void *list, ks_ulong session, ks_ulong *flat, ks_ulong flat_words)
{
	attribute_t attributes[MAX_ATTRIBUTES];
	ks_result r = {ARGUMENTS_BAD, 0, KS_CREATE_OBJECT};
	int n = expand(flat, flat_words, attributes);
	if (n >= 0)
		r.rv = CALL(list, KS_CREATE_OBJECT, create_f)(session, attributes, n, &r.value);
	return r;
}

ks_result ks_ecdh(void *list, ks_ulong session, ks_ulong key, byte *point, ks_ulong point_len, ks_ulong *flat,
		  ks_ulong flat_words, byte *out, ks_ulong out_size)
{
	attribute_t attributes[MAX_ATTRIBUTES];
	ecdh_params_t ecdh = {1 /* CKD_NULL */, 0, NULL, point_len, point};
	mechanism_t m = {0x1050 /* CKM_ECDH1_DERIVE */, &ecdh, sizeof(ecdh)};
	ks_ulong secret = 0;
	ks_result r = {ARGUMENTS_BAD, 0, KS_DERIVE_KEY};
	int n = expand(flat, flat_words, attributes);
	if (n >= 0)
		r.rv = CALL(list, KS_DERIVE_KEY, derive_f)(session, &m, key, attributes, n, &secret);
	if (r.rv != 0)
		return r;
	attribute_t value = {0x11 /* CKA_VALUE */, out, out_size};
	r.function = KS_GET_ATTRIBUTE_VALUE;
	r.rv = CALL(list, KS_GET_ATTRIBUTE_VALUE, get_f)(session, secret, &value, 1);
	r.value = value.value_len;
	ks_ulong rv = CALL(list, KS_DESTROY_OBJECT, destroy_f)(session, secret);
	if (r.rv == 0 && rv != 0) {
		r.function = KS_DESTROY_OBJECT;
		r.rv = rv;
	}
	return r;
}

ks_result ks_login(void *list, ks_ulong session, byte *pin, ks_ulong pin_len)
{
	ks_result r = {0, 0, KS_LOGIN};
	r.rv = CALL(list, KS_LOGIN, login_f)(session, USER_NORMAL, pin_len > 0 ? pin : NULL, pin_len);
	return r;
}
