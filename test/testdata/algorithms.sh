#!/bin/bash
# usage: algorithms.sh KEY...
# Signs the file big with each algorithm of each key, which is named ec… or rsa…; openssl and Keyside verify.
set -eu -o pipefail
for key; do
  keyside public-key $key --out $key.pem
  for n in 256 384 512; do
    case $key in
      ec*) schemes='ECDSA' ;;
      rsa*) schemes='RSASSA_PSS RSASSA_PKCS1_V1_5' ;;
    esac
    for scheme in $schemes; do
      opt=()
      [ $scheme != RSASSA_PSS ] || opt=(-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest)
      sig=$key.$scheme.$n
      keyside sign --key $key --algorithm ${scheme}_SHA_$n --in big --out $sig
      openssl dgst -sha$n -verify $key.pem -signature $sig "${opt[@]}" big
      keyside verify --key $key --algorithm ${scheme}_SHA_$n --in big --signature $sig >/dev/null
    done
  done
done
