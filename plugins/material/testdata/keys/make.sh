#!/bin/bash
# Makes the key files of this folder with the tools that people use, and the table that TestKeyFiles reads: file, source, expected.
# Expected is a spec with the SHA-256 of the public key as openssl prints it, or "!" with a part of the reason of the refusal.
# Needs openssl, ssh-keygen, certtool (gnutls-bin), keytool, and NSS's certutil and pk12util (libnss3-tools).
# Files that the table has and this script does not make were made for bug reports of other projects; they keep their rows.
set -eu -o pipefail
cd "$(dirname "$0")"
kept=$(grep -P '\tkept: ' keys.txt || true)
: >keys.txt
tmp=$(mktemp -d); trap 'rm -rf $tmp' EXIT
row() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>keys.txt; }
digest() { openssl pkey -in "$1" -pubout -outform DER | sha256sum | head -c 64; }
good() { row "$1" "$3" "$2 $(digest "${4:-$1}")"; } # FILE SPEC SOURCE [FILE WITH THE SAME KEY]
bad() { row "$1" "$3" "! $2"; }                     # FILE REASON SOURCE
genpkey() { openssl genpkey -quiet "$@" 2>/dev/null || openssl genpkey "$@"; }
ec() { genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$1 -out $2; }

# openssl: algorithms and sizes
for c in P-256:EC_P256 P-384:EC_P384 P-521:EC_P521 secp256k1:SECP256K1; do
	ec ${c%:*} openssl-${c%:*}.pem; good openssl-${c%:*}.pem ${c#*:} "openssl genpkey -algorithm EC"
done
for bits in 2048 3072 4096; do
	genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:$bits -out openssl-rsa$bits.pem 2>/dev/null
	good openssl-rsa$bits.pem RSA_$bits "openssl genpkey -algorithm RSA"
done
for c in brainpoolP256r1:brainpoolP256r1 P-224:P-224 P-192:P-192; do
	ec ${c%:*} openssl-${c%:*}.pem; bad openssl-${c%:*}.pem "on the curve ${c#*:}" "openssl genpkey -algorithm EC"
done
for a in ED25519:Ed25519 X25519:X25519 ED448:Ed448 X448:X448; do
	genpkey -algorithm ${a%:*} -out openssl-${a%:*}.pem; bad openssl-${a%:*}.pem "is a key for ${a#*:}" "openssl genpkey"
done
genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out openssl-rsa-pss.pem 2>/dev/null; bad openssl-rsa-pss.pem "RSASSA-PSS" "openssl genpkey -algorithm RSA-PSS"
openssl dsaparam -genkey -out $tmp/dsa 1024 2>/dev/null; openssl pkcs8 -topk8 -nocrypt -in $tmp/dsa -out openssl-dsa.pem
bad openssl-dsa.pem "is a key for DSA" "openssl dsaparam -genkey"
genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out openssl-rsa1024.pem 2>/dev/null; bad openssl-rsa1024.pem "RSA key of 1024 bits" "openssl genpkey"
genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3 -out openssl-rsa-e3.pem 2>/dev/null; bad openssl-rsa-e3.pem "public exponent 3" "openssl genpkey, exponent 3"
genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_primes:3 -out openssl-three-primes.pem 2>/dev/null; bad openssl-three-primes.pem "three or more primes" "openssl genpkey, three primes"

# openssl: forms of the same keys
p=openssl-P-256.pem r=openssl-rsa2048.pem
openssl rsa -in $r -traditional -out openssl-pkcs1.pem 2>/dev/null; good openssl-pkcs1.pem RSA_2048 "openssl rsa -traditional"
openssl rsa -in $r -traditional -outform DER -out openssl-pkcs1.der 2>/dev/null; good openssl-pkcs1.der RSA_2048 "openssl rsa -traditional -outform DER" $r
openssl pkcs8 -topk8 -nocrypt -in $p -outform DER -out openssl-pkcs8.der; good openssl-pkcs8.der EC_P256 "openssl pkcs8 -topk8 -outform DER" $p
openssl pkcs8 -topk8 -nocrypt -in $r -outform DER -out openssl-rsa-pkcs8.der; good openssl-rsa-pkcs8.der RSA_2048 "openssl pkcs8 -topk8 -outform DER" $r
openssl ec -in $p -outform DER -out openssl-sec1.der 2>/dev/null; good openssl-sec1.der EC_P256 "openssl ec -outform DER" $p
openssl ecparam -name secp384r1 -genkey -out openssl-ecparam.pem; good openssl-ecparam.pem EC_P384 "openssl ecparam -genkey: EC PARAMETERS in front"
openssl ecparam -name secp256k1 -genkey -noout -out openssl-ecparam-noout.pem; good openssl-ecparam-noout.pem SECP256K1 "openssl ecparam -genkey -noout"
openssl ec -in $p -no_public -out openssl-no-public.pem 2>/dev/null; good openssl-no-public.pem EC_P256 "openssl ec -no_public"
openssl pkcs8 -topk8 -nocrypt -in openssl-no-public.pem -out openssl-no-public-pkcs8.pem; good openssl-no-public-pkcs8.pem EC_P256 "openssl ec -no_public, as PKCS #8"
for form in compressed hybrid; do
	openssl ec -in $p -conv_form $form -out openssl-$form.pem 2>/dev/null; good openssl-$form.pem EC_P256 "openssl ec -conv_form $form" $p
done
openssl ec -in $p -param_enc explicit -out openssl-explicit.pem 2>/dev/null; bad openssl-explicit.pem "parameters of its curve" "openssl ec -param_enc explicit"
openssl pkcs8 -topk8 -nocrypt -in openssl-explicit.pem -outform DER -out openssl-explicit.der; bad openssl-explicit.der "parameters of its curve" "openssl ec -param_enc explicit, as PKCS #8"
openssl pkcs8 -topk8 -in $p -passout pass:secret -out openssl-locked.pem; bad openssl-locked.pem passphrase "openssl pkcs8 -topk8"
openssl pkcs8 -topk8 -in $r -passout pass:secret -outform DER -out openssl-locked.der; bad openssl-locked.der passphrase "openssl pkcs8 -topk8 -outform DER"
openssl rsa -in $r -traditional -aes256 -passout pass:secret -out openssl-locked-pkcs1.pem 2>/dev/null; bad openssl-locked-pkcs1.pem passphrase "openssl rsa -aes256 -traditional"
openssl ec -in $p -aes256 -passout pass:secret -out openssl-locked-sec1.pem 2>/dev/null; bad openssl-locked-sec1.pem passphrase "openssl ec -aes256"
openssl rsa -in $r -outform MSBLOB -out openssl-msblob 2>/dev/null; bad openssl-msblob "blob of Windows" "openssl rsa -outform MSBLOB"
openssl rsa -in $r -outform PVK -pvk-none -out openssl-pvk 2>/dev/null; bad openssl-pvk "PVK" "openssl rsa -outform PVK"
openssl pkey -in $p -text -out openssl-text.pem; good openssl-text.pem EC_P256 "openssl pkey -text: text behind the block"
{ openssl pkey -in $r -text -noout; cat $r; } >openssl-text-first.pem; good openssl-text-first.pem RSA_2048 "openssl pkey -text -noout, then the key"

# openssl: beside certificates
openssl req -new -x509 -key $p -subj "/CN=Müller" -utf8 -days 9999 -out openssl-certificate.pem; bad openssl-certificate.pem 'no private key but "CERTIFICATE"' "openssl req -x509"
openssl req -new -key $p -subj /CN=x -out openssl-request.pem; bad openssl-request.pem 'no private key but "CERTIFICATE REQUEST"' "openssl req -new"
openssl x509 -in openssl-certificate.pem -outform DER -out openssl-certificate.der; bad openssl-certificate.der "holds a certificate" "openssl x509 -outform DER"
openssl pkey -in $p -pubout -out openssl-public.pem; bad openssl-public.pem 'no private key but "PUBLIC KEY"' "openssl pkey -pubout"
openssl pkey -in $p -pubout -outform DER -out openssl-public.der; bad openssl-public.der "holds a public key" "openssl pkey -pubout -outform DER"
cat openssl-certificate.pem $p >cat-certificate-key.pem; good cat-certificate-key.pem EC_P256 "cat certificate key"
cat $p openssl-certificate.pem openssl-certificate.pem >cat-key-chain.pem; good cat-key-chain.pem EC_P256 "cat key certificates, as HAProxy wants it"
openssl pkcs12 -export -in openssl-certificate.pem -inkey $p -name 'Schlüssel -----' -passout pass:secret -out openssl.p12; bad openssl.p12 "PKCS #12" "openssl pkcs12 -export"
openssl pkcs12 -in openssl.p12 -passin pass:secret -nodes -out openssl-pkcs12-nodes.pem; good openssl-pkcs12-nodes.pem EC_P256 "openssl pkcs12 -nodes: Bag Attributes" $p
openssl pkcs12 -in openssl.p12 -passin pass:secret -nodes -nocerts -out openssl-pkcs12-nocerts.pem; good openssl-pkcs12-nocerts.pem EC_P256 "openssl pkcs12 -nodes -nocerts" $p

# editors
sed 's/$/\r/' $r >editor-crlf.pem; good editor-crlf.pem RSA_2048 "an editor on Windows: CRLF" $r
{ printf '\xef\xbb\xbf'; sed 's/$/\r/' $p; } >editor-bom-crlf.pem; good editor-bom-crlf.pem EC_P256 "an editor on Windows: byte order mark and CRLF" $p
iconv -f UTF-8 -t UTF-16 $p >editor-utf16.pem; bad editor-utf16.pem UTF-16 "PowerShell's >"
sed 's/^/    /' $p >yaml-indented.pem; bad yaml-indented.pem "first column" "copied from a YAML file"
sed -z 's/\n/\\n/g' $p >json-escaped.pem; bad json-escaped.pem 'has \n' "copied from a JSON file"
head -c 150 $p >cut.pem; bad cut.pem "cut off or damaged" "half of a file"
grep -v -- ----- $p | tr -d '\n' >base64.txt; bad base64.txt "base64 of DER" "the lines between PEM's, copied alone"

# ssh-keygen
ssh() { rm -f $1 $1.pub; ssh-keygen -q -C me -f $1 "${@:2}"; rm -f $1.pub; }
ssh ssh-rsa-pem -t rsa -b 2048 -m PEM -N ''; good ssh-rsa-pem RSA_2048 "ssh-keygen -t rsa -m PEM"
ssh ssh-rsa-pkcs8 -t rsa -b 2048 -m PKCS8 -N ''; good ssh-rsa-pkcs8 RSA_2048 "ssh-keygen -t rsa -m PKCS8"
ssh ssh-ecdsa-pem -t ecdsa -b 384 -m PEM -N ''; good ssh-ecdsa-pem EC_P384 "ssh-keygen -t ecdsa -m PEM"
ssh ssh-ecdsa-pkcs8 -t ecdsa -b 521 -m PKCS8 -N ''; good ssh-ecdsa-pkcs8 EC_P521 "ssh-keygen -t ecdsa -m PKCS8"
ssh ssh-ecdsa -t ecdsa -N ''; bad ssh-ecdsa "OpenSSH's own format" "ssh-keygen -t ecdsa"
ssh ssh-ed25519 -t ed25519 -N ''; bad ssh-ed25519 "OpenSSH's own format" "ssh-keygen -t ed25519"
ssh ssh-locked -t ecdsa -N secret; bad ssh-locked "OpenSSH's own format" "ssh-keygen with a passphrase"
ssh ssh-locked-pem -t rsa -b 2048 -m PEM -N secret; bad ssh-locked-pem passphrase "ssh-keygen -m PEM with a passphrase"
ssh ssh-locked-pkcs8 -t ecdsa -m PKCS8 -N secret; bad ssh-locked-pkcs8 passphrase "ssh-keygen -m PKCS8 with a passphrase"
ssh-keygen -y -f ssh-ecdsa >ssh-public; bad ssh-public "without .pub" "ssh-keygen -y"
ssh-keygen -e -f ssh-ecdsa >ssh-rfc4716; bad ssh-rfc4716 "RFC 4716" "ssh-keygen -e"

# certtool (GnuTLS), which pads scalars with a zero for half of the keys, and writes a text in front of the block
padded=
for i in $(seq 40); do
	certtool --generate-privkey --key-type ecc --curve secp256r1 --outfile $tmp/ec 2>/dev/null
	if openssl asn1parse -in $tmp/ec 2>/dev/null | grep -q 'OCTET STRING.*:00' || openssl asn1parse -in <(sed -n '/BEGIN/,$p' $tmp/ec) | grep -q 'l= *33 prim: OCTET'; then padded=1; mv $tmp/ec certtool-33-bytes.pem; break; fi
done
[ -n "$padded" ] && good certtool-33-bytes.pem EC_P256 "certtool --generate-privkey: a scalar of 33 bytes"
certtool --generate-privkey --key-type ecc --curve secp384r1 --no-text --outfile certtool-p384.pem 2>/dev/null; good certtool-p384.pem EC_P384 "certtool --generate-privkey --no-text"
certtool --generate-privkey --key-type ecc --curve secp521r1 --outder --outfile certtool-p521.der 2>/dev/null; good certtool-p521.der EC_P521 "certtool --generate-privkey --outder"
certtool --generate-privkey --key-type rsa --bits 2048 --outfile certtool-rsa.pem 2>/dev/null; good certtool-rsa.pem RSA_2048 "certtool --generate-privkey"
certtool --generate-privkey --key-type rsa --bits 2048 --provable --outfile certtool-provable.pem 2>/dev/null; good certtool-provable.pem RSA_2048 "certtool --provable: attributes behind the key"
certtool --generate-privkey --key-type ed25519 --outfile certtool-ed25519.pem 2>/dev/null; bad certtool-ed25519.pem "Ed25519" "certtool --generate-privkey --key-type ed25519"
certtool --generate-privkey --key-type rsa --bits 2048 --pkcs8 --password secret --outfile certtool-locked.pem 2>/dev/null; bad certtool-locked.pem passphrase "certtool --pkcs8 --password"

# keytool
store() { keytool -genkeypair -keystore $1 -storepass secret1 -keypass secret1 -alias k -dname CN=x "${@:2}" 2>/dev/null; }
rm -f keytool.p12 keytool.jks
store keytool.p12 -storetype PKCS12 -keyalg EC -groupname secp256r1; bad keytool.p12 "PKCS #12" "keytool -genkeypair"
openssl pkcs12 -in keytool.p12 -passin pass:secret1 -nodes -out keytool-ec.pem; good keytool-ec.pem EC_P256 "keytool, openssl pkcs12 -nodes"
store $tmp/rsa.p12 -storetype PKCS12 -keyalg RSA -keysize 2048; openssl pkcs12 -in $tmp/rsa.p12 -passin pass:secret1 -nodes -out keytool-rsa.pem
good keytool-rsa.pem RSA_2048 "keytool, openssl pkcs12 -nodes"
store keytool.jks -storetype JKS -keyalg EC -groupname secp256r1; bad keytool.jks "JKS" "keytool -genkeypair -storetype JKS"

# NSS
mkdir $tmp/nss; certutil -N -d sql:$tmp/nss --empty-password
for k in rsa:RSA_2048 ec:EC_P256; do
	more="-g 2048"; [ ${k%:*} = ec ] && more="-q nistp256"
	head -c 60 /dev/urandom >$tmp/noise
	certutil -S -d sql:$tmp/nss -n ${k%:*} -s CN=x -x -t ,, -k ${k%:*} $more -z $tmp/noise >/dev/null 2>&1
	pk12util -o $tmp/nss-${k%:*}.p12 -n ${k%:*} -d sql:$tmp/nss -W secret >/dev/null
	openssl pkcs12 -in $tmp/nss-${k%:*}.p12 -passin pass:secret -nodes -out nss-${k%:*}.pem; good nss-${k%:*}.pem ${k#*:} "NSS certutil -S, pk12util -o, openssl pkcs12 -nodes"
done
cp $tmp/nss-ec.p12 nss.p12; bad nss.p12 "PKCS #12" "NSS pk12util -o"
printf '%s\n' "$kept" >>keys.txt
