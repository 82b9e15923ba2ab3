package huawei

import (
	"net/http"
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// TestRevokedOnOpenConnection holds that what was revoked is refused on the next request of a connection that is open.
func TestRevokedOnOpenConnection(t *testing.T) {
	s := newServer(t, os.Getuid())
	id := s.create("app", "AES_256")
	grant := s.post("create-grant", `{"key_id":"`+id+`","grantee_principal":"app","operations":["encrypt-data"]}`).field(t, "grant_id")
	owner := s.owner
	s.owner = policy.Principal{Name: "app"}
	encrypt := func(want int) {
		t.Helper()
		if a := s.post("encrypt-data", `{"key_id":"`+id+`","plain_text":"x"}`); a.status != want {
			t.Errorf("encrypt-data: %d %s, want %d", a.status, a.body, want)
		}
	}
	encrypt(http.StatusOK)
	if err := s.core.RevokeGrant(ownerCall, uuid.MustParse(id), grant); err != nil {
		t.Fatal(err)
	}
	encrypt(http.StatusForbidden)
	s.owner = owner
	encrypt(http.StatusOK)
}
