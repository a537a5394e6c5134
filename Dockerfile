# The same image as ci/build-image makes, for those who build with docker:
#   ci/build-static && docker build --build-arg PROGRAM=target/x86_64-unknown-linux-gnu/release/imgrelay .
FROM scratch AS root
ARG PROGRAM
COPY --chmod=755 ${PROGRAM} /usr/local/bin/imgrelay
# The executable does what the name it is called by says; ci/image holds the links, and /tmp.
COPY ci/image/ /
COPY --chmod=1777 ci/image/tmp/ /tmp/

FROM scratch
LABEL org.opencontainers.image.title="imgrelay" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/example/imgrelay"
COPY --from=root / /
