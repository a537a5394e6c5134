# The same image as ci/build-image makes, built with docker:
#   ci/build-static && docker build --build-arg PROGRAM=target/x86_64-unknown-linux-gnu/release/imgrelay --build-arg VERSION=0.1.0 .
FROM scratch AS temporary
COPY ci/image/tmp/ /tmp/

FROM scratch AS root
ARG PROGRAM
# --chmod applies to the contents of a folder, not to the folder itself, hence the extra stage.
COPY --from=temporary --chmod=1777 / /
# The executable chooses the command by the name it is started with; ci/image has the links and /tmp.
COPY ci/image/opt/ /opt/
COPY --chmod=755 ${PROGRAM} /usr/local/bin/imgrelay

FROM scratch
ARG VERSION
LABEL org.opencontainers.image.title="imgrelay" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/example/imgrelay"
COPY --from=root / /
