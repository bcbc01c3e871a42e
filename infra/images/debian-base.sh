#!/usr/bin/env bash
# debian-base.sh [NAME] — makes a base for functions and ledger from Debian 12's packages, where no registry of images
# can be reached; pushes it as NAME where one is given. Needs apt-get, dpkg-deb and buildah or podman (ENGINE).
# There is no shell, no package manager and no pip in it; it says its packages' versions in /packages.
set -euo pipefail
name=${1:-} engine=${ENGINE:-buildah}
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
packages=(base-files ca-certificates media-types netbase tzdata libc6 libgcc-s1 libstdc++6 libcrypt1 zlib1g libexpat1
  libssl3 libbz2-1.0 liblzma5 libffi8 libsqlite3-0 libuuid1
  python3-minimal python3.11-minimal python3.11 libpython3.11-minimal libpython3.11-stdlib)
mkdir "$folder/deb" "$folder/root"
(cd "$folder/deb" && apt-get download -q "${packages[@]}" >&2)
for package in "$folder"/deb/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
cd "$folder/root"
(cd ../deb && ls) | sort > packages
rm -rf usr/share/{doc,man,lintian,bug,locale,python3} usr/lib/python3.11/{test,lib2to3,idlelib,pydoc_data} usr/lib/python3/dist-packages \
  usr/bin/*py3* usr/bin/pydoc* usr/bin/2to3* usr/bin/pygettext* usr/sbin usr/share/{pixmaps,applications,doc-base,binfmts} etc/python3.11
find usr/bin bin -mindepth 1 ! -name 'python3*' -delete 2>/dev/null || true
mkdir -p etc/ssl/certs tmp home/nonroot
find usr/share/ca-certificates/mozilla -name '*.crt' | LC_ALL=C sort | xargs cat > etc/ssl/certs/ca-certificates.crt
printf 'root:x:0:0:root:/:/nonexistent\nnonroot:x:65532:65532:nonroot:/home/nonroot:/nonexistent\n' > etc/passwd
printf 'root:x:0:\nnonroot:x:65532:\n' > etc/group
chmod 1777 tmp
container=$($engine from scratch)
$engine copy -q "$container" "$folder/root" / >/dev/null
$engine config --user 65532 --workingdir / --entrypoint '["/usr/bin/python3"]' --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$container"
$engine commit -q --timestamp 0 "$container" polyshare-base:built >/dev/null
$engine rm "$container" >/dev/null
if [ -n "$name" ]; then
  $engine push -q ${PUSH_ARGS:-} --digestfile "$folder/digest" polyshare-base:built "docker://$name"
  echo "${name%:*}@$(cat "$folder/digest")"
else
  echo localhost/polyshare-base:built
fi
