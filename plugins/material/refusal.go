package material

import (
	"encoding/asn1"
	"fmt"
	"strings"
)

// Refusal is the error of a file that holds no private key that can be imported. It quotes nothing of the file but the names of its
// parts. Drivers do not show it: see OpenPrivateKey.
type Refusal struct {
	Reason     string // follows the name of the file: "is encrypted with a passphrase"
	Command    string // makes a file that can be imported; FILE stands for the name of the file; empty: there is none
	Passphrase bool   // the file is encrypted
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Command == "" {
		return r.Reason
	}
	return r.Reason + "; convert it: " + r.Command
}

func refuse(format string, args ...any) *Refusal {
	return &Refusal{Reason: fmt.Sprintf(format, args...)}
}

// Refusals of whole forms, with the commands that convert them.
var (
	// ErrNoKey is the refusal of a file that is of no known form.
	ErrNoKey = &Refusal{Reason: "is not a private key in PEM or DER"}

	errLocked    = &Refusal{Reason: "is encrypted with a passphrase", Command: "openssl pkey -in FILE -out plain.pem", Passphrase: true}
	errOpenSSH   = &Refusal{Reason: "is a private key in OpenSSH's own format", Command: "install -m 600 FILE plain.pem && ssh-keygen -p -N '' -m PKCS8 -f plain.pem"}
	errPKCS12    = &Refusal{Reason: "is a PKCS #12 store", Command: "openssl pkcs12 -in FILE -nocerts -nodes -out plain.pem", Passphrase: true}
	errExplicit  = &Refusal{Reason: "writes the parameters of its curve out instead of the curve's name", Command: "openssl ec -in FILE -param_enc named_curve -out plain.pem"}
	errPSS       = &Refusal{Reason: "is an RSA key that may only sign with RSASSA-PSS, and an imported key may use every padding", Command: "openssl rsa -traditional -in FILE -outform DER -out plain.der"}
	errMalformed = &Refusal{Reason: "is not valid DER, or more bytes follow the key", Command: "openssl pkey -in FILE -out plain.pem"}
	errDamaged   = refuse("has a PEM block that is cut off or damaged")
	errIndented  = &Refusal{Reason: "has PEM lines that do not begin in the first column", Command: "sed 's/^[ \\t]*//' FILE > plain.pem"}
	errEscaped   = &Refusal{Reason: `has \n in the place of line ends`, Command: `printf '%b' "$(cat FILE)" > plain.pem`}
)

// forms are files that are neither PEM nor the DER of a private key, by their first bytes.
var forms = []struct {
	begin   string
	refusal *Refusal
}{
	{"\xff\xfe", &Refusal{Reason: "is UTF-16 text", Command: "iconv -f UTF-16 -t UTF-8 FILE > plain.pem"}},
	{"\xfe\xff", &Refusal{Reason: "is UTF-16 text", Command: "iconv -f UTF-16 -t UTF-8 FILE > plain.pem"}},
	{"\xfe\xed\xfe\xed", &Refusal{Reason: "is a Java key store (JKS)", Command: "keytool -importkeystore -srckeystore FILE -destkeystore plain.p12 -deststoretype PKCS12 && openssl pkcs12 -in plain.p12 -nocerts -nodes -out plain.pem", Passphrase: true}},
	{"openssh-key-v1\x00", errOpenSSH},
	{"PuTTY-User-Key-File-", &Refusal{Reason: "is a private key in PuTTY's own format", Command: "puttygen FILE -O private-openssh-new -o plain.pem && ssh-keygen -p -N '' -m PKCS8 -f plain.pem"}},
	{"---- BEGIN SSH2", refuse("is a key in the format of SSH2 (RFC 4716)")},
	{"ssh-", refuse("is a public key of OpenSSH: the private key is the file without .pub")},
	{"ecdsa-sha2-", refuse("is a public key of OpenSSH: the private key is the file without .pub")},
	{"AGE-SECRET-KEY-", refuse("is a key of age (X25519)")},
	{"\x1e\xf1\xb5\xb0", &Refusal{Reason: "is a PVK file", Command: "openssl rsa -inform PVK -in FILE -out plain.pem"}},
	{"\x07\x02\x00\x00", &Refusal{Reason: "is a key blob of Windows", Command: "openssl rsa -inform MSBLOB -in FILE -out plain.pem"}},
}

// curves are names of curves on which no key can be imported.
var curves = map[string]string{
	"1.2.840.10045.3.1.1": "P-192", "1.3.132.0.33": "P-224", "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
	"1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1", "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1", "1.2.156.10197.1.301": "SM2",
}

// algorithms are names of algorithms whose keys cannot be imported.
var algorithms = map[string]string{
	"1.2.840.113549.1.1.7": "RSAES-OAEP", "1.2.840.10040.4.1": "DSA", "1.2.840.113549.1.3.1": "Diffie-Hellman", "1.2.840.10046.2.1": "Diffie-Hellman",
	"1.3.101.110": "X25519", "1.3.101.111": "X448", "1.3.101.112": "Ed25519", "1.3.101.113": "Ed448", "1.3.132.1.12": "id-ecDH",
	"2.16.840.1.101.3.4.3.17": "ML-DSA-44", "2.16.840.1.101.3.4.3.18": "ML-DSA-65", "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
	"2.16.840.1.101.3.4.4.1": "ML-KEM-512", "2.16.840.1.101.3.4.4.2": "ML-KEM-768", "2.16.840.1.101.3.4.4.3": "ML-KEM-1024",
}

// named returns the name of an object identifier with its number.
func named(names map[string]string, oid asn1.ObjectIdentifier) string {
	if name := names[oid.String()]; name != "" {
		return fmt.Sprintf("%s (%s)", name, oid)
	}
	return oid.String()
}

// listed joins names without repetitions.
func listed(names []string) string {
	var once []string
	seen := map[string]bool{}
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			once = append(once, name)
		}
	}
	return strings.Join(once, ", ")
}
