#!/bin/sh
# test.sh [FOLDER…]: checks the modules and examples: format, validity, `terraform test`, tflint with all its rules, and that the READMEs
# are fresh. Says what is missing; without terraform, or its providers, it ends with 77. See docs/deploy.md for where to get them.
set -eu
cd "$(dirname "$0")"
has() { command -v "$1" >/dev/null 2>&1; }
has terraform || { echo "terraform is not here: install it (1.9 or newer) to test infra/terraform" >&2; exit 77; }
export TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1
terraform fmt -check -recursive -diff
for folder in "${@:-modules/* examples/kubernetes examples/aws/cloud examples/aws/workloads}"; do
  for part in $folder; do
    echo "== $part"
    terraform -chdir="$part" init -backend=false -input=false -no-color >/tmp/terraform-init.$$ 2>&1 ||
      { echo "the providers of $part can't be had here:" >&2; cat /tmp/terraform-init.$$ >&2; rm -f /tmp/terraform-init.$$; exit 77; }
    rm -f /tmp/terraform-init.$$
    terraform -chdir="$part" validate -no-color
    [ ! -d "$part/tests" ] || terraform -chdir="$part" test -no-color
    ! has tflint || tflint --config="$PWD/.tflint.hcl" --chdir="$part"
    ! has terraform-docs || terraform-docs -c .terraform-docs.yml --output-check "$part"
  done
done
has tflint || echo "tflint is not here: the rules of style were not checked"
has terraform-docs || echo "terraform-docs is not here: whether the READMEs are fresh was not checked"
