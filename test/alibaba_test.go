package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// signACS3 adds Alibaba Cloud's headers to a request without a body, by their description, without any code of Keyside's.
func (s signer) signACS3(r *http.Request, action string, at time.Time) {
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	for name, value := range map[string]string{
		"x-acs-action": action, "x-acs-version": "2016-01-20", "x-acs-date": at.UTC().Format("2006-01-02T15:04:05Z"),
		"x-acs-signature-nonce": at.String(), "x-acs-content-sha256": digest(""),
	} {
		r.Header.Set(name, value)
	}
	names := []string{"host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"}
	lines := []string{r.Method, "/", strings.NewReplacer("+", "%20", "*", "%2A").Replace(r.URL.Query().Encode()), "host:" + r.Host}
	for _, name := range names[1:] {
		lines = append(lines, name+":"+r.Header.Get(name))
	}
	canonical := strings.Join(append(lines, "", strings.Join(names, ";"), digest("")), "\n")
	mac := hmac.New(sha256.New, []byte(s.SecretKey))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + digest(canonical)))
	r.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential="+s.AccessKey+",SignedHeaders="+strings.Join(names, ";")+
		",Signature="+hex.EncodeToString(mac.Sum(nil)))
}

// cmdAlibaba does an action of Alibaba Cloud's API at $ENDPOINT, signed with the access key in the file $SIGNER:
//
//	alibaba ok|CODE ACTION [NAME=VALUE...] [NAME@FILE...]
//
// A parameter with @ is what a file holds. Each text of the answer, also those in the one object that it may have, is written into a
// file of its name in the folder answer.
func cmdAlibaba(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: alibaba ok|CODE ACTION [NAME=VALUE...] [NAME@FILE...]")
	}
	query := url.Values{}
	for _, arg := range args[2:] {
		i := strings.IndexAny(arg, "=@")
		if i < 0 {
			ts.Fatalf("%s is no parameter", arg)
		}
		value := arg[i+1:]
		if arg[i] == '@' {
			value = strings.TrimSpace(ts.ReadFile(value))
		}
		query.Set(arg[:i], value)
	}
	r, err := http.NewRequest(http.MethodPost, ts.Getenv("ENDPOINT")+"/?"+query.Encode(), http.NoBody)
	ts.Check(err)
	var s signer
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(ts.Getenv("SIGNER"))), &s))
	s.signACS3(r, args[1], time.Now())
	res, err := http.DefaultClient.Do(r)
	ts.Check(err)
	text, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Check(res.Body.Close())
	var answer map[string]any
	ts.Check(json.Unmarshal(text, &answer))
	code, failed := answer["Code"].(string)
	if ok := args[0] == "ok"; ok && (failed || res.StatusCode != http.StatusOK) || !ok && (code != args[0] || res.StatusCode < 400) {
		ts.Fatalf("%s: %d %s, want %s", strings.Join(args[1:], " "), res.StatusCode, text, args[0])
	}
	ts.Check(os.MkdirAll(ts.MkAbs("answer"), 0o700))
	writeTexts(ts, answer)
}

func writeTexts(ts *testscript.TestScript, members map[string]any) {
	for name, value := range members {
		switch value := value.(type) {
		case string:
			ts.Check(os.WriteFile(filepath.Join(ts.MkAbs("answer"), name), []byte(value+"\n"), 0o600))
		case map[string]any:
			writeTexts(ts, value)
		}
	}
}
