//! Examples at the end of the help of commands.

pub(super) const PUSH_EXAMPLES: &str = "\
Examples:
  Build a bundle without a registry; the name is recorded in the tar:
    imgrelay push -b registry.example/team/app:v1 -f config --to-oci-tar app.tar
  Push a folder as a plain image:
    imgrelay push -i registry.example/team/app:v1 -f dist
  Put a program on a base image, to be run:
    imgrelay push -i registry.example/team/srv:v1 --base registry.example/base:v1 \\
      -f out/srv:/usr/bin/srv --entrypoint /usr/bin/srv --user 65532
  Push a Cloud Foundry app for kpack:
    imgrelay push -s registry.example/apps/shop -f shop.zip";
pub(super) const MATCH_EXAMPLES: &str = "\
Examples:
  imgrelay match -s registry.example/apps/shop < request.json > response.json";
pub(super) const COPY_EXAMPLES: &str = "\
Examples:
  Push a tar; the tag recorded in it is kept:
    imgrelay copy --tar app.tar --to-repo registry.example/team/app
  Push one image of a tar that has several:
    imgrelay copy --tar all.tar --select team/app:v1 --to-repo registry.example/team/app:v1
  Take an image out of a registry:
    imgrelay copy -i registry.example/team/app:v1 --to-oci-tar app.tar
  Hand an image to a later job; only blobs that are not there are written:
    imgrelay copy --tar app.tar --to-store file:///shared/app:candidate";
pub(super) const STORE_LIST_EXAMPLES: &str = "\
Examples:
  imgrelay store list file:///shared/images/app
  imgrelay store list file:///shared/images/app:candidate";
pub(super) const STORE_GC_EXAMPLES: &str = "\
Examples:
  Every day: keep 20 versions of each tag and those of 30 days; blobs go a day after they were found unused:
    imgrelay store gc s3://ci-images/team/app --keep 20 --keep-for 30d
  See first what that would delete:
    imgrelay store gc s3://ci-images/team/app --keep 20 --keep-for 30d --dry-run";
pub(super) const INDEX_EXAMPLES: &str = "\
Examples:
  Join the tars of two jobs; the name recorded in them is kept:
    imgrelay index --tar amd64.tar --tar arm64.tar --to-oci-tar all.tar
  Push the images of all jobs as one, and fail when a job's tar is missing:
    imgrelay index --tar 'dist/*.tar' --to-repo registry.example/team/app:v1 \\
      --require-platform linux/amd64,linux/arm64";
pub(super) const PULL_EXAMPLES: &str = "\
Examples:
  imgrelay pull --tar app.tar -o out
  imgrelay pull -b registry.example/team/app:v1 -o out";
pub(super) const DESCRIBE_EXAMPLES: &str = "\
Examples:
  imgrelay describe --tar app.tar
  imgrelay describe -b registry.example/team/app:v1 -o yaml";
pub(super) const LS_EXAMPLES: &str = "\
Examples:
  imgrelay ls --tar app.tar /etc
  Show what makes an image large:
    imgrelay ls -i registry.example/team/app:v1 --largest 20

A line has type and permissions, owner, group, bytes, time (UTC), the layer that
brought the file (#1 is the lowest), and the path. Whiteouts are applied.";
pub(super) const DIFF_EXAMPLES: &str = "\
Examples:
  imgrelay diff old.tar new.tar
  Fail a job that makes the image more than 10 % larger:
    imgrelay diff -i registry.example/team/app:v1 --tar app.tar --max-growth 10%

The exit code is 3 if the images differ; with --max-growth only if one grew by
more than that. With -q nothing is printed, and no layer is read.";
pub(super) const CAT_EXAMPLES: &str = "\
Examples:
  imgrelay cat --tar app.tar /etc/os-release";
pub(super) const SIGN_EXAMPLES: &str = "\
Examples:
  Sign the image in a tar; COSIGN_PASSWORD holds the key's password:
    imgrelay sign --tar app.tar --key cosign.key
  Sign an image in a registry with a key from a variable:
    imgrelay sign -i registry.example/team/app@\"$DIGEST\" --key env://KEY";
pub(super) const SERVE_EXAMPLES: &str = "\
Examples:
  Run a command that reads an image from a registry; {registry} is the address:
    imgrelay serve --tar app.tar -- skopeo inspect --tls-verify=false \\
      docker://{registry}/app
  Serve two tars until SIGTERM:
    imgrelay serve --tar base.tar --tar app.tar --listen 127.0.0.1:5000
  Keep what a command pushes as a tar:
    imgrelay serve --collect out.tar --as ghcr.io/example -- \\
      skopeo copy --dest-tls-verify=false oci:app docker://{registry}/app:v1

The command also has the address in SERVED_REGISTRY. Its exit code is passed on.";
pub(super) const ATTACH_EXAMPLES: &str = "\
Examples:
  Attach an SBOM to the image in a tar:
    imgrelay attach --tar app.tar --type cyclonedx sbom.json
  The same as a signed attestation:
    imgrelay attach --tar app.tar --type cyclonedx --key cosign.key sbom.json";
pub(super) const VERIFY_EXAMPLES: &str = "\
Examples:
  imgrelay verify --tar app.tar
  imgrelay verify --tar app.tar --expected-digest \"$DIGEST\"
  imgrelay verify --tar app.tar --key cosign.pub

The exit code is 3 if a digest, size or diff_id differs.";
