package imports

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

// guide writes the openssl commands that wrap material for a key, as a shell script.
type guide struct {
	verb.Profile
	key, spec string // id and spec of the key
	algorithm string
	dir       string            // of all files
	written   map[string]string // file names, by form
}

// curveName returns openssl's name of the curve of a spec.
func curveName(s *driver.Spec) string {
	if s.Curve != nil {
		return s.Curve.Params().Name
	}
	return strings.ToLower(s.Name) // secp256k1, which Go does not implement
}

// paddings are openssl's options for the RSA blocks of each algorithm. By default MGF1 uses OAEP's hash.
var paddings = map[string]string{
	"RSAES_PKCS1_V1_5":         "-pkeyopt rsa_padding_mode:pkcs1",
	"RSAES_OAEP_SHA_1":         "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha1",
	"RSAES_OAEP_SHA_256":       "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256",
	"RSA_AES_KEY_WRAP_SHA_1":   "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha1",
	"RSA_AES_KEY_WRAP_SHA_256": "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256",
}

// File names on which the guides agree.
const (
	plainFile   = "PlaintextKeyMaterial.bin"
	wrappedFile = "EncryptedKeyMaterial.bin"
	tempFile    = "TemporaryKey.bin"
)

// privateFile returns the name of the file with a wrapped private key. That of RSA is from Huawei's guide.
func privateFile(spec string) string {
	if strings.HasPrefix(spec, "RSA_") {
		return "out_rsa_private_key.der"
	}
	return "out_ec_private_key.der"
}

// enc reports whether openssl enc wraps the material.
func (g *guide) enc() bool { return g.OpensslEnc && keyWrap(g.algorithm) }

// at returns the path of a file, quoted for a shell.
func (g *guide) at(name string) string { return verb.ShellQuote(filepath.Join(g.dir, name)) }

// script returns the commands, with comments for the reader.
func (g *guide) script() string {
	lines := []string{"umask 077"}
	handIn := fmt.Sprintf("keyside import %s --material %s --token %s", g.key, g.at(wrappedFile), g.at(g.written["token"]))
	switch {
	case symmetric(g.spec) && (!keyWrap(g.algorithm) || g.enc()):
		lines = append(lines, g.makeMaterial()...)
		lines = append(lines, g.block(plainFile, wrappedFile))
	case !keyWrap(g.algorithm):
		file := privateFile(g.spec)
		lines = append(lines, g.makeMaterial()...)
		lines = append(lines, g.container(file)...)
		lines = append(lines, g.block(tempFile, wrappedFile))
		handIn += " --private-key " + g.at(file)
	default:
		lines = append(lines, g.makeMaterial()...)
		lines = append(lines, g.container("WrappedKey.bin")...)
		lines = append(lines, g.block(tempFile, "WrappedTemporaryKey.bin"),
			fmt.Sprintf("cat %s %s > %s", g.at("WrappedTemporaryKey.bin"), g.at("WrappedKey.bin"), g.at(wrappedFile)))
	}
	if g.Repeat {
		handIn += " --repeat"
	}
	lines = append(lines, handIn, fmt.Sprintf("# Store %s in your vault: only with it can the material be imported again once it is deleted or expires. Then delete the rest of %s.",
		g.at(g.source()), verb.ShellQuote(g.dir)))
	return strings.Join(lines, "\n") + "\n"
}

// source returns the name of the file with the plain material.
func (g *guide) source() string {
	switch {
	case symmetric(g.spec):
		return plainFile
	case g.enc():
		return "private_key.pem"
	}
	return "private_key.der"
}

func (g *guide) makeMaterial() []string {
	lines := []string{"# your material: this generates it; skip it if you have the file", ""}
	spec := driver.SpecNamed(g.spec)
	if spec.Family == driver.AES {
		lines[1] = fmt.Sprintf("openssl rand -out %s %d", g.at(plainFile), spec.Size())
		return lines
	}
	kind := fmt.Sprintf("RSA -pkeyopt rsa_keygen_bits:%d", spec.Bits)
	if spec.Family == driver.EC {
		kind = "EC -pkeyopt ec_paramgen_curve:" + curveName(spec)
	}
	lines[1] = fmt.Sprintf("openssl genpkey -algorithm %s -out %s", kind, g.at("private_key.pem"))
	if g.source() == "private_key.der" {
		lines = append(lines, fmt.Sprintf("openssl pkcs8 -topk8 -nocrypt -inform PEM -in %s -outform DER -out %s", g.at("private_key.pem"), g.at("private_key.der")))
	}
	return lines
}

// container returns the commands that wrap the source under a temporary key.
func (g *guide) container(out string) []string {
	if g.enc() {
		return []string{
			"# -pass reads its file up to the first zero byte or line end: the temporary key has neither (OpenSSL 1.1.1 or later)",
			"openssl rand 99 | tr -d '\\000\\n' | head -c 32 > " + g.at(tempFile),
			fmt.Sprintf("openssl enc -aes-256-cbc -salt -in %s -out %s -pass file:%s -pbkdf2 -iter 10", g.at(g.source()), g.at(out), g.at(tempFile)),
		}
	}
	return []string{
		"# OpenSSL 3.0 or later (1.1 needs a patch for -id-aes256-wrap-pad). -K shows the temporary key in the list of processes.",
		"# This command writes the same files without openssl:",
		fmt.Sprintf("#   keyside import wrap --from %s --wrapping-key %s --algorithm %s --out %s", g.at(g.source()), g.at(g.written[g.Command]), g.algorithm, verb.ShellQuote(g.dir)),
		fmt.Sprintf("openssl rand -out %s 32", g.at(tempFile)),
		fmt.Sprintf(`openssl enc -id-aes256-wrap-pad -K "$(od -An -v -tx1 %s | tr -d ' \n')" -iv A65959A6 -in %s -out %s`, g.at(tempFile), g.at(g.source()), g.at(out)),
	}
}

// block returns the command that encrypts a file with the wrapping key.
func (g *guide) block(in, out string) string {
	form := ""
	if g.Command == "der" {
		form = " -keyform der"
	}
	return fmt.Sprintf("openssl pkeyutl -in %s -inkey %s -out %s%s -pubin -encrypt %s", g.at(in), g.at(g.written[g.Command]), g.at(out), form, paddings[g.algorithm])
}

// readme returns the text of the README that the cloud's console downloads, and the commands.
func (g *guide) readme(spec, expires, warning string) string {
	text := fmt.Sprintf(`Key ID: %s
Key spec: %s
Wrapping algorithm: %s
Wrapping key spec: %s
Wrapping key: %s (DER), %s (base64), %s (PEM)
Import token: %s
Wrapping key and token expire: %s
`, g.key, g.spec, g.algorithm, spec, g.written["der"], g.written["base64"], g.written["pem"], g.written["token"], expires)
	if warning != "" {
		text += "Warning: " + warning + "\n"
	}
	return text + "\nCommands that wrap material and import it:\n\n" + g.script()
}
