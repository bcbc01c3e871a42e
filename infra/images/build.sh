#!/usr/bin/env bash
# build.sh IMAGE [NAME] — builds the image functions or ledger (infra/images/functions), pushes it as NAME where one is given
# (registry/path:tag), and prints its reference by digest; without NAME, the digest alone.
#
# The same sources and the same BASE give the same digest. Variables:
#   BASE        another base image, by digest (the Containerfile says what it must have)
#   ENGINE      podman, buildah or docker [the first that is there]; may bring global options of its own
#   BUILD_ARGS  further options of the engine's build, PUSH_ARGS of its push
set -euo pipefail
image=${1:?which image: functions or ledger} name=${2:-}
cd "$(dirname "$0")/../.."
export SOURCE_DATE_EPOCH=0 PATH=$PWD/.venv/bin:$PATH
[ "$image" = functions ] || [ "$image" = ledger ] || { echo "the images are functions and ledger" >&2; exit 64; }
[ -x .venv/bin/uv ] || { echo "run make setup first" >&2; exit 1; }
engine=${ENGINE:-$(basename "$(command -v podman || command -v buildah || command -v docker)")}
[ -n "$engine" ] || { echo "no podman, buildah or docker is on the PATH" >&2; exit 1; }

# The machine that the image is for, whatever this one is: wheels only, by their hashes.
machine=$(uname -m)
context=.make/images/$image
rm -rf "$context" && mkdir -p "$context/app" "$context/bin"
ln -s /usr/bin/python3 "$context/bin/python"
uv pip install -q --target "$context/app" --python-version 3.11 --python-platform "$machine-manylinux_2_36" \
  --only-binary :all: --require-hashes --no-compile --link-mode copy -r "requirements/$image.txt"
uv build -q --wheel --no-build-isolation --python .venv/bin/python --out-dir "$context"
python -m zipfile -e "$context"/polyshare-*.whl "$context/app"
rm -rf "$context"/polyshare-*.whl "$context/app/bin"
# What tells of this machine and this hour, and what is never run.
find "$context/app" \( -name direct_url.json -o -name uv_cache.json -o -name REQUESTED -o -name INSTALLER -o -name '.lock' \) -delete
find "$context/app" -type d \( -name __pycache__ -o -name tests -o -name test -o -name SelfTest \) -prune -exec rm -rf {} +
find "$context/app" \( -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' \) -delete
# Of AWS's four hundred services, those that are called: 27 MB less.
find "$context/app/botocore/data" -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name kms -exec rm -rf {} +
find "$context/app" -exec chmod u=rwX,go=rX {} +

tag=polyshare-$image:built
arguments=(-f infra/images/functions/Containerfile ${BASE:+--build-arg "BASE=$BASE"} ${BUILD_ARGS:-})
if [[ $engine == *docker* ]]; then  # BuildKit: the image goes straight to the registry, or into an archive
  output=type=oci,dest=$context/image.tar,rewrite-timestamp=true
  [ -z "$name" ] || output=type=image,name=$name,push=true,rewrite-timestamp=true
  $engine buildx build --no-cache --provenance=false "${arguments[@]}" --metadata-file "$context/metadata" -o "$output" "$context" >&2
  digest=$(python -c 'import json,sys; print(json.load(open(sys.argv[1]))["containerimage.digest"])' "$context/metadata")
else
  build=bud; [[ $engine == *podman* ]] && build=build
  $engine "$build" -q --timestamp "$SOURCE_DATE_EPOCH" "${arguments[@]}" -t "$tag" "$context" >/dev/null
  to=${name:+docker://$name}
  $engine push -q ${PUSH_ARGS:-} --digestfile "$context/digest" "$tag" "${to:-oci:$context/oci}"
  digest=$(cat "$context/digest")
fi
echo "${name:+${name%:*}@}$digest"
