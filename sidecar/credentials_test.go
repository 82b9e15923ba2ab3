package sidecar

import (
	"errors"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// TestCredentials makes, lists and deletes access keys and tokens over the socket, and finds no secret where it does not
// belong.
func TestCredentials(t *testing.T) {
	n := newNode(t)
	c, stop := n.run()
	ctx := t.Context()
	made := must(c.CreateCredential(ctx, "terraform", client.RoleAdministrator))
	if !regexp.MustCompile(`^[A-Za-z0-9]{40}$`).MatchString(made.SecretKey) {
		t.Errorf("made %+v", made)
	}
	obs := must(c.CreateCredential(ctx, "obs", client.RoleService+"obs"))
	must(c.CreateCredential(ctx, "guest", client.RoleNone))
	for _, role := range []string{"root", "service:", "service:OBS", "Administrator", "administrator "} {
		if _, err := c.CreateCredential(ctx, "x", role); !errors.Is(err, client.ErrInvalidRequest) {
			t.Errorf("role %q: %v", role, err)
		}
	}
	token := must(c.CreateToken(ctx, "", 0))
	if life := time.Until(token.Expires); token.User != "owner" || token.Role != client.RoleAdministrator || life > time.Hour || life < 50*time.Minute {
		t.Errorf("token %+v lives %s", token, life)
	}
	if others := must(c.CreateToken(ctx, "obs", time.Minute)); others.User != "obs" || others.Role != "service:obs" {
		t.Errorf("token of another %+v", others)
	}
	roles := map[string]string{} // two may have been made in the same millisecond, so their order is not looked at
	for _, listed := range must(c.ListCredentials(ctx)) {
		roles[listed.User] = listed.Role
	}
	if want := (map[string]string{"terraform": client.RoleAdministrator, "obs": "service:obs", "guest": client.RoleNone}); !maps.Equal(roles, want) {
		t.Errorf("listed %v, want %v", roles, want)
	}
	if err := c.DeleteCredential(ctx, obs.AccessKey); err != nil {
		t.Error(err)
	}
	if err := c.DeleteCredential(ctx, obs.AccessKey); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{made.SecretKey, obs.SecretKey, token.Token} {
		if strings.Contains(n.log.String()+n.audit()+n.files("db"), secret) {
			t.Error("a secret is in a log, in the audit log or in the database")
		}
	}
	for _, access := range []string{made.AccessKey, obs.AccessKey} {
		if !strings.Contains(n.audit(), `"target":"`+access+`"`) {
			t.Errorf("the audit log does not name %s", access)
		}
	}
}

// TestManagementIsOnTheSocket holds that access keys and tokens are not to be had on a port, whoever asks.
func TestManagementIsOnTheSocket(t *testing.T) {
	n := newNode(t)
	n.cfg.Listen = freePort(t)
	c, _ := n.run()
	token := must(c.CreateToken(t.Context(), "", 0))
	for _, at := range []struct{ operation, body string }{
		{"create-credential", `{"user":"a","role":"administrator"}`}, {"list-credentials", ""},
		{"delete-credential", `{"access_key":"AAAAAAAAAAAAAAAAAAAA"}`}, {"create-token", "{}"}, {"get-hsm-status", ""},
		{"read-audit-log", "{}"}, {"verify-audit-log", "{}"}, {"export-audit-log", ""},
	} {
		for value, want := range map[string]int{token.Token: http.StatusForbidden, "": http.StatusUnauthorized} {
			req, err := http.NewRequest(http.MethodPost, "http://"+n.cfg.Listen+client.BasePath+at.operation, strings.NewReader(at.body))
			if err != nil {
				t.Fatal(err)
			}
			if value != "" {
				req.Header.Set("X-Auth-Token", value)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s with token %t: %d", at.operation, value != "", res.StatusCode)
			}
		}
	}
	if strings.Count(n.audit(), `"outcome":"Denied"`) != 8 || strings.Count(n.audit(), `"outcome":"Unauthenticated"`) != 8 {
		t.Errorf("the audit log has not all of it:\n%s", n.audit())
	}
}

// TestNamesake: an access key that has the name of a principal with other rights is not made, and told of at start where the
// configuration came later.
func TestNamesake(t *testing.T) {
	n := newNode(t)
	c, stop := n.run()
	must(c.CreateCredential(t.Context(), "app", client.RoleAdministrator))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	n.cfg.Principals = []Principal{{Name: "app", UID: 64123}}
	c, stop = n.run()
	if _, err := c.CreateCredential(t.Context(), "app", client.RoleAdministrator); err == nil || !strings.Contains(err.Error(), "principal of this name") {
		t.Errorf("an access key of a principal's name: %v", err)
	}
	must(c.CreateCredential(t.Context(), "app", client.RoleNone))
	if err := stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(n.log.String(), "name of a principal with another role") {
		t.Errorf("the start does not warn:\n%s", n.log.String())
	}
}
