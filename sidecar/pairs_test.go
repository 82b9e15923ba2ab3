package sidecar

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
)

// pairDialect is an API that encrypts and decrypts. context is the JSON of an encryption context.
type pairDialect struct {
	name    string
	encrypt func(w *rightsWorld, plaintext []byte, context string) []byte
	dataKey func(w *rightsWorld, context string) (plaintext, sealed []byte)
	decrypt func(w *rightsWorld, sealed []byte, dataKey bool, context string) []byte // nil: refused
}

// asked sends a request of one of the APIs as the owner and returns the answer's member as bytes, nil if it is refused.
func (w *rightsWorld) asked(s *dialecttest.Suite, path, body, member string) []byte {
	w.Helper()
	var text []byte
	body = w.expand(body)
	if s == nil {
		text = w.ask(rightsCallers[0], http.MethodPost, path, body).Body.Bytes()
	} else {
		i := slices.IndexFunc(s.Routes, func(rt dialect.Route) bool { return rt.Path == path })
		text = w.askSuite(s, &s.Routes[i], rightsCallers[0], body).Body.Bytes()
	}
	_, rest, ok := strings.Cut(string(text), `"`+member+`":"`)
	if !ok {
		return nil
	}
	value, _, _ := strings.Cut(rest, `"`)
	return []byte(value)
}

func fromBase64(text []byte) []byte {
	if text == nil {
		return nil
	}
	return must(base64.StdEncoding.DecodeString(string(text)))
}

func fromHex(text []byte) []byte {
	if text == nil {
		return nil
	}
	return must(hex.DecodeString(string(text)))
}

// suitePair is a cloud's API with the names that Tencent Cloud and Alibaba Cloud share.
func suitePair(name string, s *dialecttest.Suite, quoted bool) pairDialect {
	said := func(context string) string {
		if quoted {
			return string(must(json.Marshal(context)))
		}
		return context
	}
	return pairDialect{
		name,
		func(w *rightsWorld, plaintext []byte, context string) []byte {
			return fromBase64(w.asked(s, "Encrypt", fmt.Sprintf(`{"KeyId":"$aes","Plaintext":"%s","EncryptionContext":%s}`, base64.StdEncoding.EncodeToString(plaintext), said(context)), "CiphertextBlob"))
		},
		func(w *rightsWorld, context string) ([]byte, []byte) {
			var answer struct{ Plaintext, CiphertextBlob []byte }
			i := slices.IndexFunc(s.Routes, func(rt dialect.Route) bool { return rt.Path == "GenerateDataKey" })
			body := w.expand(fmt.Sprintf(`{"KeyId":"$aes","NumberOfBytes":24,"EncryptionContext":%s}`, said(context)))
			text := strings.TrimPrefix(w.askSuite(s, &s.Routes[i], rightsCallers[0], body).Body.String(), `{"Response":`)
			if err := json.NewDecoder(strings.NewReader(text)).Decode(&answer); err != nil {
				w.Fatal(text, err)
			}
			return answer.Plaintext, answer.CiphertextBlob
		},
		func(w *rightsWorld, sealed []byte, _ bool, context string) []byte {
			return fromBase64(w.asked(s, "Decrypt", fmt.Sprintf(`{"CiphertextBlob":"%s","EncryptionContext":%s}`, base64.StdEncoding.EncodeToString(sealed), said(context)), "Plaintext"))
		},
	}
}

// pairDialects are all APIs.
var pairDialects = []pairDialect{
	{
		"huawei",
		func(w *rightsWorld, plaintext []byte, context string) []byte {
			return fromBase64(w.asked(nil, "encrypt-data", fmt.Sprintf(`{"key_id":"$aes","plain_text":"%s","encryption_context":%s}`, plaintext, context), "cipher_text"))
		},
		func(w *rightsWorld, context string) ([]byte, []byte) {
			var answer struct {
				Plain  string `json:"plain_text"`
				Sealed string `json:"cipher_text"`
			}
			w.owner(http.MethodPost, "create-datakey", w.expand(fmt.Sprintf(`{"key_id":"$aes","datakey_length":"192","encryption_context":%s}`, context)), &answer)
			return fromHex([]byte(answer.Plain)), fromHex([]byte(answer.Sealed))
		},
		func(w *rightsWorld, sealed []byte, dataKey bool, context string) []byte {
			if dataKey {
				return fromHex(w.asked(nil, "decrypt-datakey", fmt.Sprintf(`{"key_id":"$aes","cipher_text":"%X","datakey_cipher_length":"24","encryption_context":%s}`, sealed, context), "data_key"))
			}
			return fromBase64(w.asked(nil, "decrypt-data", fmt.Sprintf(`{"cipher_text":"%s","encryption_context":%s}`, base64.StdEncoding.EncodeToString(sealed), context), "plain_text_base64"))
		},
	},
	{
		"native",
		func(w *rightsWorld, plaintext []byte, context string) []byte {
			return fromBase64(w.asked(nil, client.BasePath+"encrypt", fmt.Sprintf(`{"key_id":"$aes","plaintext":"%s","context":%s}`, base64.StdEncoding.EncodeToString(plaintext), context), "ciphertext"))
		},
		func(w *rightsWorld, context string) ([]byte, []byte) {
			var answer struct{ Plaintext, Ciphertext []byte }
			w.owner(http.MethodPost, client.BasePath+"generate-data-key", w.expand(fmt.Sprintf(`{"key_id":"$aes","length":24,"context":%s}`, context)), &answer)
			return answer.Plaintext, answer.Ciphertext
		},
		func(w *rightsWorld, sealed []byte, dataKey bool, context string) []byte {
			path := "decrypt"
			if dataKey {
				path = "decrypt-data-key"
			}
			return fromBase64(w.asked(nil, client.BasePath+path, fmt.Sprintf(`{"ciphertext":"%s","context":%s}`, base64.StdEncoding.EncodeToString(sealed), context), "plaintext"))
		},
	},
	suitePair("tencent", &tencentSuite, true),
	suitePair("alibaba", &alibabaSuite, false),
}

// TestPairs encrypts data and data keys through each API and decrypts them through each: with the context of the encryption as the same
// bytes, and with none or another not at all.
func TestPairs(t *testing.T) {
	w := newRightsWorld(t)
	w.words = map[string]string{}
	contexts := []string{`{}`, `{"stage":"größe","a.b":"1 +/*~&="}`}
	for _, made := range pairDialects {
		for i, context := range contexts {
			plaintext := []byte("made by " + made.name)
			sealed := made.encrypt(w, plaintext, context)
			key, sealedKey := made.dataKey(w, context)
			if sealed == nil || len(key) != 24 {
				t.Fatalf("%s does not encrypt with %s", made.name, context)
			}
			for _, opening := range pairDialects {
				if got := opening.decrypt(w, sealed, false, context); !bytes.Equal(got, plaintext) {
					t.Errorf("%s opens %q of %s with %s as %q", opening.name, plaintext, made.name, context, got)
				}
				if got := opening.decrypt(w, sealedKey, true, context); !bytes.Equal(got, key) {
					t.Errorf("%s opens a data key of %s with %s as %d other bytes", opening.name, made.name, context, len(got))
				}
				if opening.decrypt(w, sealed, false, contexts[1-i]) != nil || opening.decrypt(w, sealedKey, true, contexts[1-i]) != nil {
					t.Errorf("%s opens what %s made with %s with another context", opening.name, made.name, context)
				}
			}
		}
	}
}
