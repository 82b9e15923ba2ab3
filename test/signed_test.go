package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// signer makes Huawei Cloud's signatures by their description, without any code of Keyside's.
type signer struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// sign adds X-Sdk-Date and Authorization for a request that has no query of more than one parameter.
func (s signer) sign(r *http.Request, body string, at time.Time) {
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	date := at.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Sdk-Date", date)
	signed := []string{"content-type", "host", "x-sdk-date"}
	headers := "content-type:" + r.Header.Get("Content-Type") + "\nhost:" + r.Host + "\nx-sdk-date:" + date + "\n"
	canonical := strings.Join([]string{
		r.Method, strings.TrimSuffix(r.URL.Path, "/") + "/", r.URL.RawQuery, headers, strings.Join(signed, ";"), digest(body),
	}, "\n")
	mac := hmac.New(sha256.New, []byte(s.SecretKey))
	mac.Write([]byte("SDK-HMAC-SHA256\n" + date + "\n" + digest(canonical)))
	r.Header.Set("Authorization", "SDK-HMAC-SHA256 Access="+s.AccessKey+", SignedHeaders="+strings.Join(signed, ";")+
		", Signature="+hex.EncodeToString(mac.Sum(nil)))
}

// cmdRequest sends a request to $ENDPOINT and expects a status and a text in the answer:
//
//	request STATUS TEXT METHOD PATH [BODY] [OPTION...]
//
// Options: by=FILE signs with the access key that `credential create --json` wrote; minutes=N signs as of so many minutes
// from now; spoil=body or spoil=secret makes the signature wrong; token=T, origin=O and host=H set those headers; keep=FILE
// writes the answer's body to a file.
func cmdRequest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: request STATUS TEXT METHOD PATH [BODY] [OPTION...]")
	}
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	body, options := "", map[string]string{}
	for _, arg := range args[4:] {
		name, value, isOption := strings.Cut(arg, "=")
		if isOption && slices.Contains([]string{"by", "minutes", "spoil", "token", "origin", "host", "keep"}, name) {
			options[name] = value
		} else {
			body = arg
		}
	}
	r, err := http.NewRequest(args[2], ts.Getenv("ENDPOINT")+args[3], strings.NewReader(body))
	ts.Check(err)
	r.Header.Set("Content-Type", "application/json")
	for name, header := range map[string]string{"token": "X-Auth-Token", "origin": "Origin"} {
		if options[name] != "" {
			r.Header.Set(header, options[name])
		}
	}
	if options["host"] != "" {
		r.Host = options["host"]
	}
	if options["by"] != "" {
		var s signer
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(options["by"])), &s))
		minutes, _ := strconv.Atoi(options["minutes"]) // none: 0
		sent := body
		switch options["spoil"] {
		case "body":
			sent += " "
		case "secret":
			s.SecretKey = strings.ToUpper(s.SecretKey) + "x"
		}
		s.sign(r, sent, time.Now().Add(time.Duration(minutes)*time.Minute))
	}
	res, err := http.DefaultClient.Do(r)
	ts.Check(err)
	answer, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Check(res.Body.Close())
	if res.StatusCode != status || !strings.Contains(string(answer), args[1]) {
		ts.Fatalf("%s %s: %d %s, want %d with %s", args[2], args[3], res.StatusCode, answer, status, args[1])
	}
	if options["keep"] != "" {
		ts.Check(os.WriteFile(ts.MkAbs(options["keep"]), answer, 0o600))
	}
}
