package sidecar

import (
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
)

// nativeRequests has the requests of every route of the native API.
var nativeRequests = func() map[policy.Operation][]rightsRequest {
	requests := map[policy.Operation][]rightsRequest{}
	for _, r := range []struct {
		operation          policy.Operation
		path, body, before string
	}{
		{policy.OpCreateKey, "create-key", `{"alias":"$fresh"}`, ""},
		{policy.OpDescribeKey, "describe-key", `{"key_id":"$aes"}`, ""},
		{policy.OpListKeys, "list-keys", "{}", ""},
		{policy.OpEnableKey, "enable-key", `{"key_id":"$aes"}`, `disable-key {"key_id":"$aes"}`},
		{policy.OpDisableKey, "disable-key", `{"key_id":"$aes"}`, `enable-key {"key_id":"$aes"}`},
		{policy.OpScheduleDeletion, "schedule-key-deletion", `{"key_id":"$aes","pending_days":7}`, `cancel-key-deletion {"key_id":"$aes"}`},
		{policy.OpCancelDeletion, "cancel-key-deletion", `{"key_id":"$aes"}`, `schedule-key-deletion {"key_id":"$aes","pending_days":7}`},
		{policy.OpConfirmDeletions, "confirm-deletions", "", ""},
		{policy.OpUpdateAlias, "rename-key", `{"key_id":"$aes","alias":"$fresh"}`, ""},
		{policy.OpSetDeletionProtection, "set-deletion-protection", `{"key_id":"$aes","protected":false}`, ""},
		{policy.OpCreateKeyVersion, "create-key-version", `{"key_id":"$ec"}`, ""},
		{policy.OpUpdateDescription, "set-key-description", `{"key_id":"$aes","description":"x"}`, ""},

		{policy.OpEncryptData, "encrypt", `{"key_id":"$aes","plaintext":"eA=="}`, ""},
		{policy.OpDecryptData, "decrypt", `{"ciphertext":"$cipher"}`, ""},
		{policy.OpReEncrypt, "re-encrypt", `{"source_key_id":"$aes","ciphertext":"$cipher","destination_key_id":"$aes2"}`, ""},
		{policy.OpCreateDataKey, "generate-data-key", `{"key_id":"$aes"}`, ""},
		{policy.OpCreateDataKeyNoText, "generate-data-key-without-plaintext", `{"key_id":"$aes"}`, ""},
		{policy.OpEncryptDataKey, "encrypt-data-key", `{"key_id":"$aes","plaintext":"eA=="}`, ""},
		{policy.OpDecryptDataKey, "decrypt-data-key", `{"key_id":"$aes","ciphertext":"$blob64"}`, ""},
		{policy.OpCreateRSAKeyPair, "generate-rsa-data-key-pair", `{"key_id":"$aes","key_spec":"RSA_2048"}`, ""},
		{policy.OpCreateECKeyPair, "generate-ec-data-key-pair", `{"key_id":"$aes","key_spec":"EC_P256"}`, ""},
		{policy.OpGenRandom, "generate-random", `{"length":8}`, ""},
		{policy.OpSign, "sign", `{"key_id":"$ec","message":"QUJD","signing_algorithm":"ECDSA_SHA_256"}`, ""},
		{policy.OpVerify, "verify", `{"key_id":"$ec","message":"QUJD","signing_algorithm":"ECDSA_SHA_256","signature":"$signature"}`, ""},
		{policy.OpGetPublicKey, "get-public-key", `{"key_id":"$ec"}`, ""},
		{policy.OpGenerateMAC, "generate-mac", `{"key_id":"$hmac","message":"QUJD","mac_algorithm":"HMAC_SHA_256"}`, ""},
		{policy.OpVerifyMAC, "verify-mac", `{"key_id":"$hmac","message":"QUJD","mac_algorithm":"HMAC_SHA_256","mac":"$mac64"}`, ""},
		{policy.OpDeriveSharedSecret, "derive-shared-secret", `{"key_id":"$agreement","public_key":"$peer"}`, ""},

		{policy.OpGetImportParameters, "get-import-parameters", `{"key_id":"$external","wrapping_algorithm":"RSAES_OAEP_SHA_256","repeat":true}`, ""},
		{policy.OpImportMaterial, "import-key-material", `{"key_id":"$external",$wrapped,"repeat":true}`, ""},
		{policy.OpDeleteMaterial, "delete-key-material", `{"key_id":"$external"}`, `import-key-material {"key_id":"$external",$wrapped,"repeat":true}`},

		{policy.OpEnableRotation, "enable-key-rotation", `{"key_id":"$aes"}`, `disable-key-rotation {"key_id":"$aes"}`},
		{policy.OpUpdateRotation, "set-key-rotation-interval", `{"key_id":"$aes","rotation_interval":30}`, `enable-key-rotation {"key_id":"$aes"}`},
		{policy.OpDisableRotation, "disable-key-rotation", `{"key_id":"$aes"}`, `enable-key-rotation {"key_id":"$aes"}`},
		{policy.OpGetRotation, "get-key-rotation", `{"key_id":"$aes"}`, ""},

		{policy.OpTagKey, "tag-key", `{"key_id":"$aes","tags":[{"key":"k"}]}`, ""},
		{policy.OpUntagKey, "untag-key", `{"key_id":"$aes","tag_keys":["k"]}`, `tag-key {"key_id":"$aes","tags":[{"key":"k"}]}`},
		{policy.OpListKeyTags, "list-key-tags", `{"key_id":"$aes"}`, ""},
		{policy.OpListTags, "list-tags", "", ""},
		{policy.OpFindKeys, "find-keys", "{}", ""},

		{policy.OpCreateAlias, "create-alias", `{"key_id":"$aes","alias":"$fresh"}`, ""},
		{policy.OpListAliases, "list-aliases", "{}", ""},
		{policy.OpDeleteAlias, "delete-alias", `{"key_id":"$aes","aliases":["$fresh"]}`, `create-alias {"key_id":"$aes","alias":"$fresh"}`},
		{policy.OpAssociateAlias, "move-alias", `{"key_id":"$aes","alias":"$fresh"}`, `create-alias {"key_id":"$aes2","alias":"$fresh"}`},

		{policy.OpCreateGrant, "create-grant", `{"key_id":"$aes","grantee":"plain","operations":["describe-key"],"source":"gid:70,unit:a.service"}`, ""},
		{policy.OpListGrants, "list-grants", `{"key_id":"$aes"}`, ""},
		{policy.OpListRetirableGrants, "list-retirable-grants", "{}", ""},
		{policy.OpRevokeGrant, "revoke-grant", `{"key_id":"$aes","grant_id":"$grant"}`, ""},
		{policy.OpRetireGrant, "retire-grant", `{"key_id":"$aes","grant_id":"$grant"}`, ""},

		{policy.OpGetInstances, "count-keys", "", ""},
		{policy.OpGetQuotas, "get-quotas", "", ""},

		{policy.OpCanI, "can-i", `{"operation":"list-keys"}`, ""},
		{policy.OpCanIForOthers, "can-i", `{"operation":"list-keys","as":"key-user"}`, ""},
		{policy.OpCanIForOthers, "can-i", `{"operation":"describe-key","key":"$aes","as":"key-user"}`, ""},
		{policy.OpCreateCredential, "create-credential", `{"user":"$fresh","role":"none"}`, ""},
		{policy.OpListCredentials, "list-credentials", "", ""},
		{policy.OpDeleteCredential, "delete-credential", `{"access_key":"$accesskey"}`, ""},
		{policy.OpCreateToken, "create-token", `{"ttl":60}`, ""},
		{policy.OpCreateTokenFor, "create-token", `{"user":"key-user","ttl":60}`, ""},
		{policy.OpHSMStatus, "get-hsm-status", "", ""},
		{policy.OpReadAudit, "read-audit-log", `{"last":1}`, ""},
		{policy.OpReadAudit, "verify-audit-log", "{}", ""},
		{policy.OpReadAudit, "export-audit-log", "{}", ""},
		{policy.OpCreateBackup, "create-backup", "{}", ""},
	} {
		before := r.before
		if before != "" {
			before = client.BasePath + before
		}
		requests[r.operation] = append(requests[r.operation], rightsRequest{"POST " + client.BasePath + r.path, r.body, before})
	}
	return requests
}()
