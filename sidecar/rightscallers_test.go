package sidecar

import (
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
)

// rightsCaller is a kind of caller: a column of policy/testdata/rights.txt.
type rightsCaller struct {
	column   string
	uid      uint32 // on the Unix socket; 0: on localhost, where no kernel says who calls
	gid      uint32 // 0: the uid
	unit     string // of the process
	ended    bool   // the process is no more
	by       string // the user whose credential the request shows
	how      string // access key, token, wrong signature or deleted access key
	service  bool   // its requests are about its default master key
	granted  bool   // it has a grant of the operation
	expired  bool   // which has expired
	source   string // which is for such callers
	outside  bool   // which is for other callers
	others   bool   // it has a grant of every other operation
	needMore bool   // the right alone is not enough where an operation needs several
}

// On the Unix socket callers are uids, which rightsPrincipals has. A user's access key has the role that rightsUsers has.
var (
	rightsCallers = []rightsCaller{
		{column: "o", uid: 1}, {column: "a", uid: 2}, {column: "u", uid: 3}, {column: "r", uid: 4},
		{column: "s", uid: 5, service: true}, {column: "S", uid: 5}, {column: "p", uid: 6},
		{column: "g", uid: 7, by: "granted", granted: true, needMore: true}, {column: "G", uid: 8, by: "others", others: true},
		{column: "i", uid: 13, gid: 70, unit: "a.service", by: "unit", granted: true, source: "unit:a.service,gid:70", needMore: true},
		{column: "j", uid: 13, gid: 71, unit: "a.service", by: "unit", outside: true}, {column: "E", uid: 2, ended: true},
		{column: "e", uid: 9, by: "expired", granted: true, expired: true}, {column: "c", uid: 10, needMore: true},
		{column: "f", uid: 11}, {column: "x", uid: 12},
		{column: "A", by: "key-administrator", how: "key"}, {column: "U", by: "key-user", how: "key"},
		{column: "P", by: "key-none", how: "key"}, {column: "Q", by: "key-granted", how: "key", granted: true, needMore: true},
		{column: "T", by: "key-administrator", how: "token"}, {column: "N", by: "key-none", how: "token"},
		{column: "K", uid: 12, by: "key-administrator", how: "key"}, {column: "B", uid: 12, by: "key-administrator", how: "token"},
		{column: "w", uid: 1, by: "key-administrator", how: "wrong"}, {column: "d", uid: 1, by: "key-deleted", how: "deleted"},
		{column: "n"},
	}
	rightsPrincipals = []Principal{
		{Name: "administrator", UID: 2, Role: policy.Administrator}, {Name: "user", UID: 3, Role: policy.KeyUser},
		{Name: "auditor", UID: 4, Role: policy.Auditor}, {Name: "service", UID: 5, Service: "obs"}, {Name: "plain", UID: 6},
		{Name: "granted", UID: 7}, {Name: "others", UID: 8}, {Name: "expired", UID: 9}, {Name: "permitted", UID: 10},
		{Name: "barred", UID: 11, Role: policy.Administrator}, {Name: "unit", UID: unset, Selectors: []string{"unit:a.service"}},
	}
	rightsUsers = map[string]string{
		"key-administrator": client.RoleAdministrator, "key-user": client.RoleUser, "key-none": client.RoleNone,
		"key-granted": client.RoleNone, "key-deleted": client.RoleAdministrator,
	}
)

// rightsRequest is how an operation is asked for so that it succeeds for who may do it. What begins with $ is a word:
// the keys are aes, aes2, ec, agreement, hmac and external; the rest is in [rightsWorld.word].
type rightsRequest struct {
	route  string // method and path, as the dialect has them
	body   string // or the query
	before string // what the owner does before: path and body
}

// rightsRequests has the requests of every route, of some routes several.
var rightsRequests = map[policy.Operation][]rightsRequest{
	policy.OpCreateKey:         {{"POST create-key", `{"key_alias":"$fresh"}`, ""}},
	policy.OpDescribeKey:       {{"POST describe-key", `{"key_id":"$aes"}`, ""}},
	policy.OpListKeys:          {{"POST list-keys", `{}`, ""}},
	policy.OpEnableKey:         {{"POST enable-key", `{"key_id":"$aes"}`, `disable-key {"key_id":"$aes"}`}},
	policy.OpDisableKey:        {{"POST disable-key", `{"key_id":"$aes"}`, `enable-key {"key_id":"$aes"}`}},
	policy.OpScheduleDeletion:  {{"POST schedule-key-deletion", `{"key_id":"$aes","pending_days":"7"}`, `cancel-key-deletion {"key_id":"$aes"}`}},
	policy.OpCancelDeletion:    {{"POST cancel-key-deletion", `{"key_id":"$aes"}`, `schedule-key-deletion {"key_id":"$aes","pending_days":"7"}`}},
	policy.OpUpdateAlias:       {{"POST update-key-alias", `{"key_id":"$aes","key_alias":"$fresh"}`, ""}},
	policy.OpUpdateDescription: {{"POST update-key-description", `{"key_id":"$aes","key_description":"x"}`, ""}},

	policy.OpCreateDataKey:       {{"POST create-datakey", `{"key_id":"$aes"}`, ""}},
	policy.OpCreateDataKeyNoText: {{"POST create-datakey-without-plaintext", `{"key_id":"$aes"}`, ""}},
	policy.OpEncryptDataKey:      {{"POST encrypt-datakey", `{"key_id":"$aes","plain_text":"$plain","datakey_plain_length":"1"}`, ""}},
	policy.OpDecryptDataKey:      {{"POST decrypt-datakey", `{"key_id":"$aes","cipher_text":"$blob","datakey_cipher_length":"64"}`, ""}},
	policy.OpCreateRSAKeyPair:    {{"POST create-rsa-datakey-pair", `{"key_id":"$aes","key_spec":"RSA_2048"}`, ""}},
	policy.OpCreateECKeyPair:     {{"POST create-ec-datakey-pair", `{"key_id":"$aes","key_spec":"ECC_NIST_P256"}`, ""}},
	policy.OpEncryptData:         {{"POST encrypt-data", `{"key_id":"$aes","plain_text":"x"}`, ""}},
	policy.OpDecryptData: {
		{"POST decrypt-data", `{"key_id":"$aes","cipher_text":"$cipher"}`, ""}, {"POST decrypt-data", `{"cipher_text":"$cipher"}`, ""},
	},
	policy.OpReEncrypt:          {{"POST re-encrypt", `{"source_key_id":"$aes","cipher_text":"$cipher","destination_key_id":"$aes2"}`, ""}},
	policy.OpSign:               {{"POST sign", `{"key_id":"$ec","message":"QUJD","message_type":"RAW","signing_algorithm":"ECDSA_SHA_256"}`, ""}},
	policy.OpVerify:             {{"POST verify", `{"key_id":"$ec","message":"QUJD","message_type":"RAW","signing_algorithm":"ECDSA_SHA_256","signature":"$signature"}`, ""}},
	policy.OpGetPublicKey:       {{"POST get-publickey", `{"key_id":"$ec"}`, ""}},
	policy.OpGenerateMAC:        {{"POST generate-mac", `{"key_id":"$hmac","message":"QUJD","mac_algorithm":"HMAC_SHA_256"}`, ""}},
	policy.OpVerifyMAC:          {{"POST verify-mac", `{"key_id":"$hmac","message":"QUJD","mac_algorithm":"HMAC_SHA_256","mac":"$mac"}`, ""}},
	policy.OpDeriveSharedSecret: {{"POST derive-shared-secret", `{"key_id":"$agreement","key_agreement_algorithm":"ECDH","public_key":"$peer"}`, ""}},
	policy.OpGenRandom:          {{"POST gen-random", `{"random_data_length":"8"}`, ""}},

	policy.OpGetImportParameters: {{"POST get-parameters-for-import", `{"key_id":"$external","wrapping_algorithm":"RSAES_OAEP_SHA_256","repeat":true}`, ""}},
	policy.OpImportMaterial:      {{"POST import-key-material", `{"key_id":"$external",$material,"repeat":true}`, ""}},
	policy.OpDeleteMaterial:      {{"POST delete-imported-key-material", `{"key_id":"$external"}`, `import-key-material {"key_id":"$external",$material,"repeat":true}`}},

	policy.OpEnableRotation:  {{"POST enable-key-rotation", `{"key_id":"$aes"}`, `disable-key-rotation {"key_id":"$aes"}`}},
	policy.OpUpdateRotation:  {{"POST update-key-rotation-interval", `{"key_id":"$aes","rotation_interval":30}`, `enable-key-rotation {"key_id":"$aes"}`}},
	policy.OpDisableRotation: {{"POST disable-key-rotation", `{"key_id":"$aes"}`, `enable-key-rotation {"key_id":"$aes"}`}},
	policy.OpGetRotation:     {{"POST get-key-rotation-status", `{"key_id":"$aes"}`, ""}},

	policy.OpListKeyTags: {{"GET $aes/tags", "", ""}},
	policy.OpTagKey: {
		{"POST $aes/tags", `{"tag":{"key":"k"}}`, ""}, {"POST $aes/tags/action", `{"action":"create","tags":[{"key":"k"}]}`, ""},
	},
	policy.OpUntagKey: {
		{"DELETE $aes/tags/k", "", `$aes/tags {"tag":{"key":"k"}}`}, {"POST $aes/tags/action", `{"action":"delete","tags":[{"key":"k"}]}`, ""},
	},
	policy.OpListTags: {{"GET tags", "", ""}},
	policy.OpFindKeys: {{"POST resource_instances/action", `{"action":"filter"}`, ""}},

	policy.OpCreateAlias: {{"POST aliases", `{"key_id":"$aes","alias":"$fresh"}`, ""}},
	policy.OpListAliases: {{"GET aliases", "", ""}},
	policy.OpDeleteAlias: {{"DELETE aliases", `{"key_id":"$aes","aliases":["$fresh"]}`, `aliases {"key_id":"$aes","alias":"$fresh"}`}},
	policy.OpAssociateAlias: {
		{"POST alias/associate", `{"target_key_id":"$aes","alias":"$fresh"}`, `aliases {"key_id":"$aes2","alias":"$fresh"}`},
	},

	policy.OpCreateGrant:         {{"POST create-grant", `{"key_id":"$aes","grantee_principal":"plain","operations":["describe-key"],"source":"gid:70,unit:a.service"}`, ""}},
	policy.OpListGrants:          {{"POST list-grants", `{"key_id":"$aes"}`, ""}},
	policy.OpListRetirableGrants: {{"POST list-retirable-grants", `{}`, ""}},
	policy.OpRevokeGrant:         {{"POST revoke-grant", `{"key_id":"$aes","grant_id":"$grant"}`, ""}},
	policy.OpRetireGrant:         {{"POST retire-grant", `{"key_id":"$aes","grant_id":"$grant"}`, ""}},

	policy.OpGetInstances: {{"GET user-instances", "", ""}},
	policy.OpGetQuotas:    {{"GET user-quotas", "", ""}},
	"list-projects":       {{"GET /v3/projects", "", ""}},
	"list-domains":        {{"GET /v3/auth/domains", "", ""}},
}
