package sdk

import "net/http"

// The forms of what answers hold.
var (
	anything  = words(`.*`)
	something = words(`.+`)
	id        = words(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	digits    = words(`[0-9]+`)
	upperHex  = words(`([0-9A-F]{2})+`)
	lowerHex  = words(`([0-9a-f]{2})+`)
	millis    = words(`[0-9]{13}`)    // since 1970; the documents say seconds, the service and its clients mean this
	someTime  = words(`([0-9]{13})?`) // of what may not have happened
	utc       = words(`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z`)
	yesNo     = words(`true|false`) // as a string
	published = words(`-----BEGIN PUBLIC KEY-----\r\n([A-Za-z0-9+/=]{1,64}\r\n)+-----END PUBLIC KEY-----(\r\n)?`)

	// spec and usage go beyond what the SDK enumerates.
	spec  = words(`AES_(128|192|256)|RSA_(2048|3072|4096)|EC_P(256|384|521)|SECP256K1|HMAC_(256|384|512)`)
	usage = words(`ENCRYPT_DECRYPT|SIGN_VERIFY|GENERATE_VERIFY_MAC|KEY_AGREEMENT`)

	keyDetails = object{
		"key_id": id, "domain_id": something, "key_alias": something, "realm": something, "key_spec": spec, "key_usage": usage,
		"key_description": anything, "creation_date": millis, "scheduled_deletion_date": someTime, "key_state": words(`[2-57]`),
		"default_key_flag": words(`0|1`), "key_type": words(`1`), "expiration_time": someTime, "origin": words(`kms|external`),
		"key_rotation_enabled": yesNo, "sys_enterprise_project_id": words(`0`), "keystore_id": words(`0`),
		// Keyside's own
		"protection": maybe{words(`hsm|module-unenforced|driver`)}, "opened_in": maybe{words(`hsm|driver`)},
		"check_value": maybe{words(`([0-9A-F]{2}){8}`)},
	}
	tagItem  = object{"key": something, "value": anything}
	alias    = object{"domain_id": something, "key_id": id, "alias": something, "alias_urn": words(`kms:.+:alias:.+`), "create_time": utc, "update_time": utc}
	version  = object{"id": words(`v1\.0`), "links": list{object{"href": something, "rel": words(`self`)}}, "version": anything, "status": words(`CURRENT`), "updated": utc, "min_version": anything}
	keyState = object{"key_info": object{"key_id": id, "key_state": words(`[23]`)}}
	keyPair  = object{"key_id": id, "key_spec": something, "public_key": coded{}, "private_key_cipher_text": coded{}, "private_key_plain_text": maybe{coded{}}}
	nothing  = object{}
)

// answer is how an operation answers when all is well. A nil body is none.
type answer struct {
	status int
	body   shape
}

// answers says it of every method of the SDK that Keyside serves. It is the list that the tests below are held to: each
// method here is called by each way, and refused at least once.
var answers = map[string]answer{
	"CreateKey":            {http.StatusOK, object{"key_info": object{"key_id": id, "domain_id": something, "region_id": maybe{something}}}},
	"ListKeyDetail":        {http.StatusOK, object{"key_info": keyDetails}},
	"ListKeys":             {http.StatusOK, object{"keys": list{id}, "key_details": list{keyDetails}, "next_marker": words(`[0-9]*`), "truncated": yesNo, "total": number{}}},
	"EnableKey":            {http.StatusOK, keyState},
	"DisableKey":           {http.StatusOK, keyState},
	"DeleteKey":            {http.StatusOK, object{"key_id": id, "key_state": words(`4`)}},
	"CancelKeyDeletion":    {http.StatusOK, object{"key_id": id, "key_state": words(`[35]`)}},
	"UpdateKeyAlias":       {http.StatusOK, object{"key_info": object{"key_id": id, "key_alias": something}}},
	"UpdateKeyDescription": {http.StatusOK, object{"key_info": object{"key_id": id, "key_description": anything}}},
	"CreateRandom":         {http.StatusOK, object{"random_data": upperHex}},

	"CreateDatakey":                 {http.StatusOK, object{"key_id": id, "plain_text": upperHex, "cipher_text": upperHex}},
	"CreateDatakeyWithoutPlaintext": {http.StatusOK, object{"key_id": id, "cipher_text": upperHex}},
	"EncryptDatakey":                {http.StatusOK, object{"key_id": id, "cipher_text": upperHex, "datakey_length": digits}},
	"DecryptDatakey":                {http.StatusOK, object{"data_key": upperHex, "datakey_length": digits, "datakey_dgst": upperHex}},
	"CreateRsaDatakeyPair":          {http.StatusOK, keyPair},
	"CreateEcDatakeyPair":           {http.StatusOK, keyPair},

	"EncryptData": {http.StatusOK, object{"key_id": id, "cipher_text": coded{}}},
	"DecryptData": {http.StatusOK, object{"key_id": id, "plain_text": something, "plain_text_base64": coded{}}},
	"ReEncrypt": {http.StatusOK, object{
		"key_id": id, "source_key_id": id, "source_encryption_algorithm": something, "destination_encryption_algorithm": something,
		"cipher_text": something,
	}},

	"Sign":               {http.StatusOK, object{"key_id": id, "signature": coded{}}},
	"ValidateSignature":  {http.StatusOK, object{"key_id": id, "signature_valid": yesNo}},
	"ShowPublicKey":      {http.StatusOK, object{"key_id": id, "public_key": published}},
	"GenerateMac":        {http.StatusOK, object{"key_id": id, "mac_algorithm": words(`HMAC_SHA_(256|384|512)`), "mac": lowerHex}},
	"VerifyMac":          {http.StatusOK, object{"key_id": id, "mac_algorithm": words(`HMAC_SHA_(256|384|512)`), "mac_valid": boolean{}}},
	"DeriveSharedSecret": {http.StatusOK, object{"key_id": id, "key_agreement_algorithm": words(`ECDH`), "shared_secret": coded{}}},

	"CreateParametersForImport": {http.StatusOK, object{
		"key_id": id, "import_token": coded{}, "public_key": coded{}, "expiration_time": number{}, "warning": maybe{something},
	}},
	"ImportKeyMaterial":         {http.StatusOK, nothing},
	"DeleteImportedKeyMaterial": {http.StatusOK, nothing},

	"EnableKeyRotation":         {http.StatusOK, nothing},
	"UpdateKeyRotationInterval": {http.StatusOK, nothing},
	"DisableKeyRotation":        {http.StatusOK, nothing},
	"ShowKeyRotationStatus": {http.StatusOK, object{
		"key_rotation_enabled": boolean{}, "rotation_interval": number{}, "last_rotation_time": someTime, "number_of_rotations": number{},
	}},

	"CreateKmsTag":       {http.StatusNoContent, nil},
	"BatchCreateKmsTags": {http.StatusNoContent, nil},
	"DeleteTag":          {http.StatusNoContent, nil},
	"ShowKmsTags":        {http.StatusOK, object{"tags": list{tagItem}, "existTagsNum": number{}, "sys_tags": maybe{list{tagItem}}}},
	"ListKmsTags":        {http.StatusOK, object{"tags": list{object{"key": something, "values": list{anything}}}}},
	"ListKmsByTags": {http.StatusOK, object{
		"resources":   maybe{list{object{"resource_id": id, "resource_detail": keyDetails, "resource_name": something, "tags": list{tagItem}}}},
		"total_count": number{},
	}},

	"CreateAlias":    {http.StatusCreated, alias},
	"AssociateAlias": {http.StatusOK, alias},
	"DeleteAlias":    {http.StatusNoContent, nil},
	"ListAliases": {http.StatusOK, list{object{
		"aliases": list{alias}, "page_info": object{"next_marker": anything, "current_count": number{}},
	}}},

	"CreateGrant":         {http.StatusOK, object{"grant_id": words(`[0-9a-f]{64}`)}},
	"ListGrants":          {http.StatusOK, grants},
	"ListRetirableGrants": {http.StatusOK, grants},
	"CancelGrant":         {http.StatusOK, object{}},
	"CancelSelfGrant":     {http.StatusOK, object{}},

	"ShowUserInstances": {http.StatusOK, object{"instance_num": number{}}},
	"ShowUserQuotas": {http.StatusOK, object{"quotas": object{
		"resources": list{object{"type": words(`CMK|grant_per_CMK`), "used": number{}, "quota": number{}}},
	}}},
	"ShowVersions": {http.StatusOK, object{"versions": list{version}}},
	"ShowVersion":  {http.StatusOK, object{"version": version}},
}

// grants is a page of grants.
var grants = object{
	"grants": list{object{
		"key_id": id, "grant_id": words(`[0-9a-f]{64}`), "grantee_principal": something, "grantee_principal_type": words(`user|domain`),
		"operations": list{something}, "issuing_principal": something, "creation_date": words(`[0-9]{13}`), "name": anything,
		"retiring_principal": anything,
	}},
	"next_marker": anything, "truncated": words(`true|false`), "total": number{},
}

// notServed are the methods whose routes Keyside does not have; each is answered as the gateway answers a wrong path.
var notServed = []string{
	"CreateKeyStore", "ListKeyStores", "ShowKeyStore", "DeleteKeyStore", "EnableKeyStore", "DisableKeyStore",
	"ListSupportRegions", "ReplicateKey", "UpdatePrimaryRegion",
	"CreatePin",
}
